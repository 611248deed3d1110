//! A run that has ended: what it published, its record, and what is tidied up.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use pintail_api as api;
use pintail_api::{ConditionReason as Reason, ConditionType};
use pintail_engine::RunOutcome;
use pintail_execution::Run;

use super::attempt::Pods;
use super::drive::{happened, write};
use super::facts::{PodFacts, has_found_a_lock, pod_facts};
use super::memory::{Driven, Remembered};
use super::notify::{self, Told};
use super::pod::{ATTEMPT_ANNOTATION, TASK_ANNOTATION};
use super::refusal::{Refusal, refusal};
use super::status::{self, Shown};
use super::{Subject, history, later, until};
use crate::controllers::artifact;
use crate::controllers::error::{Attempted, ReconcileError, words};
use crate::controllers::event::{self, Happened};
use crate::controllers::leftovers;
use crate::controllers::object::{version, write_status};
use crate::controllers::unit::Unit;
use crate::controllers::work_queue::Action;

/// Longer than any lease: a paused former leader that wakes up must still find the pod, or it would create it again.
const RECORDED_POD_STAYS: Duration = Duration::from_secs(60);

/// Artifacts first: an Execution that says Succeeded has published.
pub async fn conclude(
    unit: &Unit,
    subject: &Subject,
    remembered: &mut Remembered,
    driven: Driven,
) -> Result<Action, ReconcileError> {
    let now = unit.context.clock.now();
    let refused = publish(unit, &driven).await?;
    let shown = Shown::new(&subject.execution, now);
    let status = status::of_run(&driven.run, &driven.written.conditions, &shown);
    let mut status = status.unwrap_or_else(|error| status::too_large(&driven.written, &error.to_string(), &shown));
    status.resolved.clone_from(&driven.written.resolved);
    if let Some(message) = &refused {
        status::fail(&mut status, Reason::PublishFailed, message, &shown);
    }
    let written = write(unit, subject, &driven, &mut status, &shown).await?;
    let object = written.map_or_else(|| Arc::clone(&driven.object), Arc::new);
    remembered.version = version(&*object);
    for happened in happened(&driven.written, &status) {
        event::record(&unit.context, &object, &happened).await;
    }
    let outcome = driven.run.outcome().filter(|_| !status::is_of_the_run(&status));
    event::record(&unit.context, &object, &ended(outcome, &status)).await;
    unit.context.metrics.execution_ended(match outcome {
        Some(RunOutcome::Succeeded) => "succeeded",
        Some(RunOutcome::Cancelled) => "cancelled",
        Some(RunOutcome::Failed(_)) | None => "failed",
    });
    unit.context.metrics.execution_inactive(&subject.uid);
    // What follows the end has a reconcile of its own.
    Ok(Action::requeue(Duration::from_millis(1)))
}

fn ended(outcome: Option<RunOutcome>, status: &api::ExecutionStatus) -> Happened {
    let condition = status.conditions.iter().find(|found| found.condition_type == ConditionType::Succeeded);
    let message = condition.map(|condition| condition.message.clone()).unwrap_or_default();
    let (reason, note) = match outcome {
        Some(RunOutcome::Succeeded) => ("Succeeded", "the run succeeded".to_owned()),
        Some(RunOutcome::Cancelled) => ("Cancelled", "the run was cancelled".to_owned()),
        Some(RunOutcome::Failed(_)) | None => ("Failed", message),
    };
    Happened { reason, action: "Run", warning: reason == "Failed", note, key: String::new() }
}

/// Makes the run's Artifacts; says why where the cluster does not take one.
async fn publish(unit: &Unit, driven: &Driven) -> Result<Option<String>, ReconcileError> {
    let run = &driven.run;
    for made in run.artifacts() {
        let made = artifact::published(made);
        let name = made.name_any();
        let artifacts: Api<api::Artifact> = Api::namespaced(unit.context.client.clone(), &run.context.namespace);
        match artifacts.create(&PostParams::default(), &made).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => match refused(&error) {
                Some(cause) => return Ok(Some(format!("Artifact {name} could not be made: {cause}"))),
                None => return Err(error).attempted(|| format!("create Artifact {name}")),
            },
        }
    }
    if run.outcome() == Some(RunOutcome::Succeeded) {
        let reuses = driven.written.resolved.as_ref().map(|resolved| resolved.reuses.as_slice());
        leftovers::published(&unit.context.store, run, reuses.unwrap_or_default()).await?;
    }
    Ok(None)
}

