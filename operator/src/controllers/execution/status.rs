//! What people see of a run on a cluster: the status that every run has, with what only a cluster knows. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pintail_api as api;
use pintail_api::{ConditionReason as Reason, ConditionStatus, ConditionType};
use pintail_engine::{Phase, TaskIndex};
use pintail_execution::{RecordError, Run};

use super::facts::Waiting;
use super::refusal::{Refusal, refusal};
use crate::controllers::error::ReconcileError;

/// What a cluster adds to the status of a run.
pub struct Shown<'a> {
    pub generation: Option<i64>,
    pub suspended: bool,
    pub waiting: BTreeMap<TaskIndex, &'a Waiting>,
    /// What holds the whole run up.
    pub trouble: Option<(Reason, String)>,
    pub now: Timestamp,
}

impl Shown<'_> {
    pub fn new(execution: &api::Execution, now: Timestamp) -> Self {
        Self {
            generation: execution.metadata.generation,
            suspended: execution.spec.suspend == Some(true),
            waiting: BTreeMap::new(),
            trouble: None,
            now,
        }
    }
}

/// The status of the run. `before` holds the conditions of the last one. Equal states give equal statuses, whatever the
/// time is.
///
/// # Errors
/// Where the recorded state is larger than a status may be.
pub fn of_run(run: &Run, before: &[api::Condition], shown: &Shown) -> Result<api::ExecutionStatus, RecordError> {
    let mut status = run.status(before, shown.now)?;
    status.observed_generation = shown.generation;
    for task in status.task_list.iter_mut().filter(|task| task.state == "Running") {
        // It would change with every look; whoever reads it knows when the attempt started.
        task.duration = None;
    }
    for (task, waiting) in &shown.waiting {
        let name = run.plan.tasks.get(task.0 as usize).map(|planned| planned.name.as_str());
        if let Some(listed) = status.task_list.iter_mut().find(|listed| Some(listed.name.as_str()) == name) {
            listed.message = Some(excerpt(&format!("{}: {}", waiting.reason, waiting.message), 1024));
        }
    }
    let overlay = overlay(run, shown);
    for condition in &mut status.conditions {
        condition.observed_generation = shown.generation;
        let is_of_progress = matches!(condition.condition_type, ConditionType::Succeeded | ConditionType::Reconciling);
        if let Some((reason, message)) = overlay.as_ref().filter(|_| is_of_progress) {
            condition.reason = *reason;
            condition.message.clone_from(message);
        }
    }
    Ok(status)
}

/// What holds the run up while nothing of it runs.
fn overlay(run: &Run, shown: &Shown) -> Option<(Reason, String)> {
    if run.outcome().is_some() {
        return None;
    }
    if shown.trouble.is_some() {
        return shown.trouble.clone();
    }
    let tasks = (0..).map(TaskIndex).take(run.plan.tasks.len());
    if tasks.map(|task| run.phase(task)).any(|phase| matches!(phase, Phase::Running { .. })) {
        return None;
    }
    if shown.suspended {
        return Some((Reason::Suspended, "the run is suspended: nothing new starts".to_owned()));
    }
    if let Some((task, waiting)) = shown.waiting.first_key_value() {
        let name = run.plan.tasks.get(task.0 as usize).map_or("?", |planned| planned.name.as_str());
        return Some((waiting.reason, excerpt(&format!("task {name}: {}", waiting.message), 4096)));
    }
    None
}

/// How soon a change is worth a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// Only for people who watch: an attempt was started or runs.
    Small,
    /// A result, a failure, a reason to wait.
    Large,
}

pub fn change(before: &api::ExecutionStatus, after: &api::ExecutionStatus) -> Change {
    if before == after {
        return Change::Nothing;
    }
    let settled = |status: &api::ExecutionStatus| {
        status.tasks.map(|tasks| (tasks.succeeded, tasks.skipped, tasks.failed, tasks.cancelled))
    };
    let said = |status: &api::ExecutionStatus| {
        let conditions = status.conditions.iter().map(|condition| (condition.status, condition.reason));
        conditions.collect::<Vec<_>>()
    };
    let same = settled(before) == settled(after)
        && said(before) == said(after)
        && before.failures == after.failures
        && before.outputs == after.outputs
        && before.observed_generation == after.observed_generation;
    if same { Change::Small } else { Change::Large }
}

/// Says of a run whose record cannot be read that it cannot go on. Nothing that is recorded is lost.
pub fn unreadable(execution: &api::Execution, cause: &str, now: Timestamp) -> api::ExecutionStatus {
    let mut status = execution.status.clone().unwrap_or_default();
    status.observed_generation = execution.metadata.generation;
    let states = [
        (ConditionType::Succeeded, ConditionStatus::Unknown),
        (ConditionType::Ready, ConditionStatus::False),
        (ConditionType::Reconciling, ConditionStatus::False),
        (ConditionType::Stalled, ConditionStatus::True),
    ];
    for (condition_type, state) in states {
        let condition = api::Condition {
            condition_type,
            status: state,
            reason: Reason::RecordUnreadable,
            message: excerpt(cause, 4096),
            last_transition_time: now.to_string(),
            observed_generation: execution.metadata.generation,
        };
        api::set_condition(&mut status.conditions, condition);
    }
    status
}

/// Failures in a row from which on people are told of what may have passed by itself.
const LASTING: u32 = 4;

