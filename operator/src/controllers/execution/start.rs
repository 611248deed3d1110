//! Before a run starts: what it waits for, and what it is pinned to.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use pintail_api as api;
use pintail_api::{ConditionReason as Reason, ConditionStatus, ConditionType};
use pintail_execution::{BoundInput, Reusable, Run, RunContext};
use pintail_plan::{Plan, Problem, Surroundings, check_execution, check_inputs_on_cluster};
use pintail_protocol::ResultLineage;

use super::drive;
use super::history::committed_of;
use super::inputs::{self, NoVersion};
use super::memory::Remembered;
use super::refusal::is_never_taken;
use super::status::{self, Shown};
use super::{Subject, later, notify, until};
use crate::Settings;
use crate::controllers::checks::{self, Examined};
use crate::controllers::error::{Attempted, ReconcileError};
use crate::controllers::event::{self, Happened};
use crate::controllers::launch::gate::{Gate, gate};
use crate::controllers::launch::marker;
use crate::controllers::leftovers;
use crate::controllers::object::{Said, condition, conditions, decode, version, write_status};
use crate::controllers::revision::{self, Revision};
use crate::controllers::unit::Unit;
use crate::controllers::work_queue::Action;
use crate::controllers::workflow;

/// How long to wait for what is not there, if the Execution does not say.
const START_DEADLINE: Duration = Duration::from_secs(600);
/// What is waited for wakes the run itself; this is for what is not watched, such as ConfigMaps.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What came of looking at all that a run needs.
enum Prepared {
    Ready(Box<Ready>),
    /// Not yet.
    Waits(Reason, String),
    /// Never.
    Refused(Reason, String),
}

struct Ready {
    run: Run,
    revision: Revision,
    reuses: Vec<String>,
}

pub async fn reconcile(unit: &Unit, subject: Subject, remembered: &mut Remembered) -> Result<Action, ReconcileError> {
    let spec = &subject.execution.spec;
    if spec.cancel == Some(true) {
        return end(unit, &subject, remembered, Reason::Cancelled, "the run was cancelled before it started").await;
    }
    if spec.suspend == Some(true) {
        return wait(unit, &subject, remembered, Reason::Suspended, "the run is suspended", None).await;
    }
    match gate(unit, &subject.namespace, &subject.execution).await {
        Gate::Open => {}
        Gate::Queued(message) => return wait(unit, &subject, remembered, Reason::Queued, &message, None).await,
        Gate::Closed(reason, message) => return end(unit, &subject, remembered, reason, &message).await,
    }
    match prepare(unit, &subject).await? {
        Prepared::Ready(ready) => pin(unit, subject, remembered, *ready).await,
        Prepared::Refused(reason, message) => end(unit, &subject, remembered, reason, &message).await,
        Prepared::Waits(reason, message) => {
            let now = unit.context.clock.now();
            let deadline = later(waits_since(&conditions(&subject.object), now), start_deadline(spec));
            if now < deadline {
                return wait(unit, &subject, remembered, reason, &message, Some(deadline)).await;
            }
            let message = format!("waited in vain until {deadline:.0}, as `startDeadline` allows: {message}");
            end(unit, &subject, remembered, Reason::StartDeadlineExceeded, &message).await
        }
    }
}

fn start_deadline(spec: &api::ExecutionSpec) -> Duration {
    let given = spec.start_deadline.as_deref().and_then(|text| pintail_plan::parse_duration(text).ok());
    given.unwrap_or(START_DEADLINE)
}

/// Since when the run has been said to wait: neither while it was suspended, nor while no operator looked.
fn waits_since(before: &[api::Condition], now: Timestamp) -> Timestamp {
    let waits = |found: &&api::Condition| {
        found.condition_type == ConditionType::Reconciling
            && found.status == ConditionStatus::True
            && !is_held(found.reason)
    };
    before.iter().find(waits).and_then(|found| found.last_transition_time.parse().ok()).unwrap_or(now)
}

/// Whether somebody holds the run, so that it waits for nothing yet.
fn is_held(reason: Reason) -> bool {
    matches!(reason, Reason::Suspended | Reason::Queued)
}

/// The conditions before. A run that was let go begins to wait anew.
fn conditions_before(subject: &Subject, reason: Reason) -> Vec<api::Condition> {
    let mut before = conditions(&subject.object);
    before.retain(|found| !is_held(found.reason) || is_held(reason));
    before
}

