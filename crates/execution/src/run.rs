//! One run: the plan, what it is bound to, how it stands, and what is to be done next.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use pintail_api as api;
use pintail_engine::{Action, Event, ItemIndex, Outcome, Phase, RunOutcome, RunState, StopReason, TaskIndex, advance};
use pintail_plan::Plan;
use pintail_plan::expression::Scope;
use pintail_protocol::{
    ConnectionTarget, Failure, FailureClass, FileIdentity, RelationSource, ReuseCandidate, StoreLocation, TaskReport,
    WorkOrder,
};

use crate::input::BoundInput;
use crate::name::artifact_name;
use crate::order::{results_of, work_order};
use crate::record::{RunRecord, TaskRecord};
use crate::scope;
use crate::status::duration_text;

/// Which run it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunContext {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub start_time: Timestamp,
    /// The occurrence that it runs for.
    pub started_by: Option<api::StartedBy>,
    pub store: StoreLocation,
}

/// What was seen of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// An attempt runs.
    Started { task: TaskIndex, attempt: u32, at: Timestamp },
    /// A task's result is committed, by whichever attempt.
    Committed { task: TaskIndex, attempt: u32, result: Box<CommittedReport> },
    /// An attempt ended without a committed result.
    Failed { task: TaskIndex, attempt: u32, failure: Failure, report: Option<Box<TaskReport>>, at: Timestamp },
    /// Someone asked for the run to stop.
    Cancel,
}

/// A report and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedReport {
    pub key: String,
    pub digest: String,
    pub report: TaskReport,
}

/// What is to be done; carrying it out twice does no harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Start { task: TaskIndex, attempt: u32, order: Box<WorkOrder> },
    Stop { task: TaskIndex, attempt: u32, why: StopReason },
}

/// A published output: which Artifact it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub dataset: String,
    pub name: String,
    pub partition: BTreeMap<String, String>,
}

/// The committed results of the run that this one retries, by task name.
pub type Reusable = BTreeMap<String, CommittedReport>;

/// Connections by SQL name, as they are at the moment.
pub type Connections = BTreeMap<String, Arc<api::Connection>>;

/// One run.
#[derive(Debug)]
pub struct Run {
    pub plan: Plan,
    pub context: RunContext,
    pub inputs: Vec<BoundInput>,
    pub(crate) pins: BTreeMap<String, Vec<FileIdentity>>,
    pub(crate) tasks: BTreeMap<String, TaskRecord>,
    pub(crate) failures: Vec<api::TaskFailure>,
    pub(crate) state: Option<RunState>,
    pub(crate) outcome: Option<RunOutcome>,
    reports: BTreeMap<usize, TaskReport>,
    published: BTreeMap<usize, Published>,
    reusable: Reusable,
    wake: Option<Timestamp>,
    /// By task: how long the databases of its last order may be locked by others.
    busy_timeouts_ms: BTreeMap<usize, u64>,
}

impl Run {
    /// A run that has not started.
    ///
    /// # Errors
    /// Where a partition's expression fails on the inputs.
    pub fn new(plan: Plan, context: RunContext, inputs: Vec<BoundInput>, reusable: Reusable) -> Result<Self, Failure> {
        let state = RunState::new(&plan.graph);
        Self::assemble(plan, context, inputs, reusable, state)
    }

    /// A run as it was recorded. `reports` are the committed reports that the record names, by task name.
    ///
    /// # Errors
    /// As [`Run::new`].
    pub fn restore(
        plan: Plan,
        context: RunContext,
        inputs: Vec<BoundInput>,
        reusable: Reusable,
        record: RunRecord,
        reports: BTreeMap<String, TaskReport>,
    ) -> Result<Self, Failure> {
        let state = RunState::restore(&plan.graph, record.engine).map_err(|error| Failure {
            class: FailureClass::Permanent,
            reason: "RecordDamaged".to_owned(),
            message: error.to_string(),
        })?;
        let mut run = Self::assemble(plan, context, inputs, reusable, state)?;
        (run.pins, run.tasks, run.failures) = (record.pins, record.tasks, record.failures);
        for (index, task) in run.plan.tasks.iter().enumerate() {
            if let Some(report) = reports.get(&task.name) {
                run.reports.insert(index, report.clone());
            }
        }
        Ok(run)
    }

