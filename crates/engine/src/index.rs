//! What is derived from the recorded state, so that a pass looks at what changed and at nothing else.
//!
//! All of it changes in one place, [`Index::moved`]; a restored run replays there how its items came to be as they are.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::queue::{Key, Queue};
use crate::retry::after;
use crate::state::RecordedState;
use crate::{Counts, Graph, Phase, Runs, TaskIndex};

#[derive(Clone, Debug)]
pub(crate) struct Index {
    tasks: Vec<TaskEntry>,
    /// Items that lack nothing but a lock or a free place.
    pub queue: Queue,
    /// When a running item times out, and when one that backs off may start again.
    timers: BTreeSet<(Timestamp, Key)>,
    /// Attempts under way.
    running: usize,
    /// Tasks about which something is to be decided: their needs have ended, or their `when` is known.
    pub unsettled: BTreeSet<TaskIndex>,
    /// Items for whose attempt there may be something to do.
    pub touched: BTreeSet<Key>,
    tasks_left: usize,
    main: Main,
    /// The first by position.
    first_failed: Option<TaskIndex>,
}

#[derive(Clone, Debug, Default)]
struct TaskEntry {
    dependants: Vec<TaskIndex>,
    /// Needs that have not ended; for a closing task one, the main tasks.
    needs_left: usize,
    counts: Counts,
    is_main: bool,
    /// Once it has ended, the failure that it hands down.
    failure: Option<TaskIndex>,
}

/// The `OnSuccess` tasks, but for those that come after a closing task.
#[derive(Clone, Debug, Default)]
struct Main {
    left: usize,
    has_failure: bool,
    /// Closing tasks, which run once the main ones have ended: those of another kind without needs.
    closing: Vec<TaskIndex>,
}

impl Index {
    pub fn new(graph: &Graph, recorded: &RecordedState) -> Self {
        let mut index = Self {
            tasks: vec![TaskEntry::default(); graph.tasks.len()],
            queue: Queue::new(graph),
            timers: BTreeSet::new(),
            running: 0,
            unsettled: BTreeSet::new(),
            touched: BTreeSet::new(),
            tasks_left: graph.tasks.len(),
            main: Main::default(),
            first_failed: None,
        };
        index.link(graph);
        index.find_main(graph);
        index.replay(graph, recorded);
        index
    }

    fn link(&mut self, graph: &Graph) {
        for (task, node) in numbered(graph) {
            let is_closing = node.is_closing();
            if is_closing {
                self.main.closing.push(task);
            }
            if let Some(entry) = self.entry_mut(task) {
                entry.needs_left = if is_closing { 1 } else { node.needs.len() };
            }
            for need in &node.needs {
                if let Some(needed) = self.entry_mut(need.task) {
                    needed.dependants.push(task);
                }
            }
        }
    }

    fn find_main(&mut self, graph: &Graph) {
        let mut after_closing: BTreeSet<TaskIndex> = BTreeSet::new();
        let mut to_visit = self.main.closing.clone();
        while let Some(task) = to_visit.pop() {
            if after_closing.insert(task) {
                to_visit.extend(self.tasks.get(task.position()).into_iter().flat_map(|entry| &entry.dependants));
            }
        }
        for (task, node) in numbered(graph) {
            if node.runs == Runs::OnSuccess && !after_closing.contains(&task) {
                self.main.left += 1;
                if let Some(entry) = self.entry_mut(task) {
                    entry.is_main = true;
                }
            }
        }
    }

    fn replay(&mut self, graph: &Graph, recorded: &RecordedState) {
        if self.main.left == 0 {
            self.main_ended();
        }
        for (task, _) in numbered(graph) {
            let items = recorded.task(task).map_or(&[][..], |task| &task.items);
            if let Some(entry) = self.entry_mut(task) {
                *entry.counts.of(Phase::Waiting) = u32::try_from(items.len()).unwrap_or(u32::MAX);
                if entry.needs_left == 0 {
                    self.unsettled.insert(task);
                }
            }
        }
        for (task, _) in numbered(graph) {
            let items = recorded.task(task).map_or(&[][..], |task| &task.items);
            for (item, state) in (0..).map(crate::ItemIndex).zip(items) {
                if state.phase != Phase::Waiting {
                    self.moved(graph, recorded, Key { task, item }, Phase::Waiting, state.phase);
                }
            }
        }
    }