async fn prepare(unit: &Unit, subject: &Subject) -> Result<Prepared, ReconcileError> {
    let spec = &subject.execution.spec;
    let refused = |problems: &[Problem]| Prepared::Refused(Reason::InvalidInputs, lines(problems));
    let problems = check_execution(spec);
    if !problems.is_empty() {
        return Ok(refused(&problems));
    }
    let name = &spec.workflow_ref.name;
    let found = match workflow_of(unit, &subject.namespace, name).await? {
        Ok(found) => found,
        Err(waits) => return Ok(waits),
    };
    let config_maps = revision::config_maps(&unit.context.client, &subject.namespace, &found.spec).await?;
    let connections = unit.connections_of(&subject.namespace).await;
    let surroundings = Surroundings { connections, config_maps };
    let plan = match workflow::plan(&found, &surroundings, &unit.context.settings.runner) {
        Ok(plan) => plan,
        Err(problems) => {
            let message = format!("Workflow {name} is not ready:\n{}", lines(&problems));
            return Ok(Prepared::Waits(Reason::WorkflowNotReady, message));
        }
    };
    let lineage = match checked(unit, subject, &found, &plan, &surroundings).await {
        Ok(lineage) => lineage,
        Err(waits) => return Ok(waits),
    };
    let bound = match pintail_plan::bind_inputs(&plan, &spec.inputs) {
        Ok(bound) => bound,
        Err(problems) => return Ok(refused(&problems)),
    };
    let problems = check_inputs_on_cluster(&bound);
    if !problems.is_empty() {
        return Ok(refused(&problems));
    }
    let retried = match retried(unit, subject).await? {
        Ok(retried) => retried,
        Err(message) => return Ok(Prepared::Refused(Reason::InvalidInputs, message)),
    };
    let artifacts = artifacts(unit, &subject.namespace, &bound).await?;
    let inputs = match inputs::pin(bound, &plan, &artifacts, retried.as_ref()) {
        Ok(inputs) => inputs,
        Err(NoVersion::Yet(message)) => return Ok(Prepared::Waits(Reason::InputMissing, message)),
        Err(NoVersion::BreaksContract(message)) => return Ok(Prepared::Refused(Reason::ContractBroken, message)),
    };
    let reusable = match &retried {
        Some(retried) => committed_of(&unit.context.store, retried, &subject.namespace).await?,
        None => Reusable::new(),
    };
    let revision = Revision { name: name.clone(), spec: found.spec, config_maps: surroundings.config_maps, lineage };
    assemble(unit, subject, plan, inputs, reusable, revision)
}

/// Nothing starts whose SQL is not found right, where there is a checker: also not where the Workflow's status is behind.
/// Gives where its columns come from, as far as that is known.
async fn checked(
    unit: &Unit,
    subject: &Subject,
    workflow: &api::Workflow,
    plan: &Plan,
    surroundings: &Surroundings,
) -> Result<Vec<ResultLineage>, Prepared> {
    let connections = &surroundings.connections;
    let examined = checks::examine(unit, &subject.namespace, workflow, plan, connections).await;
    let finding = workflow::finding(workflow, Ok(plan), &examined, &surroundings.config_maps);
    if finding.is_ready != Some(true) {
        let message = format!("Workflow {} is not ready:\n{}", workflow.name_any(), finding.message);
        return Err(Prepared::Waits(Reason::WorkflowNotReady, message));
    }
    Ok(match examined {
        Examined::Judged { judgement, .. } => judgement.lineage.clone(),
        _ => Vec::new(),
    })
}

/// The Workflow as it is at this moment; `Err` where it is missing or cannot be read.
async fn workflow_of(
    unit: &Unit,
    namespace: &str,
    name: &str,
) -> Result<Result<api::Workflow, Prepared>, ReconcileError> {
    let found = unit.api(&unit.workflows, namespace).get_opt(name).await;
    let found = found.attempted(|| format!("read Workflow {name}"))?;
    Ok(match found.as_ref().map(decode) {
        Some(Ok(workflow)) => Ok(workflow),
        Some(Err(cause)) => {
            Err(Prepared::Waits(Reason::WorkflowNotReady, format!("Workflow {name} cannot be read: {cause}")))
        }
        None => Err(Prepared::Waits(Reason::WorkflowMissing, format!("there is no Workflow {name}"))),
    })
}

fn assemble(
    unit: &Unit,
    subject: &Subject,
    plan: Plan,
    inputs: Vec<BoundInput>,
    reusable: Reusable,
    revision: Revision,
) -> Result<Prepared, ReconcileError> {
    let reuses = reused_uids(&reusable);
    let context = run_context(unit, subject, unit.context.clock.now());
    Ok(match Run::new(plan, context, inputs, reusable) {
        Ok(run) => Prepared::Ready(Box::new(Ready { run, revision, reuses })),
        Err(failure) => Prepared::Refused(Reason::InvalidInputs, crate::controllers::error::failure_words(&failure)),
    })
}

pub fn run_context(unit: &Unit, subject: &Subject, start_time: Timestamp) -> RunContext {
    RunContext {
        namespace: subject.namespace.clone(),
        name: subject.name.clone(),
        uid: subject.uid.clone(),
        start_time,
        started_by: subject.execution.spec.trigger.clone(),
        store: unit.context.store.location().clone(),
    }
}

