use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the engine needs to know of a workflow. Tasks are numbered by their position in the manifest.
///
/// Whoever builds it sees to it that needs name tasks that exist and form no cycle: a task whose needs cannot end
/// never starts, and its run never ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    pub tasks: Vec<TaskNode>,
    pub on_failure: OnFailure,
    /// How many attempts may be under way at once, at least 1.
    pub max_running: usize,
    /// Someone holds the run: what is under way goes on to its end, nothing else starts.
    #[serde(default)]
    pub held: bool,
}

impl Graph {
    /// How many attempts may be under way at once; without a place nothing would ever end.
    pub(crate) fn places(&self) -> usize {
        self.max_running.max(1)
    }
}

/// Position of a task in the manifest, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskIndex(pub u32);

impl TaskIndex {
    pub(crate) fn position(self) -> usize {
        self.0 as usize
    }
}

/// One item of a task, from 0. A task without fan-out has one item, 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemIndex(pub u32);

impl ItemIndex {
    pub(crate) fn position(self) -> usize {
        self.0 as usize
    }
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskNode {
    pub name: String,
    pub needs: Vec<Need>,
    pub runs: Runs,
    /// Whether a `when` must be evaluated once the needs are met.
    pub has_condition: bool,
    /// What no two attempts may hold at once.
    pub locks: Vec<Lock>,
    pub retries: RetryPolicy,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
}

impl TaskNode {
    /// Whether it waits for the workflow's main tasks: it does not run on success only, and names no needs.
    pub(crate) fn is_closing(&self) -> bool {
        self.runs != Runs::OnSuccess && self.needs.is_empty()
    }
}

/// Another task that must have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    pub task: TaskIndex,
    pub kind: NeedKind,
}

/// What is needed of another task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NeedKind {
    /// Its result: if it was skipped, so is this one, whatever its `runs`.
    Result,
    /// Only that it has ended (`dependsOn`): it may have been skipped, but not because of a failure.
    Order,
}

/// Something that attempts of one run share, such as a DuckDB file: either one holder, or many shared ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// What is locked; equal text is the same thing.
    pub resource: String,
    pub mode: LockMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockMode {
    Shared,
    Exclusive,
}

/// When a task runs, given how those before it ended.
///
/// Failures are handed down: a task that was skipped because one before it failed, or that was told to stop halfway
/// because another one failed, counts as failed for those that need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runs {
    /// When none of its needs failed.
    #[default]
    OnSuccess,
    /// When at least one of its needs failed; without needs, when any `OnSuccess` task of the workflow failed, after all
    /// of those ended (but for those that come after such a task themselves).
    OnFailure,
    /// In both cases, after its needs have ended; without needs, after all those `OnSuccess` tasks have.
    Always,
}

/// What happens to the other tasks when one has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    /// They run as far as they can.
    #[default]
    Finish,
    /// `OnSuccess` tasks that are under way are told to stop, those that have not started are skipped. The others
    /// run as ever.
    Stop,
}

/// How often and how long apart a task is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts that may follow a failure of class `Transient`.
    pub limit: u32,
    pub backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    pub initial: Duration,
    pub factor: u32,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_secs(5), factor: 2, max: Duration::from_secs(300) }
    }
}