/// What people are told of a reconcile that failed, the last of `failures` in a row.
pub fn trouble(error: &ReconcileError, failures: u32) -> Option<(Reason, String)> {
    let message = excerpt(&error.to_string(), 4096);
    let answer = match error {
        ReconcileError::Kubernetes { error: kube::Error::Api(status), .. } => Some(refusal(status)),
        _ => None,
    };
    match (error, answer) {
        (ReconcileError::Conflict, _) => None,
        (ReconcileError::Store(_), _) => Some((Reason::StoreUnreachable, message)),
        (_, Some(Refusal::Wait(waiting))) => Some((waiting.reason, message)),
        _ => (failures >= LASTING).then_some((Reason::ClusterRefuses, message)),
    }
}

/// Says what holds a run up.
pub fn held_up(execution: &api::Execution, reason: Reason, cause: &str, now: Timestamp) -> api::ExecutionStatus {
    let mut status = execution.status.clone().unwrap_or_default();
    let states =
        [(ConditionType::Succeeded, ConditionStatus::Unknown), (ConditionType::Reconciling, ConditionStatus::True)];
    for (condition_type, state) in states {
        let condition = api::Condition {
            condition_type,
            status: state,
            reason,
            message: excerpt(cause, 4096),
            last_transition_time: now.to_string(),
            observed_generation: execution.metadata.generation,
        };
        api::set_condition(&mut status.conditions, condition);
    }
    status
}

/// The end of a run whose state is too large to be recorded: what was recorded last stays.
pub fn too_large(before: &api::ExecutionStatus, cause: &str, shown: &Shown) -> api::ExecutionStatus {
    let mut status = before.clone();
    status.completion_time.get_or_insert_with(|| shown.now.to_string());
    fail(&mut status, Reason::RecordTooLarge, cause, shown);
    status
}

/// Ends a run badly, whatever its tasks did.
pub fn fail(status: &mut api::ExecutionStatus, reason: Reason, message: &str, shown: &Shown) {
    let states = [
        (ConditionType::Succeeded, ConditionStatus::False),
        (ConditionType::Ready, ConditionStatus::False),
        (ConditionType::Reconciling, ConditionStatus::False),
        (ConditionType::Stalled, ConditionStatus::True),
    ];
    for (condition_type, state) in states {
        let condition = api::Condition {
            condition_type,
            status: state,
            reason,
            message: excerpt(message, 4096),
            last_transition_time: shown.now.to_string(),
            observed_generation: shown.generation,
        };
        api::set_condition(&mut status.conditions, condition);
    }
}

/// Whether the run failed for a reason of its own, whatever its tasks did.
pub fn is_of_the_run(status: &api::ExecutionStatus) -> bool {
    let mut conditions = status.conditions.iter();
    let succeeded = conditions.find(|found| found.condition_type == ConditionType::Succeeded);
    succeeded.is_some_and(|found| matches!(found.reason, Reason::PublishFailed | Reason::RecordTooLarge))
}

fn excerpt(text: &str, bytes: usize) -> String {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(succeeded: i32, running: i32, reason: Reason) -> api::ExecutionStatus {
        let tasks = api::TaskCounts { total: 3, succeeded, running, ..api::TaskCounts::default() };
        let condition = api::Condition {
            condition_type: ConditionType::Reconciling,
            status: ConditionStatus::True,
            reason,
            message: String::new(),
            last_transition_time: String::new(),
            observed_generation: None,
        };
        api::ExecutionStatus { tasks: Some(tasks), conditions: vec![condition], ..api::ExecutionStatus::default() }
    }

    #[test]
    fn a_result_or_a_reason_to_wait_is_written_sooner_than_a_start() {
        let before = status(0, 0, Reason::Running);
        assert_eq!(change(&before, &before), Change::Nothing);
        assert_eq!(change(&before, &status(0, 1, Reason::Running)), Change::Small);
        assert_eq!(change(&before, &status(1, 0, Reason::Running)), Change::Large);
        assert_eq!(change(&before, &status(0, 0, Reason::Unschedulable)), Change::Large);
    }

    #[test]
    fn what_fails_again_and_again_is_shown() {
        let answered = |code, message: &str| ReconcileError::Kubernetes {
            action: "create pod a".to_owned(),
            error: kube::Error::Api(Box::new(kube::core::Status::failure(message, "").with_code(code))),
        };
        let webhook = answered(500, "failed calling webhook \"deny.example.com\": connection refused");
        assert_eq!(trouble(&webhook, 3), None);
        let (reason, message) = trouble(&webhook, 4).expect("lasting trouble");
        assert_eq!(reason, Reason::ClusterRefuses);
        assert!(message.starts_with("create pod a: failed calling webhook"), "{message}");
        let quota = answered(403, "artifacts \"a\" is forbidden: exceeded quota: small");
        assert_eq!(trouble(&quota, 1).map(|(reason, _)| reason), Some(Reason::QuotaExceeded));
        assert_eq!(trouble(&ReconcileError::Conflict, 99), None);
    }

    #[test]
    fn a_run_that_cannot_go_on_keeps_what_is_recorded() {
        let mut execution = api::Execution::new(
            "e",
            serde_json::from_value(serde_json::json!({ "workflowRef": { "name": "w" } })).expect("a spec"),
        );
        execution.status =
            Some(api::ExecutionStatus { state: Some("newer".to_owned()), ..status(1, 0, Reason::Running) });
        let now = Timestamp::UNIX_EPOCH;
        let after = unreadable(&execution, "it has format 9", now);
        assert_eq!(after.state.as_deref(), Some("newer"));
        assert!(after.completion_time.is_none());
        let stalled = after.conditions.iter().find(|found| found.condition_type == ConditionType::Stalled);
        assert_eq!(
            stalled.map(|found| (found.status, found.reason)),
            Some((ConditionStatus::True, Reason::RecordUnreadable))
        );
    }
}
