//! Executions: pinned, driven by pods, recorded.

mod attempt;
mod drive;
pub mod facts;
mod finish;
mod history;
mod inputs;
pub mod memory;
mod notify;
pub mod pod;
pub mod refusal;
mod restore;
mod start;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::core::DynamicObject;
use kube::{Resource, ResourceExt};
use pintail_api as api;
use pintail_execution::launch::PENDING;

use super::error::{Attempted, ReconcileError};
use super::object::{decode, quarantine, version, write_status};
use super::unit::Unit;
use crate::controllers::work_queue::Action;
use memory::Remembered;

/// An Execution and what was remembered of it while it is reconciled.
struct Subject {
    object: Arc<DynamicObject>,
    execution: Arc<api::Execution>,
    namespace: String,
    name: String,
    uid: String,
}

pub async fn reconcile(unit: Arc<Unit>, object: Arc<DynamicObject>) -> Result<Action, ReconcileError> {
    let uid = object.uid().unwrap_or_default();
    let mut remembered = unit.memory.take(&uid);
    let result = advance(&unit, &object, &mut remembered).await;
    if let Err(error) = &result {
        // Whatever was under way is found out anew from what is recorded.
        remembered.driven = None;
        if !matches!(error, ReconcileError::Conflict) {
            remembered.failures = remembered.failures.saturating_add(1);
        }
        show_trouble(&unit, &object, &mut remembered, error).await;
        remembered.read_live = matches!(error, ReconcileError::Conflict);
    } else {
        remembered.failures = 0;
    }
    unit.memory.put(uid.clone(), remembered);
    // It went meanwhile: nobody tells of that again.
    if !unit.executions.knows(&object) {
        unit.memory.forget(&uid);
    }
    result
}

/// What holds runs up people should see. What cannot be written is left: it is tried again.
async fn show_trouble(unit: &Unit, object: &DynamicObject, remembered: &mut Remembered, error: &ReconcileError) {
    let Some((reason, message)) = status::trouble(error, remembered.failures) else { return };
    let Ok(execution) = decode::<api::Execution>(object) else { return };
    if version(object) < remembered.version || matches!(stage(object), Stage::Ended | Stage::Closed) {
        return;
    }
    let status = status::held_up(&execution, reason, &message, unit.context.clock.now());
    let objects = unit.api(&unit.executions, &object.namespace().unwrap_or_default());
    match write_status(&objects, object, &status).await {
        Ok(Some(written)) => remembered.version = version(&written),
        Ok(None) => {}
        Err(error) => tracing::debug!("{error}"),
    }
}

async fn advance(
    unit: &Unit,
    object: &Arc<DynamicObject>,
    remembered: &mut Remembered,
) -> Result<Action, ReconcileError> {
    let Some(object) = newest(unit, object, remembered).await? else { return Ok(Action::await_change()) };
    if object.meta().deletion_timestamp.is_some() {
        // Its pods go with it, by their owner reference.
        remembered.driven = None;
        return Ok(Action::await_change());
    }
    let namespace = object.namespace().unwrap_or_default();
    let execution = match decoded(&object, remembered) {
        Ok(execution) => execution,
        Err(cause) => {
            let objects = unit.api(&unit.executions, &namespace);
            quarantine(&objects, &object, &cause, unit.context.clock.now()).await?;
            return Ok(Action::await_change());
        }
    };
    let (name, uid) = (object.name_any(), object.uid().unwrap_or_default());
    let subject = Subject { object, execution, namespace, name, uid };
    match stage(&subject.object) {
        Stage::Waiting => start::reconcile(unit, subject, remembered).await,
        Stage::Running => drive::reconcile(unit, subject, remembered).await,
        Stage::Ended | Stage::Closed => finish::reconcile(unit, subject, remembered).await,
    }
}

/// The object as an Execution: while it runs it is looked at several times for each of its versions.
fn decoded(object: &DynamicObject, remembered: &mut Remembered) -> Result<Arc<api::Execution>, String> {
    let version = object.resource_version();
    if let Some((of, execution)) = &remembered.decoded
        && *of == version
    {
        return Ok(Arc::clone(execution));
    }
    let execution = Arc::new(decode(object)?);
    // Of runs under way alone: of others there may be thousands.
    remembered.decoded = (stage(object) == Stage::Running).then(|| (version, Arc::clone(&execution)));
    Ok(execution)
}

/// How far an Execution is, by its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing is pinned yet.
    Waiting,
    Running,
    /// What follows the end is under way: its record is made, somebody is told.
    Ended,
    /// All of that is done.
    Closed,
}

pub fn stage(execution: &DynamicObject) -> Stage {
    let found = |path: &str| execution.data.pointer(path).filter(|found| !found.is_null());
    let mut told = found("/status/notifications").and_then(|told| told.as_array()).into_iter().flatten();
    match (found("/status/completionTime"), found("/status/resolved")) {
        (None, None) => Stage::Waiting,
        (None, Some(_)) => Stage::Running,
        (Some(_), _) if found("/status/state").is_some() => Stage::Ended,
        (Some(_), _) if told.any(|told| told["state"] == PENDING) => Stage::Ended,
        (Some(_), _) => Stage::Closed,
    }
}

/// The newest that is known of the object: a view that is older than what was written is not looked at.
async fn newest(
    unit: &Unit,
    seen: &Arc<DynamicObject>,
    remembered: &mut Remembered,
) -> Result<Option<Arc<DynamicObject>>, ReconcileError> {
    let mut object = Arc::clone(seen);
    if std::mem::take(&mut remembered.read_live) {
        let objects = unit.api(&unit.executions, &seen.namespace().unwrap_or_default());
        let name = seen.name_any();
        let live = objects.get_opt(&name).await.attempted(|| format!("read Execution {name}"))?;
        let Some(live) = live.filter(|live| live.uid() == seen.uid()) else { return Ok(None) };
        object = Arc::new(live);
    }
    if version(&*object) >= remembered.version {
        return Ok(Some(object));
    }
    Ok(remembered.driven.as_ref().map(|driven| Arc::clone(&driven.object)))
}

/// How long until `at`; a little more than nothing where it is past.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    const LEAST: Duration = Duration::from_millis(1);
    Duration::try_from(at.duration_since(now)).unwrap_or_default().max(LEAST)
}

fn later(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_has_ended_is_closed_once_it_is_recorded_and_all_are_told() {
        let resource = kube::api::ApiResource::erase::<api::Execution>(&());
        let with = |status: serde_json::Value| {
            let mut object = DynamicObject::new("e", &resource);
            object.data = serde_json::json!({ "status": status });
            stage(&object)
        };
        let ended = "2026-11-20T12:00:00Z";
        for (status, expected) in [
            (serde_json::json!({}), Stage::Waiting),
            (serde_json::json!({ "resolved": {}, "state": "s" }), Stage::Running),
            (serde_json::json!({ "resolved": {}, "state": "s", "completionTime": ended }), Stage::Ended),
            (serde_json::json!({ "completionTime": ended, "notifications": [{ "state": "Pending" }] }), Stage::Ended),
            (serde_json::json!({ "completionTime": ended, "notifications": [{ "state": "Sent" }] }), Stage::Closed),
            (serde_json::json!({ "resolved": {}, "completionTime": ended }), Stage::Closed),
        ] {
            assert_eq!(with(status.clone()), expected, "{status}");
        }
    }
}
