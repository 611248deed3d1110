use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the engine needs to know of a workflow. Tasks are numbered by their position in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    pub tasks: Vec<TaskNode>,
    pub on_failure: OnFailure,
    /// How many attempts may be under way at once, at least 1.
    pub max_running: usize,
}

/// Position of a task in the manifest, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskIndex(pub u32);

/// One item of a task, from 0. A task without fan-out has one item, 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemIndex(pub u32);

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

/// Another task that must have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    pub task: TaskIndex,
    pub kind: NeedKind,
}

/// What is needed of another task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NeedKind {
    /// Its result: if it was skipped, so is this one.
    Result,
    /// Only that it has ended (`dependsOn`): it may have been skipped.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runs {
    /// When none of its needs failed.
    #[default]
    OnSuccess,
    /// When at least one of its needs failed; without needs, when any `OnSuccess` task of the workflow failed, after all of those ended.
    OnFailure,
    /// In both cases, after its needs have ended; without needs, after all `OnSuccess` tasks have.
    Always,
}

/// What happens to the other tasks when one has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    #[default]
    Finish,
    Stop,
}

/// How often and how long apart a task is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { limit: 0, backoff: Backoff::default() }
    }
}
