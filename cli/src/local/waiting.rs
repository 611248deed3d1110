//! Runs that a LaunchPlan starts: first they are there, then they may start, and only then are they pinned.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use pintail_api as api;
use pintail_api::{ConditionReason as Reason, ConditionStatus, ConditionType};
use pintail_execution::{Reusable, Run, RunContext};
use pintail_plan::Problem;
use pintail_storage::layout::DEFAULT_NAMESPACE;

use crate::failure::CommandFailure;
use crate::local::records::{Records, StoredExecution};
use crate::local::start::{RestoredRun, declare, max_running, pinned, versions_for};
use crate::manifests::Manifests;

/// What became of an occurrence.
pub enum Created {
    /// This run is for it, which waits.
    Now(Box<StoredExecution>),
    /// It had its run before.
    Before,
}

/// Creates the run of an occurrence, unless it has one or had one that is gone.
pub async fn create(
    records: &Records,
    mut run: api::Execution,
    manifests: &Manifests,
) -> Result<Created, CommandFailure> {
    if let Some(started) = &run.spec.trigger
        && records.claimed(started).await?.is_some()
    {
        return Ok(Created::Before);
    }
    declare(&mut run, &uuid::Uuid::new_v4().to_string(), Timestamp::now(), manifests);
    let created = records.try_create(run).await?;
    Ok(created.map_or(Created::Before, |stored| Created::Now(Box::new(stored))))
}

/// What became of a run that may start.
pub enum Started {
    Pinned(Box<RestoredRun>),
    /// It cannot run, and has ended.
    Ended(Box<api::Execution>),
}

/// Pins what the run runs, and writes it down: what follows reads only that.
pub async fn pin(
    records: &Records,
    stored: StoredExecution,
    manifests: &Arc<Manifests>,
) -> Result<Started, CommandFailure> {
    let execution = &stored.execution;
    let (name, uid) = (execution.name_any(), execution.uid().unwrap_or_default());
    if let Some(started) = &execution.spec.trigger
        && !records.claim(started, &name, &uid).await?
    {
        let message = "another run was there for the same occurrence before, and is gone";
        return ended(records, stored, Reason::AlreadyStarted, message).await;
    }
    let workflow = manifests.workflow(&execution.spec.workflow_ref.name)?;
    let mut plan = manifests.compile(workflow, manifests.config_maps().clone())?;
    plan.graph.max_running = max_running();
    let bound = match pintail_plan::bind_inputs(&plan, &execution.spec.inputs) {
        Ok(bound) => bound,
        Err(problems) => return ended(records, stored, Reason::InvalidInputs, &lines(&problems)).await,
    };
    let versions = versions_for(records, &bound).await?;
    let inputs = match pinned(&versions, bound) {
        Ok(inputs) => inputs,
        Err(message) => return ended(records, stored, Reason::InputMissing, &message).await,
    };
    records.keep_revision(&plan.revision, &manifests.revision(workflow)).await?;
    let context = RunContext {
        namespace: DEFAULT_NAMESPACE.to_owned(),
        name,
        uid,
        start_time: Timestamp::now(),
        started_by: execution.spec.trigger.clone(),
        store: records.store.location().clone(),
    };
    let run = match Run::new(plan, context, inputs, Reusable::new()) {
        Ok(run) => run,
        Err(failure) => return ended(records, stored, Reason::InvalidInputs, &failure.message).await,
    };
    let mut stored = stored;
    let before = stored.execution.status.take().map(|status| status.conditions).unwrap_or_default();
    stored.execution.status = Some(run.status(&before, Timestamp::now()).map_err(CommandFailure::failed)?);
    records.save(&mut stored).await?;
    Ok(Started::Pinned(Box::new(RestoredRun { run, stored, manifests: Arc::clone(manifests) })))
}

async fn ended(
    records: &Records,
    stored: StoredExecution,
    reason: Reason,
    message: &str,
) -> Result<Started, CommandFailure> {
    Ok(Started::Ended(Box::new(end(records, stored, reason, message).await?)))
}

/// Ends a run that never ran.
pub async fn end(
    records: &Records,
    mut stored: StoredExecution,
    reason: Reason,
    message: &str,
) -> Result<api::Execution, CommandFailure> {
    let now = Timestamp::now().to_string();
    let states = [
        (ConditionType::Succeeded, ConditionStatus::False),
        (ConditionType::Ready, ConditionStatus::False),
        (ConditionType::Reconciling, ConditionStatus::False),
        (ConditionType::Stalled, ConditionStatus::True),
    ];
    let condition = |(condition_type, status)| api::Condition {
        condition_type,
        status,
        reason,
        message: message.to_owned(),
        last_transition_time: now.clone(),
        observed_generation: Some(1),
    };
    stored.execution.status = Some(api::ExecutionStatus {
        observed_generation: Some(1),
        conditions: states.into_iter().map(condition).collect(),
        completion_time: Some(now.clone()),
        ..api::ExecutionStatus::default()
    });
    records.save(&mut stored).await?;
    Ok(stored.execution)
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
