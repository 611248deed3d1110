//! Everything that a run is: a recorded part, and indexes that are derived from it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::index::Index;
use crate::phase::{Change, transition};
use crate::queue::Key;
use crate::retry::Spent;
use crate::{Graph, ItemIndex, Phase, Refusal, RunOutcome, SkipReason, TaskIndex};

/// Items of one task: what the compact state of one run can hold in 256 KiB.
pub const ITEM_LIMIT: usize = 20_000;

/// What must be kept to go on with a run later, elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedState {
    pub(crate) tasks: Vec<TaskState>,
    /// The first task that failed, in time.
    pub(crate) first_failure: Option<TaskIndex>,
    pub(crate) cancelled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskState {
    /// What its `when` gave; `None` if there is none, or not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<bool>,
    /// Written as runs of equal items, so that 20,000 that have ended well take no more room than one.
    #[serde(serialize_with = "write_runs", deserialize_with = "read_runs")]
    pub items: Vec<ItemState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ItemState {
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "Spent::is_nothing")]
    pub spent: Spent,
}

impl RecordedState {
    /// A run that has not started, with this many items per task.
    pub(crate) fn unstarted(items: impl Iterator<Item = usize>) -> Self {
        let waiting = ItemState { phase: Phase::Waiting, spent: Spent::default() };
        let tasks = items.map(|count| TaskState { condition: None, items: vec![waiting; count] }).collect();
        Self { tasks, first_failure: None, cancelled: false }
    }

    pub(crate) fn task(&self, task: TaskIndex) -> Option<&TaskState> {
        self.tasks.get(task.position())
    }

    pub(crate) fn item(&self, key: Key) -> Option<&ItemState> {
        self.task(key.task)?.items.get(key.item.position())
    }

    fn item_mut(&mut self, key: Key) -> Option<&mut ItemState> {
        self.tasks.get_mut(key.task.position())?.items.get_mut(key.item.position())
    }

    /// The failure of a task that has ended: its own, or the one for which it was skipped.
    pub(crate) fn failure_of(&self, task: TaskIndex) -> Option<TaskIndex> {
        self.task(task)?.items.iter().find_map(|item| match item.phase {
            Phase::Failed { .. } | Phase::Cancelled => Some(task),
            Phase::Skipped { why: SkipReason::Failed(root) | SkipReason::Stopped(root) } => Some(root),
            _ => None,
        })
    }
}

/// A run in memory. [`RunState::recorded`] is what to store of it; the rest is derived from that and the graph.
#[derive(Clone, Debug)]
pub struct RunState {
    pub(crate) recorded: RecordedState,
    pub(crate) index: Index,
}

/// A recorded state that is not one of this graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("the recorded state has {recorded} tasks, but the workflow has {expected}: it belongs to another workflow")]
    Tasks { recorded: usize, expected: usize },
    #[error("the recorded state has no items for task {task:?}: it is damaged")]
    NoItems { task: String },
}

impl RunState {
    /// A run that has not started: one item for each task.
    #[must_use]
    pub fn new(graph: &Graph) -> Self {
        Self::derive(graph, RecordedState::unstarted(graph.tasks.iter().map(|_| 1)))
    }

    /// A run as it was recorded. The next pass asks again for all that is starting, stopping or to be evaluated; of
    /// what is running the driver looks first how it ended, since that pass also notices what took too long.
    ///
    /// # Errors
    /// Where `recorded` has not the shape of `graph`.
    pub fn restore(graph: &Graph, recorded: RecordedState) -> Result<Self, RestoreError> {
        let (expected, found) = (graph.tasks.len(), recorded.tasks.len());
        if expected != found {
            return Err(RestoreError::Tasks { recorded: found, expected });
        }
        let mut tasks = graph.tasks.iter().zip(&recorded.tasks);
        if let Some((node, _)) = tasks.find(|(_, task)| task.items.is_empty()) {
            return Err(RestoreError::NoItems { task: node.name.clone() });
        }
        Ok(Self::derive(graph, recorded))
    }

    fn derive(graph: &Graph, recorded: RecordedState) -> Self {
        let index = Index::new(graph, &recorded);
        Self { recorded, index }
    }

    /// What to store of this run.
    #[must_use]
    pub fn recorded(&self) -> &RecordedState {
        &self.recorded
    }

    /// How an item stands; `None` if there is no such item.
    #[must_use]
    pub fn phase(&self, task: TaskIndex, item: ItemIndex) -> Option<Phase> {
        self.recorded.item(Key { task, item }).map(|item| item.phase)
    }