/// Why the cluster will never take an Artifact; none where it may later.
fn refused(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    matches!(refusal(status), Refusal::Fail(_)).then(|| words(error))
}

pub async fn reconcile(unit: &Unit, subject: Subject, remembered: &mut Remembered) -> Result<Action, ReconcileError> {
    remembered.driven = None;
    unit.pods.wait_until_ready().await;
    unit.context.metrics.execution_inactive(&subject.uid);
    end_pods(unit, &subject).await?;
    let observed = subject.execution.status.as_ref().and_then(|status| status.observed_generation);
    if subject.execution.status.as_ref().is_some_and(|status| status.state.is_some()) {
        return record(unit, &subject, remembered).await;
    }
    // Whatever was asked of it after its end is seen, and changes nothing.
    if observed != subject.execution.metadata.generation {
        return settle(unit, &subject, remembered).await;
    }
    let tell_at = match notify::tell(unit, &subject, remembered).await? {
        Told::Written => return Ok(Action::requeue(Duration::from_millis(1))),
        Told::Later(at) => Some(at),
        Told::All => None,
    };
    let now = unit.context.clock.now();
    // Whoever is to be told of the run is told before it goes.
    let delete_at = delete_at(&subject.execution).filter(|_| tell_at.is_none());
    if delete_at.is_some_and(|at| at <= now) {
        return delete(unit, &subject).await;
    }
    let pods = unit.pods.of_execution(&subject.uid);
    let past = pods.iter().map(|pod| &**pod).filter(|pod| !notify::is_live(&subject.execution, pod));
    let tidy_at = tidy_pods(unit, remembered, &subject, past).await?;
    Ok(delete_at
        .into_iter()
        .chain(tidy_at)
        .chain(tell_at)
        .min()
        .map_or_else(Action::await_change, |at| Action::requeue(until(at, now))))
}

/// Whatever was started and is no longer wanted ends: nothing runs on after its run.
async fn end_pods(unit: &Unit, subject: &Subject) -> Result<(), ReconcileError> {
    let now = unit.context.clock.now();
    let pods = Pods { unit, namespace: &subject.namespace, execution: &subject.name, uid: &subject.uid };
    let pods_of = unit.pods.of_execution(&subject.uid);
    for pod in pods_of.iter().filter(|pod| !notify::is_live(&subject.execution, pod)) {
        let facts = pod_facts(pod, None, now);
        let lingers = matches!(&facts, PodFacts::Ended(ended) if ended.lingers);
        if lingers || matches!(facts, PodFacts::Waiting(_) | PodFacts::Running { .. }) {
            pods.end(pod, now).await?;
        }
    }
    Ok(())
}

/// The record goes into the store; then the cluster need not keep the state any more.
async fn record(unit: &Unit, subject: &Subject, remembered: &mut Remembered) -> Result<Action, ReconcileError> {
    history::write(&unit.context.store, subject).await?;
    let mut status = subject.execution.status.clone().unwrap_or_default();
    status.state = None;
    let objects = unit.api(&unit.executions, &subject.namespace);
    if let Some(written) = write_status(&objects, &subject.object, &status).await? {
        remembered.version = version(&written);
    }
    Ok(Action::requeue(Duration::from_millis(1)))
}

/// Says which generation of the spec was seen.
async fn settle(unit: &Unit, subject: &Subject, remembered: &mut Remembered) -> Result<Action, ReconcileError> {
    let status = settled(&subject.execution);
    let objects = unit.api(&unit.executions, &subject.namespace);
    if let Some(written) = write_status(&objects, &subject.object, &status).await? {
        remembered.version = version(&written);
    }
    Ok(Action::requeue(Duration::from_millis(1)))
}

fn settled(execution: &api::Execution) -> api::ExecutionStatus {
    let mut status = execution.status.clone().unwrap_or_default();
    status.observed_generation = execution.metadata.generation;
    for condition in &mut status.conditions {
        condition.observed_generation = execution.metadata.generation;
    }
    status
}

