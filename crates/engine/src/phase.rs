//! How one item stands, and the one table of how it may move.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Refusal, TaskIndex};

/// How one item of a task stands. Never moves back: terminal phases are final, and attempts only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its needs, its condition, a lock or a free place are not there yet.
    Waiting,
    /// An attempt was ordered and has not been seen to run.
    Starting {
        attempt: u32,
    },
    /// An attempt runs.
    Running {
        attempt: u32,
        since: Timestamp,
    },
    /// An attempt was told to stop and has not been seen to end.
    Stopping {
        attempt: u32,
        why: StopReason,
    },
    /// Attempt `attempt` failed; the next may start from `until` on.
    BackingOff {
        attempt: u32,
        until: Timestamp,
    },
    Succeeded {
        attempt: u32,
    },
    /// `attempt` is 0 if there was none: the task's `when` could not be evaluated.
    Failed {
        attempt: u32,
    },
    Skipped {
        why: SkipReason,
    },
    /// It was told to stop, or it had not started, when the run was cancelled or another task failed.
    Cancelled,
}

impl Phase {
    /// Whether it stays as it is for good.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded { .. } | Self::Failed { .. } | Self::Skipped { .. } | Self::Cancelled)
    }

    /// The attempt that is under way: it takes a place and holds its locks.
    #[must_use]
    pub fn live_attempt(self) -> Option<u32> {
        match self {
            Self::Starting { attempt } | Self::Running { attempt, .. } | Self::Stopping { attempt, .. } => {
                Some(attempt)
            }
            _ => None,
        }
    }

    /// The number of the last attempt that was ordered, 0 if none.
    fn last_attempt(self) -> u32 {
        match self {
            Self::BackingOff { attempt, .. } | Self::Succeeded { attempt } | Self::Failed { attempt } => attempt,
            _ => self.live_attempt().unwrap_or(0),
        }
    }
}

/// Why an attempt was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// It took longer than its timeout.
    Timeout,
    /// Another task failed, under `onFailure: Stop`.
    TaskFailed(TaskIndex),
    /// The run was cancelled.
    Cancelled,
    /// The committed result of another attempt was found: this one can add nothing.
    Superseded,
}

impl StopReason {
    /// A later reason replaces an earlier one only if it has more to say about what follows.
    fn outranks(self, other: Self) -> bool {
        let rank = |reason| match reason {
            Self::Superseded => 0,
            Self::Timeout => 1,
            Self::TaskFailed(_) => 2,
            Self::Cancelled => 3,
        };
        rank(self) > rank(other)
    }
}

/// Why an item did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkipReason {
    /// Its `when` gave false.
    Condition,
    /// That task failed: one it needs, or the one for which a task it needs was skipped.
    Failed(TaskIndex),
    /// That task was skipped, and its result is needed.
    Skipped(TaskIndex),
    /// Nothing failed, and it runs on failure only.
    NothingFailed,
    /// That task failed, under `onFailure: Stop`.
    Stopped(TaskIndex),
}

/// What may happen to one item: seen of the world, or decided here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is its turn.
    Start,
    Started {
        attempt: u32,
        at: Timestamp,
    },
    Succeeded {
        attempt: u32,
    },
    /// An attempt ended without success; `retry_at` is when the next may start, if there may be one.
    Failed {
        attempt: u32,
        retry_at: Option<Timestamp>,
    },
    ConditionFailed,
    Skip(SkipReason),
    Stop(StopReason),
}

/// The transition table. Whatever is not in it is refused, as old news or as illegal.
pub(crate) fn transition(phase: Phase, change: Change) -> Result<Phase, Refusal> {
    use Phase::{BackingOff, Cancelled, Failed, Running, Skipped, Starting, Stopping, Succeeded, Waiting};
    match (phase, change) {
        (Waiting, Change::Start) => Ok(Starting { attempt: 1 }),
        (BackingOff { attempt, .. }, Change::Start) => Ok(Starting { attempt: attempt.saturating_add(1) }),
        (Starting { attempt }, Change::Started { attempt: seen, at }) if seen == attempt => {
            Ok(Running { attempt, since: at })
        }

        // A committed result is the truth, whichever attempt made it and whatever was known of it.
        (phase, Change::Succeeded { attempt }) if !phase.is_terminal() => Ok(Succeeded { attempt }),

        (
            Starting { attempt } | Running { attempt, .. } | Stopping { attempt, why: StopReason::Timeout },
            Change::Failed { attempt: seen, retry_at },
        ) if seen == attempt => Ok(match retry_at {
            Some(until) => BackingOff { attempt, until },
            None => Failed { attempt },
        }),
        (Stopping { attempt, .. }, Change::Failed { attempt: seen, .. }) if seen == attempt => Ok(Cancelled),
        (Waiting, Change::ConditionFailed) => Ok(Failed { attempt: 0 }),

        (Waiting, Change::Skip(why)) => Ok(Skipped { why }),
        (Waiting, Change::Stop(StopReason::TaskFailed(task))) => Ok(Skipped { why: SkipReason::Stopped(task) }),
        (Waiting, Change::Stop(StopReason::Cancelled))
        | (BackingOff { .. }, Change::Stop(StopReason::TaskFailed(_) | StopReason::Cancelled)) => Ok(Cancelled),
        (Running { attempt, .. }, Change::Stop(why @ StopReason::Timeout))
        | (
            Starting { attempt } | Running { attempt, .. },
            Change::Stop(why @ (StopReason::TaskFailed(_) | StopReason::Cancelled)),
        ) => Ok(Stopping { attempt, why }),
        (Stopping { attempt, why }, Change::Stop(stronger)) if stronger.outranks(why) => {
            Ok(Stopping { attempt, why: stronger })
        }

        (phase, change) if is_old_news(phase, change) => Err(Refusal::Repeat),
        _ => Err(Refusal::Illegal),
    }
}

/// Whether the phase already accounts for this change.
fn is_old_news(phase: Phase, change: Change) -> bool {
    match change {
        Change::Started { attempt, .. } | Change::Succeeded { attempt } | Change::Failed { attempt, .. } => {
            phase.is_terminal() || attempt <= phase.last_attempt()
        }
        Change::Stop(_) => phase.is_terminal() || matches!(phase, Phase::Stopping { .. }),
        Change::Start | Change::Skip(_) | Change::ConditionFailed => false,
    }
}
