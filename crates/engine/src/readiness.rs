//! Why an item does not start yet.

use jiff::Timestamp;

use crate::queue::Key;
use crate::{Graph, ItemIndex, Phase, RunState, SkipReason, TaskIndex};

/// Why an item does not start yet; see [`RunState::readiness`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    Waiting(WaitingOn),
    Skipped(SkipReason),
    /// Under way or over.
    Started,
    /// There is no such item.
    Unknown,
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
    /// Whoever holds the run to let it go on.
    Release,
    /// A place among those that may run at once.
    Capacity,
    /// The time of its next attempt.
    Backoff(Timestamp),
}

/// Tasks that an explanation names: more do not fit a line on a terminal.
const TASKS_NAMED: usize = 5;

impl RunState {
    /// Why an item does not start yet, as of the last pass.
    #[must_use]
    pub fn readiness(&self, graph: &Graph, task: TaskIndex, item: ItemIndex) -> Readiness {
        let key = Key { task, item };
        match self.phase(task, item) {
            None => Readiness::Unknown,
            Some(Phase::Skipped { why }) => Readiness::Skipped(why),
            Some(Phase::BackingOff { until, .. }) if !self.index.queue.contains(key) => {
                Readiness::Waiting(WaitingOn::Backoff(until))
            }
            Some(Phase::BackingOff { .. }) => self.in_line(graph, key),
            Some(Phase::Waiting) if !self.index.needs_ended(task) => {
                Readiness::Waiting(WaitingOn::Tasks(self.unended_needs(graph, task)))
            }
            Some(Phase::Waiting) if self.lacks_condition(graph, task) => Readiness::Waiting(WaitingOn::Condition),
            Some(Phase::Waiting) => self.in_line(graph, key),
            Some(_) => Readiness::Started,
        }
    }

    fn in_line(&self, graph: &Graph, key: Key) -> Readiness {
        if let Some(resource) = self.index.queue.waits_for(key) {
            return Readiness::Waiting(WaitingOn::Lock(resource.to_owned()));
        }
        if graph.held {
            return Readiness::Waiting(WaitingOn::Release);
        }
        if self.index.running() >= graph.places() {
            return Readiness::Waiting(WaitingOn::Capacity);
        }
        Readiness::Ready
    }

    fn lacks_condition(&self, graph: &Graph, task: TaskIndex) -> bool {
        graph.tasks.get(task.position()).is_some_and(|node| node.has_condition)
            && self.recorded.task(task).is_some_and(|task| task.condition.is_none())
    }

    fn unended_needs(&self, graph: &Graph, task: TaskIndex) -> Vec<TaskIndex> {
        let Some(node) = graph.tasks.get(task.position()) else { return Vec::new() };
        let unended = |task: &TaskIndex| !self.index.has_ended(*task);
        if node.is_closing() {
            return self.index.main_tasks().filter(unended).take(TASKS_NAMED).collect();
        }
        node.needs.iter().map(|need| need.task).filter(unended).take(TASKS_NAMED).collect()
    }
}