    fn assemble(
        plan: Plan,
        context: RunContext,
        inputs: Vec<BoundInput>,
        reusable: Reusable,
        state: RunState,
    ) -> Result<Self, Failure> {
        let scope = scope::scope(&context, &inputs, std::iter::empty());
        let mut published = BTreeMap::new();
        for (index, output) in plan.outputs.iter().enumerate() {
            let Some(publish) = &output.publish else { continue };
            let render = |(name, value): (&String, &pintail_plan::expression::Template)| {
                let value = value.render(&scope).map_err(|error| Failure {
                    class: FailureClass::Permanent,
                    reason: "ExpressionFailed".to_owned(),
                    message: format!("partition {name:?} of output {:?}: {error}", output.name),
                })?;
                Ok((name.clone(), value))
            };
            let partition = publish.partition.iter().map(render).collect::<Result<BTreeMap<_, _>, Failure>>()?;
            let name = artifact_name(&publish.artifact, &context.uid, &output.name, &partition);
            published.insert(index, Published { dataset: publish.artifact.clone(), name, partition });
        }
        Ok(Self {
            plan,
            context,
            inputs,
            pins: BTreeMap::new(),
            tasks: BTreeMap::new(),
            failures: Vec::new(),
            state: Some(state),
            outcome: None,
            reports: BTreeMap::new(),
            published,
            reusable,
            wake: None,
            busy_timeouts_ms: BTreeMap::new(),
        })
    }

    /// Takes in what was seen and gives what is to be done. Call it with nothing to learn what a restored run does, and
    /// whenever [`Run::wake`] has come.
    pub fn step(&mut self, seen: Vec<Seen>, now: Timestamp, connections: &Connections) -> Vec<Command> {
        let mut events: Vec<Event> = seen.into_iter().map(|seen| self.absorb(seen)).collect();
        let mut commands = Vec::new();
        while let Some(state) = self.state.take() {
            let decision = advance(&self.plan.graph, state, &events, now);
            self.state = Some(decision.state);
            self.wake = decision.wake;
            self.outcome = decision.outcome;
            events = Vec::new();
            for action in decision.actions {
                match self.perform(action, now, connections) {
                    Next::Command(command) => commands.push(command),
                    Next::Event(event) => events.push(event),
                }
            }
            if events.is_empty() {
                break;
            }
        }
        commands
    }

    /// The order of a task as it would be given now, for asking questions of its tables.
    ///
    /// # Errors
    /// Where an expression fails, a connection is not there, or what the task needs is not committed.
    pub fn order(&self, task: &str, connections: &Connections) -> Result<WorkOrder, Failure> {
        let index = self.plan.tasks.iter().position(|planned| planned.name == task).unwrap_or(usize::MAX);
        work_order(self, index, 1, connections)
    }

    /// When [`Run::step`] must be called at the latest though nothing was seen.
    #[must_use]
    pub fn wake(&self) -> Option<Timestamp> {
        self.wake
    }

