//! What is to become of attempts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pintail_protocol::{FailureClass, Identity};

/// What becomes of one process of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    #[default]
    Success,
    /// The work fails, and says how.
    Failure(FailureClass),
    /// The node wants its memory back.
    Evicted,
    /// The container is killed for using too much memory.
    OutOfMemory,
    /// The image cannot be pulled for so long.
    ImageMissing(Duration),
    /// No node takes the pod for so long.
    Unschedulable(Duration),
    /// Someone deletes the pod in mid-work.
    Deleted,
    /// The node is lost in mid-work: the pod is removed, the process dies.
    Lost,
    /// The node is lost just after the commit: only the store knows.
    LostAfterCommit,
    /// Someone deletes the pod, once it has succeeded.
    RemovedAfterSuccess,
    /// The work never ends by itself.
    Endless,
}

/// The fates of a simulation.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub seed: u64,
    /// By task and number of the process of that task, from 0; the others succeed.
    pub fates: BTreeMap<(String, usize), Fate>,
    /// By task: the columns of its row of values.
    pub values: BTreeMap<String, BTreeSet<String>>,
    /// How long an attempt works, from and to.
    pub work: (Duration, Duration),
}

impl Script {
    pub fn new(seed: u64) -> Self {
        Self { seed, work: (Duration::from_millis(50), Duration::from_secs(8)), ..Self::default() }
    }

    pub fn fate(&self, identity: &Identity, process: usize) -> Fate {
        self.fates.get(&(identity.task.clone(), process)).copied().unwrap_or_default()
    }
}
