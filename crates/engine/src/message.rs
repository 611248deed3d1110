//! What goes into a pass of the scheduler, and what comes out.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ItemIndex, RunState, StopReason, TaskIndex};

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

/// What is to be done. Every action may be carried out twice without harm, and is asked for again after a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Start this attempt, numbered from 1, and report it as started and as ended, also if it was there already.
    Start { task: TaskIndex, item: ItemIndex, attempt: u32 },
    /// End this attempt, and report how it ended, also if it is not there.
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

/// What one pass of the scheduler decided.
#[derive(Clone, Debug)]
pub struct Decision {
    pub state: RunState,
    /// What is to be done now, in a fixed order.
    pub actions: Vec<Action>,
    /// When to call again at the latest, if no event comes before.
    pub wake: Option<Timestamp>,
    /// How the run ended, once it has.
    pub outcome: Option<RunOutcome>,
    /// The events that changed nothing.
    pub ignored: Vec<Ignored>,
}

/// An event that changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Its position among the events of this pass, from 0.
    pub position: usize,
    pub why: Refusal,
}

/// Why an event changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The state accounts for it already. Normal: the world is read again and again.
    Repeat,
    /// It cannot follow what is known. Harmless, but worth a line in a log.
    Illegal,
    /// The graph has no such task, item or attempt.
    Unknown,
}
