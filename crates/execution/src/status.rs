//! From the state of a run to what people see: `Execution.status`.

use jiff::{SignedDuration, Timestamp};
use pintail_api as api;
use pintail_engine::{Phase, Readiness, RunOutcome, SkipReason, StopReason, TaskIndex, WaitingOn};
use pintail_plan::OutputValue;
use pintail_protocol::ResultColumn;

use crate::input::resolved_from_bound;
use crate::record::RecordError;
use crate::run::Run;
use crate::scope::uri;

/// Tasks that a status lists one by one; the rest are in its counts.
const TASKS_LISTED: usize = 50;
/// What the definitions of the objects allow: an API server takes no object that has more.
const MESSAGE_BYTES: usize = 1024;
const COLUMNS: usize = 1000;
const COLUMN_NAME_BYTES: usize = 255;
const COLUMN_TYPE_BYTES: usize = 1024;

impl Run {
    /// The status of the run at `now`. `before` holds the conditions of the last one, whose times stay where nothing
    /// changed.
    ///
    /// # Errors
    /// Where the recorded state is larger than a status may be.
    pub fn status(&self, before: &[api::Condition], now: Timestamp) -> Result<api::ExecutionStatus, RecordError> {
        let task_list: Vec<api::TaskStatus> =
            (0..self.plan.tasks.len()).map(|index| self.task_status(index, now)).collect();
        let mut conditions = before.to_vec();
        for condition in self.conditions(now) {
            api::set_condition(&mut conditions, condition);
        }
        Ok(api::ExecutionStatus {
            observed_generation: Some(1),
            conditions,
            resolved: Some(api::Resolved {
                revision: self.plan.revision.clone(),
                inputs: self.inputs.iter().map(resolved_from_bound).collect(),
                ..api::Resolved::default()
            }),
            start_time: Some(self.context.start_time.to_string()),
            completion_time: self.outcome.map(|_| now.to_string()),
            duration: self.outcome.map(|_| duration_text(now.duration_since(self.context.start_time))),
            progress: Some(progress(counts(&task_list))),
            tasks: Some(counts(&task_list)),
            task_list: task_list.into_iter().take(TASKS_LISTED).collect(),
            failures: self.failures.clone(),
            outputs: self.outputs(),
            notifications: Vec::new(),
            state: self.record().map(|record| record.encode()).transpose()?,
        })
    }

    fn conditions(&self, now: Timestamp) -> [api::Condition; 4] {
        use api::{ConditionReason as Reason, ConditionStatus as Status, ConditionType as Type};
        let (succeeded, reason) = match self.outcome {
            None => (Status::Unknown, Reason::Running),
            Some(RunOutcome::Succeeded) => (Status::True, Reason::Succeeded),
            Some(RunOutcome::Failed(_)) => (Status::False, Reason::TaskFailed),
            Some(RunOutcome::Cancelled) => (Status::False, Reason::Cancelled),
        };
        let message = match self.outcome {
            Some(RunOutcome::Failed(task)) => self.failure_message(task),
            _ => String::new(),
        };
        let truth = |holds: bool| if holds { Status::True } else { Status::False };
        let ended = self.outcome.is_some();
        let condition = |condition_type, status| api::Condition {
            condition_type,
            status,
            reason,
            message: message.clone(),
            last_transition_time: now.to_string(),
            observed_generation: Some(1),
        };
        [
            condition(Type::Succeeded, succeeded),
            condition(Type::Ready, truth(succeeded == Status::True)),
            condition(Type::Reconciling, truth(!ended)),
            condition(Type::Stalled, truth(ended && succeeded != Status::True)),
        ]
    }

    fn failure_message(&self, task: TaskIndex) -> String {
        let name = self.name_of(task);
        match self.failures.iter().rfind(|failure| failure.task == name) {
            Some(failure) => format!("task {name}: {}: {}", failure.reason, failure.message),
            None => format!("task {name} failed"),
        }
    }

    fn name_of(&self, task: TaskIndex) -> &str {
        self.plan.tasks.get(task.0 as usize).map_or("?", |planned| planned.name.as_str())
    }

