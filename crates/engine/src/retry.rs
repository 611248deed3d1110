//! Whether and when an item is tried again.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Backoff, Outcome, RetryPolicy};

/// Infrastructure failures of one item that are forgiven. Five survive a node that drains, a store that restarts and
/// a few lost processes in one run; a sixth says that something is broken which waiting does not mend.
pub const INFRASTRUCTURE_RETRY_LIMIT: u32 = 5;

/// Waits of 1, 2, 4, 8 and 16 s: a lost process is replaced at once, and half a minute is what a store or a node needs
/// to come back. `max` is never reached and only guards a larger limit.
pub const INFRASTRUCTURE_BACKOFF: Backoff =
    Backoff { initial: Duration::from_secs(1), factor: 2, max: Duration::from_secs(60) };

/// How long an item waits that found a lock held by another run: first short beside a load, then long beside what an
/// attempt costs that finds it held still.
pub const BUSY_BACKOFF: Backoff = Backoff { initial: Duration::from_secs(1), factor: 2, max: Duration::from_secs(5) };

/// What one item has spent of its retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spent {
    pub transient: u32,
    pub infrastructure: u32,
    /// Attempts in a row that found a lock held.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub busy: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Spent {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// When the next attempt may start after one that ended so, and what has been spent then; `None` if there is none.
    pub fn retry(self, policy: RetryPolicy, outcome: Outcome, now: Timestamp) -> Option<(Timestamp, Self)> {
        let (wait, spent) = match outcome {
            Outcome::Busy => (BUSY_BACKOFF.wait(self.busy), Self { busy: self.busy.saturating_add(1), ..self }),
            Outcome::Transient if self.transient < policy.limit => {
                (policy.backoff.wait(self.transient), Self { transient: self.transient + 1, busy: 0, ..self })
            }
            Outcome::Infrastructure if self.infrastructure < INFRASTRUCTURE_RETRY_LIMIT => (
                INFRASTRUCTURE_BACKOFF.wait(self.infrastructure),
                Self { infrastructure: self.infrastructure + 1, busy: 0, ..self },
            ),
            Outcome::Transient | Outcome::Infrastructure | Outcome::Permanent | Outcome::Succeeded => return None,
        };
        Some((after(now, wait), spent))
    }
}

impl Backoff {
    /// How long to wait before the next attempt when `retries` have been spent: `initial * factor^retries`, at most `max`.
    #[must_use]
    pub fn wait(&self, retries: u32) -> Duration {
        let grown = self.factor.checked_pow(retries).and_then(|factor| self.initial.checked_mul(factor));
        grown.map_or(self.max, |wait| wait.min(self.max))
    }
}

/// `at` plus `wait`, or the end of time.
pub(crate) fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}