    /// Takes in that an item moved; `recorded` has its new phase already.
    pub fn moved(&mut self, graph: &Graph, recorded: &RecordedState, key: Key, from: Phase, to: Phase) {
        let timeout = graph.tasks.get(key.task.position()).and_then(|node| node.timeout);
        let timer = |phase| match phase {
            Phase::Running { since, .. } => timeout.map(|timeout| (after(since, timeout), key)),
            Phase::BackingOff { until, .. } => Some((until, key)),
            _ => None,
        };
        timer(from).map(|timer| self.timers.remove(&timer));
        timer(to).map(|timer| self.timers.insert(timer));

        match (from.live_attempt(), to.live_attempt()) {
            (None, Some(_)) => {
                self.running += 1;
                self.queue.hold(key);
            }
            (Some(_), None) => {
                self.running = self.running.saturating_sub(1);
                self.queue.release(key);
            }
            _ => {}
        }
        if matches!(from, Phase::Waiting | Phase::BackingOff { .. }) {
            self.queue.leave(key);
        }
        match to {
            Phase::Starting { .. } | Phase::Stopping { .. } => drop(self.touched.insert(key)),
            Phase::Failed { .. } => {
                self.first_failed = Some(self.first_failed.map_or(key.task, |first| first.min(key.task)));
            }
            _ => {}
        }

        let Some(entry) = self.entry_mut(key.task) else { return };
        let left = entry.counts.of(from);
        *left = left.saturating_sub(1);
        *entry.counts.of(to) += 1;
        if entry.counts.all_ended() {
            self.task_ended(recorded, key.task);
        }
    }

    fn task_ended(&mut self, recorded: &RecordedState, task: TaskIndex) {
        self.tasks_left = self.tasks_left.saturating_sub(1);
        let Some(entry) = self.entry_mut(task) else { return };
        entry.failure = recorded.failure_of(task);
        let (is_main, has_failure) = (entry.is_main, entry.failure.is_some());
        // Nobody asks for the dependants of an ended task again.
        for dependant in std::mem::take(&mut entry.dependants) {
            self.need_ended(dependant);
        }
        if is_main {
            self.main.left = self.main.left.saturating_sub(1);
            self.main.has_failure |= has_failure;
            if self.main.left == 0 {
                self.main_ended();
            }
        }
    }

    fn main_ended(&mut self) {
        for closing in std::mem::take(&mut self.main.closing) {
            self.need_ended(closing);
        }
    }

    fn need_ended(&mut self, task: TaskIndex) {
        let Some(entry) = self.entry_mut(task) else { return };
        entry.needs_left = entry.needs_left.saturating_sub(1);
        if entry.needs_left == 0 {
            self.unsettled.insert(task);
        }
    }

    /// The next item whose timer is due, once.
    pub fn pop_timer(&mut self, now: Timestamp) -> Option<Key> {
        let timer = self.timers.first().copied().filter(|(at, _)| *at <= now)?;
        self.timers.remove(&timer);
        Some(timer.1)
    }

    pub fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub fn running(&self) -> usize {
        self.running
    }

    pub fn all_ended(&self) -> bool {
        self.tasks_left == 0
    }

    pub fn main_has_failure(&self) -> bool {
        self.main.has_failure
    }

    pub fn main_tasks(&self) -> impl Iterator<Item = TaskIndex> {
        (0..).map(TaskIndex).zip(&self.tasks).filter(|(_, entry)| entry.is_main).map(|(task, _)| task)
    }

    pub fn first_failed(&self) -> Option<TaskIndex> {
        self.first_failed
    }

    pub fn counts(&self, task: TaskIndex) -> Option<Counts> {
        self.tasks.get(task.position()).map(|entry| entry.counts)
    }

    /// The failure that a task which has ended hands down: its own, or the one for which it was skipped.
    pub fn failure_of(&self, task: TaskIndex) -> Option<TaskIndex> {
        self.tasks.get(task.position())?.failure
    }

    /// Whether every item of a task has ended.
    pub fn has_ended(&self, task: TaskIndex) -> bool {
        self.counts(task).is_some_and(|counts| counts.all_ended())
    }

    /// Whether all that a task needs has ended.
    pub fn needs_ended(&self, task: TaskIndex) -> bool {
        self.tasks.get(task.position()).is_some_and(|entry| entry.needs_left == 0)
    }

    fn entry_mut(&mut self, task: TaskIndex) -> Option<&mut TaskEntry> {
        self.tasks.get_mut(task.position())
    }
}

fn numbered(graph: &Graph) -> impl Iterator<Item = (TaskIndex, &crate::TaskNode)> {
    (0..).map(TaskIndex).zip(&graph.tasks)
}