    fn task_status(&self, index: usize, now: Timestamp) -> api::TaskStatus {
        let task = TaskIndex(u32::try_from(index).unwrap_or(u32::MAX));
        let name = self.name_of(task).to_owned();
        let phase = self.phase(task);
        let record = self.tasks.get(&name).cloned().unwrap_or_default();
        let (state, attempt) = state_of(&phase);
        let duration = record.started_at.map(|started| {
            let ended = record.ended_at.unwrap_or(now);
            duration_text(ended.duration_since(started))
        });
        api::TaskStatus {
            message: self.message(task, &phase).map(|message| excerpt(&message, MESSAGE_BYTES)),
            rows: self.rows(index),
            name,
            state: state.to_owned(),
            attempt: attempt.and_then(|number| i32::try_from(number).ok()),
            start_time: record.started_at.map(|time| time.to_string()),
            duration,
            reused_from: record.reused_from,
        }
    }

    /// How a task stands.
    #[must_use]
    pub fn phase(&self, task: TaskIndex) -> Phase {
        let state = self.state.as_ref();
        state.and_then(|state| state.phase(task, pintail_engine::ItemIndex(0))).unwrap_or(Phase::Waiting)
    }

    fn rows(&self, index: usize) -> Option<i64> {
        let results = self.results(index)?;
        let rows = match &results.load {
            Some(load) => load.rows,
            None => results.tables.first()?.rows,
        };
        i64::try_from(rows).ok()
    }

    fn message(&self, task: TaskIndex, phase: &Phase) -> Option<String> {
        let name = |task: &TaskIndex| self.name_of(*task).to_owned();
        match phase {
            Phase::Waiting => self.waiting_message(task),
            Phase::Skipped { why } => Some(match why {
                SkipReason::Condition => "its condition gave false".to_owned(),
                SkipReason::Failed(other) => format!("{} failed", name(other)),
                SkipReason::Skipped(other) => format!("{} was skipped", name(other)),
                SkipReason::NothingFailed => "nothing failed".to_owned(),
                SkipReason::Stopped(other) => format!("stopped because {} failed", name(other)),
            }),
            Phase::Stopping { why, .. } => Some(match why {
                StopReason::Timeout => "stopping: it took longer than its timeout".to_owned(),
                StopReason::Superseded => "stopping: another attempt has committed the result".to_owned(),
                StopReason::Cancelled => "stopping: the run was cancelled".to_owned(),
                StopReason::TaskFailed(other) => format!("stopping because {} failed", name(other)),
            }),
            Phase::BackingOff { attempt, until } => {
                Some(format!("attempt {attempt} ended without a result; the next starts at {until:.0}"))
            }
            Phase::Failed { .. } => {
                let failure = self.failures.iter().rfind(|failure| failure.task == self.name_of(task))?;
                let line = failure.message.lines().next().unwrap_or_default();
                Some(format!("{}: {line}", failure.reason))
            }
            _ => None,
        }
    }

    fn waiting_message(&self, task: TaskIndex) -> Option<String> {
        let state = self.state.as_ref()?;
        match state.readiness(&self.plan.graph, task, pintail_engine::ItemIndex(0)) {
            Readiness::Waiting(WaitingOn::Tasks(tasks)) => {
                let names: Vec<&str> = tasks.iter().map(|task| self.name_of(*task)).collect();
                Some(format!("waits for {}", names.join(", ")))
            }
            Readiness::Waiting(WaitingOn::Lock(resource)) => Some(format!("waits for {resource}")),
            Readiness::Waiting(WaitingOn::Release) => Some("waits for the run to be resumed".to_owned()),
            Readiness::Waiting(WaitingOn::Capacity) => Some("waits for a free place".to_owned()),
            _ => None,
        }
    }

    fn outputs(&self) -> Vec<api::OutputStatus> {
        let scope = self.scope();
        let outputs = self.plan.outputs.iter().enumerate();
        outputs.filter_map(|(index, output)| self.output(index, output, &scope)).collect()
    }

    fn output(
        &self,
        index: usize,
        output: &pintail_plan::PlannedOutput,
        scope: &pintail_plan::expression::Scope,
    ) -> Option<api::OutputStatus> {
        let mut status = api::OutputStatus { name: output.name.clone(), ..api::OutputStatus::default() };
        let size = |bytes: u64| i64::try_from(bytes).ok();
        match &output.value {
            OutputValue::Result(task, result) => {
                let results = self.results(task.0 as usize)?;
                if let Some(table) = results.tables.iter().find(|table| table.name == *result) {
                    "table".clone_into(&mut status.data_type);
                    status.uri = table.files.first().map(|file| uri(&self.context.store, &file.key));
                    status.rows = size(table.rows);
                    status.bytes = size(table.bytes);
                    status.columns = columns(&table.columns);
                    if self.outcome == Some(RunOutcome::Succeeded) {
                        status.artifact = self.published(index).map(|published| published.name.clone());
                    }
                } else {
                    let file = results.files.iter().find(|file| file.name == *result)?;
                    "file".clone_into(&mut status.data_type);
                    status.uri = Some(uri(&self.context.store, &file.file.key));
                    status.bytes = size(file.file.bytes);
                }
            }
            OutputValue::Loaded(task) => {
                "table".clone_into(&mut status.data_type);
                status.rows = size(self.results(task.0 as usize)?.load.as_ref()?.rows);
            }
            OutputValue::Scalar(expression) => {
                let value = expression.evaluate(scope).ok()?;
                "scalar".clone_into(&mut status.data_type);
                status.value = Some(api::Binding(value));
            }
        }
        Some(status)
    }
}

