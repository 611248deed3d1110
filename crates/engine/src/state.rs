use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ItemIndex, TaskIndex};

/// How one item of a task stands. Never moves back: terminal phases are final, and attempts only grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Attempt `attempt` failed; the next starts at `until`.
    BackingOff {
        attempt: u32,
        until: Timestamp,
    },
    Succeeded {
        attempt: u32,
    },
    Failed {
        attempt: u32,
    },
    Skipped {
        why: SkipReason,
    },
    Cancelled,
}

/// Why an attempt was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// It took longer than its timeout.
    Timeout,
    /// The run was cancelled.
    Cancelled,
    /// Another task failed, under `onFailure: Stop`.
    TaskFailed(TaskIndex),
}

/// Why an item did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkipReason {
    /// Its `when` gave false.
    Condition,
    /// That task failed.
    Failed(TaskIndex),
    /// That task was skipped, and its result is needed.
    Skipped(TaskIndex),
    /// Nothing failed, and it runs on failure only.
    NothingFailed,
    /// That task failed, under `onFailure: Stop`.
    Stopped(TaskIndex),
}

/// Why an item does not start yet; see `RunState::readiness`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    Waiting(WaitingOn),
    Skipped(SkipReason),
    /// Under way or over.
    Started,
}

/// What an item waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitingOn {
    /// These tasks have not ended; the first few.
    Tasks(Vec<TaskIndex>),
    /// Its `when` has not been evaluated.
    Condition,
    /// The lock on that resource.
    Lock(String),
    /// A place among those that may run at once.
    Capacity,
    /// The time of its next attempt.
    Backoff(Timestamp),
}

/// What was seen of the world since the last call. Repeats and old news are harmless, in any order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// An attempt was seen to run.
    Started { task: TaskIndex, item: ItemIndex, attempt: u32, at: Timestamp },
    /// An attempt ended, or a committed result of one was found.
    Ended { task: TaskIndex, item: ItemIndex, attempt: u32, outcome: Outcome },
    /// A task's `when` was evaluated; an error fails the task.
    ConditionEvaluated { task: TaskIndex, holds: Result<bool, String> },
    /// Someone asked for the run to stop.
    CancelRequested,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Its result is committed.
    Succeeded,
    /// Trying again cannot mend it: SQL that does not bind, a broken contract.
    Permanent,
    /// Trying again may mend it; costs the task's own retries.
    Transient,
    /// Not the task's fault: a lost process, an unreachable store. Costs a budget of its own.
    Infrastructure,
    /// A lock held by another run. Costs nothing; whoever reports it bounds it in time.
    Busy,
}

/// What is to be done. Every action may be carried out twice without harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Start this attempt, numbered from 1.
    Start { task: TaskIndex, item: ItemIndex, attempt: u32 },
    /// End this attempt, and report how it ended.
    Stop { task: TaskIndex, item: ItemIndex, attempt: u32, why: StopReason },
    /// Evaluate the task's `when` and report it.
    EvaluateCondition { task: TaskIndex },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunOutcome {
    /// No task failed.
    Succeeded,
    /// At least one task failed; the first by position.
    Failed(TaskIndex),
    Cancelled,
}