/// The run that is retried; `Err` where it is gone or cannot be read.
async fn retried(unit: &Unit, subject: &Subject) -> Result<Result<Option<api::Execution>, String>, ReconcileError> {
    let Some(retry) = &subject.execution.spec.retry_of else { return Ok(Ok(None)) };
    let name = &retry.execution;
    let instead = "create a run without `retryOf`";
    Ok(match find_execution(unit, &subject.namespace, name).await? {
        Some(Ok(found)) => Ok(Some(found)),
        Some(Err(cause)) => Err(format!("spec.retryOf: Execution {name} cannot be read ({cause}); {instead}")),
        None => Err(format!("spec.retryOf: there is no Execution {name}; {instead}")),
    })
}

/// An Execution as it is at this moment.
pub async fn find_execution(
    unit: &Unit,
    namespace: &str,
    name: &str,
) -> Result<Option<Result<api::Execution, String>>, ReconcileError> {
    let found = unit.api(&unit.executions, namespace).get_opt(name).await;
    Ok(found.attempted(|| format!("read Execution {name}"))?.as_ref().map(decode))
}

/// The versions of the datasets that inputs are bound to, as they are at this moment.
async fn artifacts(
    unit: &Unit,
    namespace: &str,
    bound: &[(String, pintail_plan::InputValue)],
) -> Result<Vec<api::Artifact>, ReconcileError> {
    let reads_dataset = |value: &pintail_plan::InputValue| match value {
        pintail_plan::InputValue::Table(source) => source.artifact.is_some(),
        pintail_plan::InputValue::Scalar(_) => false,
    };
    if !bound.iter().any(|(_, value)| reads_dataset(value)) {
        return Ok(Vec::new());
    }
    let objects = unit.api(&unit.artifacts, namespace).list(&kube::api::ListParams::default()).await;
    let objects = objects.attempted(|| format!("list the Artifacts of {namespace}"))?;
    Ok(objects.items.iter().filter_map(|object| decode(object).ok()).collect())
}

/// The runs whose files may become files of this run: they are kept for as long as it is.
pub fn reused_uids(reusable: &Reusable) -> Vec<String> {
    let keys = reusable.values().flat_map(|result| {
        let results = match &result.report.outcome {
            pintail_protocol::ReportOutcome::Succeeded(results) => Some(results),
            pintail_protocol::ReportOutcome::Failed(_) => None,
        };
        let tables = results.into_iter().flat_map(|results| &results.tables).flat_map(|table| &table.files);
        let files = results.into_iter().flat_map(|results| &results.files).map(|file| &file.file);
        std::iter::once(result.key.as_str()).chain(tables.chain(files).map(|file| file.key.as_str()))
    });
    let uid = |key: &str| {
        let mut parts = key.split('/').skip_while(|part| *part != "runs").skip(1);
        parts.next().map(str::to_owned)
    };
    let uids: std::collections::BTreeSet<String> = keys.filter_map(uid).collect();
    uids.into_iter().collect()
}

/// The first write of a run: all that it is pinned to. What follows reads only that.
async fn pin(
    unit: &Unit,
    subject: Subject,
    remembered: &mut Remembered,
    ready: Ready,
) -> Result<Action, ReconcileError> {
    let Ready { run, revision, reuses } = ready;
    if let Some(started) = &subject.execution.spec.trigger
        && !marker::claim(&unit.context.store, &subject.namespace, started, &subject.name, &subject.uid).await?
    {
        let message = "another Execution ran for the same occurrence before, and is gone";
        return end(unit, &subject, remembered, Reason::AlreadyStarted, message).await;
    }
    let now = unit.context.clock.now();
    let held = unit.revisions.read().await;
    revision::keep(&unit.context.client, &subject.namespace, &run.plan.revision, &revision).await?;
    leftovers::announce(&unit.context.store, &run).await?;
    let before = conditions(&subject.object);
    let shown = Shown::new(&subject.execution, now);
    let mut status = match status::of_run(&run, &before, &shown) {
        Ok(status) => status,
        Err(error) => return end(unit, &subject, remembered, Reason::RecordTooLarge, &error.to_string()).await,
    };
    if let Some(resolved) = &mut status.resolved {
        resolve(resolved, &unit.context.settings);
        resolved.reuses = reuses;
    }
    let objects = unit.api(&unit.executions, &subject.namespace);
    let written = write_status(&objects, &subject.object, &status).await;
    drop(held);
    let written = match written {
        Err(error) if is_never_taken(&error) => {
            return end(unit, &subject, remembered, Reason::RecordTooLarge, &error.to_string()).await;
        }
        written => written?,
    };
    let object = written.map_or_else(|| Arc::clone(&subject.object), Arc::new);
    remembered.version = version(&*object);
    let revision = &run.plan.revision;
    let started = Happened {
        reason: "Started",
        action: "Start",
        warning: false,
        note: format!("the run started, pinned to {revision}"),
        key: String::new(),
    };
    event::record(&unit.context, &object, &started).await;
    drive::begin(unit, subject, object, remembered, run, status).await
}