/// The first columns of a table, for people: the files have all of them as they are.
pub(crate) fn columns(columns: &[ResultColumn]) -> Vec<api::Column> {
    let column = |column: &ResultColumn| api::Column {
        name: excerpt(&column.name, COLUMN_NAME_BYTES),
        data_type: excerpt(&column.data_type, COLUMN_TYPE_BYTES),
        nullable: None,
        source: None,
        sensitive: None,
    };
    columns.iter().take(COLUMNS).map(column).collect()
}

/// The text, or its beginning where it has more than so many bytes.
fn excerpt(text: &str, bytes: usize) -> String {
    const CUT: &str = "…";
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes.saturating_sub(CUT.len()));
    format!("{}{CUT}", text.get(..end).unwrap_or_default())
}

/// The word for a phase, and the attempt that it speaks of.
fn state_of(phase: &Phase) -> (&'static str, Option<u32>) {
    match phase {
        Phase::Waiting => ("Waiting", None),
        Phase::Starting { attempt }
        | Phase::Running { attempt, .. }
        | Phase::Stopping { attempt, .. }
        | Phase::BackingOff { attempt, .. } => ("Running", Some(*attempt)),
        Phase::Succeeded { attempt } => ("Succeeded", Some(*attempt)),
        Phase::Failed { attempt } => ("Failed", Some(*attempt)),
        Phase::Skipped { .. } => ("Skipped", None),
        Phase::Cancelled => ("Cancelled", None),
    }
}

fn counts(tasks: &[api::TaskStatus]) -> api::TaskCounts {
    let count = |state: &str| i32::try_from(tasks.iter().filter(|task| task.state == state).count()).unwrap_or(0);
    api::TaskCounts {
        total: i32::try_from(tasks.len()).unwrap_or(i32::MAX),
        waiting: count("Waiting"),
        running: count("Running"),
        succeeded: count("Succeeded"),
        skipped: count("Skipped"),
        failed: count("Failed"),
        cancelled: count("Cancelled"),
    }
}

/// A duration as manifests write it: whole units, milliseconds below ten seconds.
pub(crate) fn duration_text(duration: SignedDuration) -> String {
    let milliseconds = duration.as_millis().max(0);
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    match seconds {
        0 => format!("{rest}ms"),
        1..10 if rest == 0 => format!("{seconds}s"),
        1..10 => format!("{seconds}s{rest}ms"),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
    }
}

fn progress(counts: api::TaskCounts) -> String {
    format!("{}/{}", counts.succeeded + counts.skipped + counts.failed + counts.cancelled, counts.total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_within_what_an_api_server_takes() {
        let column = |index| ResultColumn {
            name: format!("{index}{}", "ü".repeat(200)),
            data_type: format!("STRUCT({})", "field INTEGER, ".repeat(100)),
        };
        let many: Vec<ResultColumn> = (0..1200).map(column).collect();
        let listed = columns(&many);
        assert_eq!(listed.len(), 1000);
        assert!(listed.iter().all(|column| column.name.len() <= 255 && column.data_type.len() <= 1024));
        assert!(listed[0].data_type.starts_with("STRUCT(field") && listed[0].data_type.ends_with('…'));
        assert_eq!(excerpt("VARCHAR", COLUMN_TYPE_BYTES), "VARCHAR");
    }

    #[test]
    fn durations_read_as_manifests_write_them() {
        let text = |milliseconds| duration_text(SignedDuration::from_millis(milliseconds));
        assert_eq!(
            [text(812), text(3_040), text(12_999), text(61_000), text(3_660_000)],
            ["812ms", "3s40ms", "12s", "1m1s", "1h1m"]
        );
    }
}