fn delete_at(execution: &api::Execution) -> Option<Timestamp> {
    let ttl = pintail_plan::parse_duration(execution.spec.ttl_after_finished.as_deref()?).ok()?;
    let ended: Timestamp = execution.status.as_ref()?.completion_time.as_deref()?.parse().ok()?;
    Some(later(ended, ttl))
}

async fn delete(unit: &Unit, subject: &Subject) -> Result<Action, ReconcileError> {
    let objects = unit.api(&unit.executions, &subject.namespace);
    let preconditions =
        Preconditions { uid: Some(subject.uid.clone()), resource_version: subject.object.resource_version() };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match objects.delete(&subject.name, &parameters).await {
        Ok(_) => Ok(Action::await_change()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::await_change()),
        Err(error) => Err(error).attempted(|| format!("delete Execution {}", subject.name)),
    }
}

/// Deletes pods of a run under way whose attempts have ended and are recorded. Gives when the next is to go.
pub async fn tidy(
    unit: &Unit,
    remembered: &mut Remembered,
    run: &Run,
    all_written: bool,
) -> Result<Option<Timestamp>, ReconcileError> {
    if !all_written {
        return Ok(None);
    }
    let pods = unit.pods.of_execution(&run.context.uid);
    let past = pods.iter().map(|pod| &**pod).filter(|pod| !is_live(run, pod));
    let (namespace, execution, uid) = (&run.context.namespace, &run.context.name, &run.context.uid);
    tidy_all(&Pods { unit, namespace, execution, uid }, remembered, past).await
}

async fn tidy_pods(
    unit: &Unit,
    remembered: &mut Remembered,
    subject: &Subject,
    pods: impl Iterator<Item = &Pod>,
) -> Result<Option<Timestamp>, ReconcileError> {
    let of = Pods { unit, namespace: &subject.namespace, execution: &subject.name, uid: &subject.uid };
    tidy_all(&of, remembered, pods).await
}

async fn tidy_all(
    pods: &Pods<'_>,
    remembered: &mut Remembered,
    past: impl Iterator<Item = &Pod>,
) -> Result<Option<Timestamp>, ReconcileError> {
    let context = &pods.unit.context;
    let now = context.clock.now();
    let failed_stays = Duration::from_secs(context.settings.runner.pod_ttl_seconds).max(RECORDED_POD_STAYS);
    let mut next: Option<Timestamp> = None;
    for pod in past.filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let stays = match phase {
            "Succeeded" => RECORDED_POD_STAYS,
            // It says no more than that others held a lock, and there may be hundreds.
            "Failed" if has_found_a_lock(pod) => RECORDED_POD_STAYS,
            "Failed" => failed_stays,
            // It is being ended.
            _ => continue,
        };
        let recorded = remembered.recorded.entry(pod.uid().unwrap_or_default()).or_insert(now);
        let goes_at = later(*recorded, stays);
        if goes_at <= now {
            pods.delete(pod).await?;
        } else {
            next = Some(next.map_or(goes_at, |next| next.min(goes_at)));
        }
    }
    Ok(next)
}

/// Whether the pod is of an attempt that is under way.
fn is_live(run: &Run, pod: &Pod) -> bool {
    let annotations = pod.annotations();
    let task =
        annotations.get(TASK_ANNOTATION).and_then(|name| run.plan.tasks.iter().position(|task| task.name == *name));
    let number = annotations.get(ATTEMPT_ANNOTATION).and_then(|number| number.parse::<u32>().ok());
    let (Some(task), Some(number)) = (task.and_then(|task| u32::try_from(task).ok()), number) else { return false };
    run.phase(pintail_engine::TaskIndex(task)).live_attempt().is_some_and(|live| live <= number)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answered(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure(message, "").with_code(code)))
    }

    #[test]
    fn an_artifact_that_a_policy_denies_is_not_asked_for_again() {
        let denied = refused(&answered(403, "admission webhook \"policy\" denied the request: no"));
        assert!(denied.is_some_and(|cause| cause.contains("denied the request")));
        assert!(refused(&answered(422, "spec.columns: Too many")).is_some());
        assert_eq!(refused(&answered(403, "exceeded quota: small")), None);
        assert_eq!(refused(&answered(500, "etcdserver: request timed out")), None);
    }
}