    /// How a task stands as a whole; `None` if there is no such task.
    #[must_use]
    pub fn task(&self, task: TaskIndex) -> Option<TaskSummary> {
        let counts = self.index.counts(task)?;
        let phase = match self.recorded.task(task)?.items.as_slice() {
            [only] => Some(only.phase),
            _ => None,
        };
        Some(TaskSummary { task, counts, phase })
    }

    /// How each task stands, in the order of the manifest.
    pub fn tasks(&self) -> impl Iterator<Item = TaskSummary> {
        (0..).map(TaskIndex).map_while(|task| self.task(task))
    }

    /// The first task that failed, in time; the outcome names the first by position.
    #[must_use]
    pub fn first_failure(&self) -> Option<TaskIndex> {
        self.recorded.first_failure
    }

    /// Whether the run was cancelled before it ended.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.recorded.cancelled
    }

    /// How the run ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<RunOutcome> {
        if !self.index.all_ended() {
            return None;
        }
        Some(match self.index.first_failed() {
            _ if self.recorded.cancelled => RunOutcome::Cancelled,
            Some(task) => RunOutcome::Failed(task),
            None => RunOutcome::Succeeded,
        })
    }

    /// Moves one item by the transition table and brings the indexes up to date. Gives what it was and is.
    pub(crate) fn apply(&mut self, graph: &Graph, key: Key, change: Change) -> Result<(Phase, Phase), Refusal> {
        let item = self.recorded.item_mut(key).ok_or(Refusal::Unknown)?;
        let from = item.phase;
        let to = transition(from, change)?;
        item.phase = to;
        self.index.moved(graph, &self.recorded, key, from, to);
        Ok((from, to))
    }

    pub(crate) fn set_spent(&mut self, key: Key, spent: Spent) {
        if let Some(item) = self.recorded.item_mut(key) {
            item.spent = spent;
        }
    }

    pub(crate) fn set_condition(&mut self, task: TaskIndex, holds: bool) {
        if let Some(task) = self.recorded.tasks.get_mut(task.position()) {
            task.condition = Some(holds);
        }
    }

    /// All items of a task, in order.
    pub(crate) fn keys(&self, task: TaskIndex) -> impl Iterator<Item = Key> + use<> {
        let count = self.recorded.task(task).map_or(0, |task| task.items.len());
        (0..).take(count).map(move |item| Key { task, item: ItemIndex(item) })
    }
}

/// How a task stands as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSummary {
    pub task: TaskIndex,
    pub counts: Counts,
    /// The phase of its item, if it has just one.
    pub phase: Option<Phase>,
}

/// How many items of a task are in which phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub waiting: u32,
    /// Starting, running or stopping.
    pub running: u32,
    pub backing_off: u32,
    pub succeeded: u32,
    pub failed: u32,
    pub skipped: u32,
    pub cancelled: u32,
}

impl Counts {
    /// Whether every item has ended.
    #[must_use]
    pub fn all_ended(&self) -> bool {
        self.waiting == 0 && self.running == 0 && self.backing_off == 0
    }

    pub(crate) fn of(&mut self, phase: Phase) -> &mut u32 {
        match phase {
            Phase::Waiting => &mut self.waiting,
            Phase::Starting { .. } | Phase::Running { .. } | Phase::Stopping { .. } => &mut self.running,
            Phase::BackingOff { .. } => &mut self.backing_off,
            Phase::Succeeded { .. } => &mut self.succeeded,
            Phase::Failed { .. } => &mut self.failed,
            Phase::Skipped { .. } => &mut self.skipped,
            Phase::Cancelled => &mut self.cancelled,
        }
    }
}

fn write_runs<S: Serializer>(items: &[ItemState], serializer: S) -> Result<S::Ok, S::Error> {
    let runs = items.chunk_by(|left, right| left == right);
    serializer.collect_seq(runs.filter_map(|run| Some((run.len(), run.first()?))))
}

fn read_runs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ItemState>, D::Error> {
    let mut items = Vec::new();
    for (count, item) in Vec::<(usize, ItemState)>::deserialize(deserializer)? {
        if count > ITEM_LIMIT - items.len() {
            return Err(serde::de::Error::custom(format!("a task has more than {ITEM_LIMIT} items")));
        }
        items.resize(items.len() + count, item);
    }
    Ok(items)
}