/// What the installation adds to what is pinned.
fn resolve(resolved: &mut api::Resolved, settings: &Settings) {
    resolved.runner_image = Some(settings.runner.image.clone());
    resolved.order_format = Some(i64::from(pintail_protocol::FORMAT));
    resolved.store = Some(settings.store.uri.clone());
    resolved.reader = Some(api::Reader {
        service_account: settings.runner.service_account.clone(),
        secret_name: settings.store.secret_name.clone(),
        environment: settings.store.environment.clone(),
        image_pull_secrets: settings.runner.image_pull_secrets.clone(),
    });
}

/// Says what the run waits for.
async fn wait(
    unit: &Unit,
    subject: &Subject,
    remembered: &mut Remembered,
    reason: Reason,
    message: &str,
    deadline: Option<Timestamp>,
) -> Result<Action, ReconcileError> {
    let now = unit.context.clock.now();
    let status = unstarted(subject, reason, message, None, now);
    write(unit, subject, remembered, &status).await?;
    unit.context.metrics.execution_active(&subject.uid, std::collections::BTreeMap::new());
    Ok(match deadline {
        Some(deadline) => Action::requeue(until(deadline, now).min(LOOK_AGAIN)),
        None => Action::await_change(),
    })
}

/// Ends a run that never started.
async fn end(
    unit: &Unit,
    subject: &Subject,
    remembered: &mut Remembered,
    reason: Reason,
    message: &str,
) -> Result<Action, ReconcileError> {
    let now = unit.context.clock.now();
    let mut status = unstarted(subject, reason, message, Some(ConditionStatus::False), now);
    notify::list(unit, &subject.execution, &mut status).await;
    write(unit, subject, remembered, &status).await?;
    let outcome = if reason == Reason::Cancelled { "cancelled" } else { "failed" };
    unit.context.metrics.execution_ended(outcome);
    unit.context.metrics.execution_inactive(&subject.uid);
    let happened = Happened {
        reason: if reason == Reason::Cancelled { "Cancelled" } else { "Failed" },
        action: "Start",
        warning: reason != Reason::Cancelled,
        note: format!("{reason}: {message}"),
        key: String::new(),
    };
    event::record(&unit.context, &subject.object, &happened).await;
    Ok(Action::await_change())
}

fn unstarted(
    subject: &Subject,
    reason: Reason,
    message: &str,
    ended: Option<ConditionStatus>,
    now: Timestamp,
) -> api::ExecutionStatus {
    let generation = subject.execution.metadata.generation;
    let said = Said { reason, message, generation, now };
    let truth = |holds| if holds { ConditionStatus::True } else { ConditionStatus::False };
    let states = [
        (ConditionType::Succeeded, ended.unwrap_or(ConditionStatus::Unknown)),
        (ConditionType::Ready, ConditionStatus::False),
        (ConditionType::Reconciling, truth(ended.is_none())),
        (ConditionType::Stalled, truth(ended.is_some())),
    ];
    let mut conditions = conditions_before(subject, reason);
    for (kind, status) in states {
        api::set_condition(&mut conditions, condition(kind, status, &said));
    }
    api::ExecutionStatus {
        observed_generation: generation,
        conditions,
        completion_time: ended.map(|_| now.to_string()),
        ..api::ExecutionStatus::default()
    }
}

async fn write(
    unit: &Unit,
    subject: &Subject,
    remembered: &mut Remembered,
    status: &api::ExecutionStatus,
) -> Result<(), ReconcileError> {
    let objects = unit.api(&unit.executions, &subject.namespace);
    if let Some(written) = write_status(&objects, &subject.object, status).await? {
        remembered.version = version(&written);
    }
    Ok(())
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_deadline_counts_from_the_first_status_that_says_it_waits() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().expect("a time");
        let said = |reason| api::Condition {
            condition_type: ConditionType::Reconciling,
            status: ConditionStatus::True,
            reason,
            message: String::new(),
            last_transition_time: "2026-11-20T11:00:00Z".to_owned(),
            observed_generation: None,
        };
        assert_eq!(waits_since(&[], now), now);
        assert_eq!(waits_since(&[said(Reason::Suspended)], now), now);
        assert_eq!(waits_since(&[said(Reason::WorkflowMissing)], now).to_string(), "2026-11-20T11:00:00Z");
    }
}
