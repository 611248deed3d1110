//! One pass of the scheduler.

use jiff::Timestamp;

use crate::phase::Change;
use crate::queue::Key;
use crate::{
    Action, Decision, Event, Graph, Ignored, NeedKind, OnFailure, Outcome, Phase, Refusal, RunState, Runs, SkipReason,
    StopReason, TaskIndex, TaskNode,
};

/// Takes in what was seen and decides what is to be done now.
///
/// Total and deterministic: the same arguments give the same decision, and no event can make it fail. The state is
/// taken and given back, so that a pass costs what has changed and not what there is.
#[must_use]
pub fn advance(graph: &Graph, state: RunState, events: &[Event], now: Timestamp) -> Decision {
    let mut pass = Pass { graph, state, now, actions: Vec::new() };
    let mut ignored = Vec::new();
    for (position, event) in events.iter().enumerate() {
        if let Err(why) = pass.observe(event) {
            ignored.push(Ignored { position, why });
        }
    }
    pass.ring_timers();
    pass.settle_tasks();
    pass.start_items();
    pass.order_attempts();

    let Pass { state, actions, .. } = pass;
    Decision { wake: state.index.next_timer(), outcome: state.outcome(), state, actions, ignored }
}

struct Pass<'a> {
    graph: &'a Graph,
    state: RunState,
    now: Timestamp,
    actions: Vec<Action>,
}