    /// How the run ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<RunOutcome> {
        self.outcome
    }

    /// What must be stored before a command is carried out.
    #[must_use]
    pub fn record(&self) -> Option<RunRecord> {
        let mut record = RunRecord::new(self.state.as_ref()?.recorded().clone());
        record.tasks.clone_from(&self.tasks);
        record.failures.clone_from(&self.failures);
        record.pins.clone_from(&self.pins);
        Some(record)
    }

    fn absorb(&mut self, seen: Seen) -> Event {
        let item = ItemIndex(0);
        match seen {
            Seen::Started { task, attempt, at } => {
                if let Some(record) = self.task_record(task) {
                    record.started_at = Some(at);
                    record.ended_at = None;
                }
                Event::Started { task, item, attempt, at }
            }
            Seen::Committed { task, attempt, result } => match self.other_files(task, &result.report) {
                None => {
                    self.take_result(task, *result);
                    Event::Ended { task, item, attempt, outcome: Outcome::Succeeded }
                }
                Some(failure) => {
                    self.note_failure(task, attempt, failure);
                    Event::Ended { task, item, attempt, outcome: Outcome::Permanent }
                }
            },
            Seen::Failed { task, attempt, failure, report, at } => {
                if let Some(report) = report {
                    self.take_pins(task, &report);
                }
                let began = self.task_record(task).and_then(|record| {
                    let began = record.started_at.filter(|_| record.ended_at.is_none());
                    record.ended_at = Some(at);
                    began
                });
                let failure = self.bound_waiting(task, failure, at);
                let failure = self.name_timeout(task, failure, began.map(|began| at.duration_since(began)));
                let outcome = outcome_of(failure.class);
                self.note_failure(task, attempt, failure);
                Event::Ended { task, item, attempt, outcome }
            }
            Seen::Cancel => Event::CancelRequested,
        }
    }

    fn perform(&mut self, action: Action, now: Timestamp, connections: &Connections) -> Next {
        match action {
            Action::Start { task, item, attempt } => match work_order(self, task.0 as usize, attempt, connections) {
                Ok(order) => self.start(task, item, attempt, order),
                Err(failure) => {
                    self.note_failure(task, attempt, failure);
                    Next::Event(Event::Ended { task, item, attempt, outcome: Outcome::Permanent })
                }
            },
            Action::Stop { task, attempt, why, .. } => Next::Command(Command::Stop { task, attempt, why }),
            Action::EvaluateCondition { task } => {
                let holds = self.condition(task);
                if let Err(message) = &holds {
                    let failure = Failure {
                        class: FailureClass::Permanent,
                        reason: "ConditionFailed".to_owned(),
                        message: message.clone(),
                    };
                    self.note_failure(task, 0, failure);
                    if let Some(record) = self.task_record(task) {
                        record.ended_at = Some(now);
                    }
                }
                Next::Event(Event::ConditionEvaluated { task, holds })
            }
        }
    }

    /// A lock that others hold costs nothing, but only for the connection's time.
    fn bound_waiting(&mut self, task: TaskIndex, mut failure: Failure, at: Timestamp) -> Failure {
        let timeout_ms = self.busy_timeouts_ms.get(&(task.0 as usize)).copied();
        let Some(record) = self.task_record(task) else { return failure };
        if failure.class != FailureClass::Busy {
            record.busy_since = None;
            return failure;
        }
        // Attempts that ended with the one that drove them give no order, hence no time.
        let Some(timeout_ms) = timeout_ms else { return failure };
        let since = *record.busy_since.get_or_insert(at);
        let waited_ms = at.duration_since(since).as_millis();
        if waited_ms >= i128::from(timeout_ms) {
            failure.class = FailureClass::Permanent;
            failure.message.push_str(&format!(
                "; waited {} s for it, as long as the connection's `busyTimeout` allows: end what holds the lock, or raise it",
                waited_ms / 1000
            ));
        }
        failure
    }

    /// An attempt that was told to stop only knows that it was told. `took` is how long it ran, where that is known:
    /// nobody may have looked while its time ran out.
    fn name_timeout(&self, task: TaskIndex, mut failure: Failure, took: Option<SignedDuration>) -> Failure {
        let timeout = self.plan.graph.tasks.get(task.0 as usize).and_then(|node| node.timeout);
        let timeout = timeout.and_then(|timeout| SignedDuration::try_from(timeout).ok());
        let is_late = match self.phase(task) {
            Phase::Stopping { why, .. } => why == StopReason::Timeout,
            _ => timeout.zip(took).is_some_and(|(timeout, took)| took >= timeout),
        };
        if is_late && failure.class == FailureClass::Interrupted {
            let text = timeout.map(duration_text);
            failure.class = FailureClass::Transient;
            failure.reason = "Timeout".to_owned();
            failure.message = format!(
                "the attempt took longer than the task's `timeout` of {}: raise it, or let the task do less",
                text.unwrap_or_default()
            );
        }
        failure
    }

    /// What an equal order committed before is taken over at once, unless it read files outside the store: whether
    /// those are still the same only the runner can see.
    fn start(&mut self, task: TaskIndex, item: ItemIndex, attempt: u32, order: WorkOrder) -> Next {
        let outside = order
            .relations
            .iter()
            .any(|relation| matches!(relation.source, RelationSource::Files { .. } | RelationSource::Uri { .. }));
        let reusable = self.reusable.get(&order.identity.task).filter(|_| order.reuse.is_some() && !outside);
        if let Some(mut result) = reusable.cloned() {
            let from = result.report.reused_from.take().unwrap_or(result.report.identity.execution.clone());
            result.report.reused_from = Some(from);
            self.take_result(task, result);
            return Next::Event(Event::Ended { task, item, attempt, outcome: Outcome::Succeeded });
        }
        let timeouts_ms = order.connections.iter().filter_map(|connection| match connection.target {
            ConnectionTarget::DuckDb { busy_timeout_ms, .. } => Some(busy_timeout_ms),
            _ => None,
        });
        if let Some(timeout_ms) = timeouts_ms.max() {
            self.busy_timeouts_ms.insert(task.0 as usize, timeout_ms);
        }
        Next::Command(Command::Start { task, attempt, order: Box::new(order) })
    }

    fn condition(&self, task: TaskIndex) -> Result<bool, String> {
        let when = self.plan.tasks.get(task.0 as usize).and_then(|planned| planned.when.as_ref());
        let Some(when) = when else { return Ok(true) };
        match when.evaluate(&self.scope()) {
            Ok(serde_json::Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("when: $({}) gave {other}; it must give true or false", when.source)),
            Err(error) => Err(format!("when: {error}")),
        }
    }

    fn task_record(&mut self, task: TaskIndex) -> Option<&mut TaskRecord> {
        let name = self.plan.tasks.get(task.0 as usize)?.name.clone();
        Some(self.tasks.entry(name).or_default())
    }

    fn take_result(&mut self, task: TaskIndex, result: CommittedReport) {
        self.take_pins(task, &result.report);
        if let Some(record) = self.task_record(task) {
            record.report = Some(result.key);
            record.digest = Some(result.digest);
            // A kubelet tells the start in whole seconds.
            record.started_at = Some(result.report.started_at);
            record.ended_at = Some(result.report.ended_at);
            record.reused_from.clone_from(&result.report.reused_from);
        }
        self.reports.insert(task.0 as usize, result.report);
    }

    /// Two tasks that read one input at the same time may have found different files, if some came between. What they
    /// say then does not belong together.
    fn other_files(&self, task: TaskIndex, report: &TaskReport) -> Option<Failure> {
        let planned = self.plan.tasks.get(task.0 as usize)?;
        let differing = report.inputs.iter().find_map(|found| {
            let binding = planned.bindings.iter().find(|binding| binding.name == found.relation)?;
            let pintail_plan::BindingValue::InputTable(input) = &binding.value else { return None };
            self.pins.get(input).filter(|pinned| **pinned != found.files).map(|_| input)
        })?;
        Some(Failure {
            class: FailureClass::Permanent,
            reason: "InputChanged".to_owned(),
            message: format!(
                "the files of input {differing:?} changed while tasks of this run read them, so their results do not \
                 belong together: start a new run to use what is there now"
            ),
        })
    }

    /// The first attempt that reads files of an input decides for the whole run which they are.
    fn take_pins(&mut self, task: TaskIndex, report: &TaskReport) {
        let Some(planned) = self.plan.tasks.get(task.0 as usize) else { return };
        for pinned in &report.inputs {
            let binding = planned.bindings.iter().find(|binding| binding.name == pinned.relation);
            if let Some(pintail_plan::BindingValue::InputTable(input)) = binding.map(|binding| &binding.value) {
                self.pins.entry(input.clone()).or_insert_with(|| pinned.files.clone());
            }
        }
    }

    /// The first twenty are kept: enough to see what is wrong, small enough for a status.
    fn note_failure(&mut self, task: TaskIndex, attempt: u32, failure: Failure) {
        const KEPT: usize = 20;
        const MESSAGE_BYTES: usize = 4096;
        let name = self.plan.tasks.get(task.0 as usize).map_or_else(String::new, |planned| planned.name.clone());
        let repeated = self.failures.iter().any(|known| {
            known.task == name && i64::from(known.attempt) == i64::from(attempt) && known.reason == failure.reason
        });
        if repeated || self.failures.len() >= KEPT || failure.class == FailureClass::Busy {
            return;
        }
        let mut message = failure.message;
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
        self.failures.push(api::TaskFailure {
            task: name,
            attempt: i32::try_from(attempt).unwrap_or(i32::MAX),
            reason: failure.reason,
            message,
        });
    }

    pub(crate) fn scope(&self) -> Scope {
        let reports = self
            .reports
            .iter()
            .filter_map(|(index, report)| self.plan.tasks.get(*index).map(|planned| (planned.name.as_str(), report)));
        scope::scope(&self.context, &self.inputs, reports)
    }

    pub(crate) fn results(&self, task: usize) -> Option<&pintail_protocol::Results> {
        self.reports.get(&task).and_then(results_of)
    }

    pub(crate) fn succeeded(&self, name: &str) -> Option<&pintail_protocol::Results> {
        let index = self.plan.tasks.iter().position(|planned| planned.name == name)?;
        self.results(index)
    }

    /// The report that a task committed, or whose result it took over.
    #[must_use]
    pub fn report(&self, task: TaskIndex) -> Option<&TaskReport> {
        self.reports.get(&(task.0 as usize))
    }

    /// The versions that the run writes if it succeeds: dataset and name of the Artifact.
    pub fn versions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.published.values().map(|published| (published.dataset.as_str(), published.name.as_str()))
    }

    pub(crate) fn published(&self, output: usize) -> Option<&Published> {
        self.published.get(&output)
    }

    pub(crate) fn reusable(&self, task: &str, reuse_key: &str) -> Option<ReuseCandidate> {
        let candidate = self.reusable.get(task).filter(|result| result.report.reuse_key == reuse_key)?;
        Some(ReuseCandidate { report: candidate.key.clone(), digest: candidate.digest.clone() })
    }
}

enum Next {
    Command(Command),
    Event(Event),
}

fn outcome_of(class: FailureClass) -> Outcome {
    match class {
        FailureClass::Permanent => Outcome::Permanent,
        FailureClass::Transient => Outcome::Transient,
        // An attempt that was told to stop ends so; if nobody of ours told it, something killed it.
        FailureClass::Infrastructure | FailureClass::Interrupted => Outcome::Infrastructure,
        FailureClass::Busy => Outcome::Busy,
    }
}