impl Pass<'_> {
    fn observe(&mut self, event: &Event) -> Result<(), Refusal> {
        match *event {
            Event::Started { attempt: 0, .. } | Event::Ended { attempt: 0, .. } => Err(Refusal::Unknown),
            Event::Started { task, item, attempt, at } => {
                self.apply(Key { task, item }, Change::Started { attempt, at }).map(drop)
            }
            Event::Ended { task, item, attempt, outcome: Outcome::Succeeded } => {
                self.succeeded(Key { task, item }, attempt)
            }
            Event::Ended { task, item, attempt, outcome } => self.failed(Key { task, item }, attempt, outcome),
            Event::ConditionEvaluated { task, ref holds } => self.condition_evaluated(task, holds),
            Event::CancelRequested => self.cancel(),
        }
    }

    fn succeeded(&mut self, key: Key, attempt: u32) -> Result<(), Refusal> {
        let (before, _) = self.apply(key, Change::Succeeded { attempt })?;
        // Asked for once and not again after a restore: the other attempt finds the result by itself in the end.
        if let Some(other) = before.live_attempt().filter(|other| *other != attempt) {
            let Key { task, item } = key;
            self.actions.push(Action::Stop { task, item, attempt: other, why: StopReason::Superseded });
        }
        Ok(())
    }

    fn failed(&mut self, key: Key, attempt: u32, outcome: Outcome) -> Result<(), Refusal> {
        let item = self.state.recorded.item(key).ok_or(Refusal::Unknown)?;
        let outcome = match item.phase {
            // However it went down, it took too long.
            Phase::Stopping { why: StopReason::Timeout, .. } => Outcome::Transient,
            _ => outcome,
        };
        let node = self.node(key.task).ok_or(Refusal::Unknown)?;
        let retry = item.spent.retry(node.retries, outcome, self.now);
        let retry_at = retry.map(|(at, _)| at);
        let (_, after) = self.apply(key, Change::Failed { attempt, retry_at })?;
        if let (Phase::BackingOff { .. }, Some((_, spent))) = (after, retry) {
            self.state.set_spent(key, spent);
        }
        Ok(())
    }

    fn condition_evaluated(&mut self, task: TaskIndex, holds: &Result<bool, String>) -> Result<(), Refusal> {
        let node = self.node(task).ok_or(Refusal::Unknown)?;
        let known = self.state.recorded.task(task).and_then(|task| task.condition);
        if known.is_some() || self.state.index.has_ended(task) {
            return Err(Refusal::Repeat);
        }
        if !node.has_condition || !self.state.index.needs_ended(task) {
            return Err(Refusal::Illegal);
        }
        match holds {
            Ok(holds) => {
                self.state.set_condition(task, *holds);
                self.state.index.unsettled.insert(task);
            }
            Err(_) => self.apply_to_task(task, Change::ConditionFailed),
        }
        Ok(())
    }

    fn cancel(&mut self) -> Result<(), Refusal> {
        if self.state.recorded.cancelled || self.state.index.all_ended() {
            return Err(Refusal::Repeat);
        }
        self.state.recorded.cancelled = true;
        self.stop_tasks(StopReason::Cancelled, |_| true);
        Ok(())
    }

    fn stop_tasks(&mut self, why: StopReason, which: impl Fn(&TaskNode) -> bool) {
        let graph = self.graph;
        for (task, _) in (0..).map(TaskIndex).zip(&graph.tasks).filter(|(_, node)| which(node)) {
            self.apply_to_task(task, Change::Stop(why));
        }
    }

    fn ring_timers(&mut self) {
        while let Some(key) = self.state.index.pop_timer(self.now) {
            match self.state.phase(key.task, key.item) {
                Some(Phase::BackingOff { .. }) => self.state.index.queue.join(key),
                _ => drop(self.apply(key, Change::Stop(StopReason::Timeout))),
            }
        }
    }

    fn settle_tasks(&mut self) {
        while let Some(task) = self.state.index.unsettled.pop_first() {
            if !self.state.index.has_ended(task) {
                self.settle(task);
            }
        }
    }

    /// Decides about a task whose needs have ended: it is skipped, asks for its `when`, or gets in line.
    fn settle(&mut self, task: TaskIndex) {
        let Some(node) = self.node(task) else { return };
        let condition = self.state.recorded.task(task).and_then(|task| task.condition);
        if let Some(why) = self.skip_reason(node) {
            self.apply_to_task(task, Change::Skip(why));
        } else if condition == Some(false) {
            self.apply_to_task(task, Change::Skip(SkipReason::Condition));
        } else if node.has_condition && condition.is_none() {
            self.actions.push(Action::EvaluateCondition { task });
        } else {
            for key in self.state.keys(task) {
                if self.state.phase(key.task, key.item) == Some(Phase::Waiting) {
                    self.state.index.queue.join(key);
                }
            }
        }
    }

    /// Why a task whose needs have ended does not run, if so: always the same, in whatever order they ended.
    fn skip_reason(&self, node: &TaskNode) -> Option<SkipReason> {
        let index = &self.state.index;
        let failure = node.needs.iter().find_map(|need| index.failure_of(need.task));
        let has_failure = if node.is_closing() { index.main_has_failure() } else { failure.is_some() };
        match (node.runs, failure) {
            (Runs::OnSuccess, Some(root)) => return Some(SkipReason::Failed(root)),
            (Runs::OnFailure, _) if !has_failure => return Some(SkipReason::NothingFailed),
            _ => {}
        }
        let skipped = |task| index.counts(task).is_some_and(|counts| counts.skipped > 0);
        let missing = node.needs.iter().find(|need| need.kind == NeedKind::Result && skipped(need.task));
        missing.map(|need| SkipReason::Skipped(need.task))
    }

    fn start_items(&mut self) {
        while !self.graph.held && self.state.index.running() < self.graph.places() {
            let Some(key) = self.state.index.queue.first() else { return };
            if self.apply(key, Change::Start).is_err() {
                self.state.index.queue.leave(key);
            }
        }
    }

    /// Asks for what the attempts of all items that moved are in need of.
    fn order_attempts(&mut self) {
        for key in std::mem::take(&mut self.state.index.touched) {
            let Key { task, item } = key;
            match self.state.phase(task, item) {
                Some(Phase::Starting { attempt }) => self.actions.push(Action::Start { task, item, attempt }),
                Some(Phase::Stopping { attempt, why }) => {
                    self.actions.push(Action::Stop { task, item, attempt, why });
                }
                _ => {}
            }
        }
    }

    fn apply_to_task(&mut self, task: TaskIndex, change: Change) {
        for key in self.state.keys(task) {
            // Items that have ended, or cannot be stopped, stay as they are.
            let _ = self.apply(key, change);
        }
    }

    fn apply(&mut self, key: Key, change: Change) -> Result<(Phase, Phase), Refusal> {
        let (from, to) = self.state.apply(self.graph, key, change)?;
        if matches!(to, Phase::Failed { .. }) && self.state.recorded.first_failure.is_none() {
            self.state.recorded.first_failure = Some(key.task);
            if self.graph.on_failure == OnFailure::Stop {
                self.stop_tasks(StopReason::TaskFailed(key.task), |node| node.runs == Runs::OnSuccess);
            }
        }
        Ok((from, to))
    }

    fn node(&self, task: TaskIndex) -> Option<&TaskNode> {
        self.graph.tasks.get(task.position())
    }
}
