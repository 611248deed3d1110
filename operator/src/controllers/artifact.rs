//! Artifacts: published versions. Each is immutable; what is left to do is to say that it is ready, to delete it when its
//! time is over, and to delete its data with it where that was asked for.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Resource, ResourceExt};
use pintail_api as api;
use pintail_api::ConditionReason as Reason;
use pintail_execution::label_digest;
use pintail_storage::layout;
use serde_json::{Value, json};

use super::error::{Attempted, ReconcileError, words};
use super::event::{self, Happened};
use super::launch::versions;
use super::object::{Said, conditions, decode, quarantine, ready_conditions, write_status};
use super::runner::{MANAGED_BY, MANAGED_BY_LABEL};
use super::unit::Unit;
use super::work_queue::Action;

/// Keeps the object until its data is gone. Only where its policy is `Delete`.
const FINALIZER: &str = "pintail.dev/reclaim";
/// The store is asked for this long; then the object goes without its data, which an event says.
const RECLAIM_WITHIN: Duration = Duration::from_secs(600);
/// A namespace on its way out is not held up for long.
const RECLAIM_WITHIN_ENDING_NAMESPACE: Duration = Duration::from_secs(20);
/// One try.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// An Artifact as it is created: marked, and held where its data goes with it.
pub fn published(mut artifact: api::Artifact) -> api::Artifact {
    artifact.status = None;
    let labels = [
        (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
        ("pintail.dev/dataset-digest".to_owned(), label_digest(&[&artifact.spec.artifact])),
    ];
    artifact.metadata.labels.get_or_insert_default().extend(labels);
    if artifact.spec.reclaim_policy == Some(api::ReclaimPolicy::Delete) {
        artifact.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    }
    artifact
}

pub async fn reconcile(unit: Arc<Unit>, object: Arc<DynamicObject>) -> Result<Action, ReconcileError> {
    let objects = unit.api(&unit.artifacts, &object.namespace().unwrap_or_default());
    let now = unit.context.clock.now();
    let decoded: Result<api::Artifact, String> = decode(&object);
    if object.meta().deletion_timestamp.is_some() {
        return reclaim(&unit, &objects, &object, decoded.ok()).await;
    }
    let artifact = match decoded {
        Ok(artifact) => artifact,
        Err(cause) => {
            quarantine(&objects, &object, &cause, now).await?;
            return Ok(Action::await_change());
        }
    };
    let goes_at = goes_at(&artifact.spec);
    if goes_at.is_some_and(|at| at <= now) {
        return expire(&objects, &object).await;
    }
    let wants_finalizer = artifact.spec.reclaim_policy == Some(api::ReclaimPolicy::Delete);
    if wants_finalizer && !object.finalizers().iter().any(|name| name == FINALIZER) {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(FINALIZER.to_owned());
        set_finalizers(&objects, &object, finalizers).await?;
        return Ok(Action::await_change());
    }
    let again = make_known(&unit, &objects, &object, &artifact, now).await?;
    let again = goes_at.map(|at| wait(at, now)).into_iter().chain(again).min();
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// Says that the version is Ready, then starts the runs that wait for it, once. Gives when to try again where one of them
/// found no room.
async fn make_known(
    unit: &Unit,
    objects: &Api<DynamicObject>,
    object: &DynamicObject,
    artifact: &api::Artifact,
    now: Timestamp,
) -> Result<Option<Duration>, ReconcileError> {
    let generation = artifact.metadata.generation;
    let said = Said { reason: Reason::Published, message: "", generation, now };
    let before = artifact.status.as_ref();
    let namespace = object.namespace().unwrap_or_default();
    let was_dispatched = before.is_some_and(|status| status.dispatched);
    let plans = if was_dispatched { Vec::new() } else { versions::plans_for(unit, artifact, &namespace).await };
    let mut status = api::ArtifactStatus {
        observed_generation: generation,
        conditions: ready_conditions(&conditions(object), true, &said),
        // What concerns nobody takes one write.
        dispatched: was_dispatched || plans.is_empty(),
    };
    let written = write_status(objects, object, &status).await?;
    if status.dispatched {
        return Ok(None);
    }
    if !versions::dispatch(unit, artifact, &plans, &namespace).await? {
        return Ok(Some(versions::LOOK_AGAIN));
    }
    status.dispatched = true;
    write_status(objects, written.as_ref().unwrap_or(object), &status).await?;
    Ok(None)
}

fn wait(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(1))
}

fn goes_at(spec: &api::ArtifactSpec) -> Option<Timestamp> {
    let keep_for = pintail_plan::parse_duration(spec.keep_for.as_deref()?).ok()?;
    let created: Timestamp = spec.created_at.parse().ok()?;
    created.checked_add(keep_for).ok()
}

async fn expire(objects: &Api<DynamicObject>, object: &DynamicObject) -> Result<Action, ReconcileError> {
    let name = object.name_any();
    let preconditions = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match objects.delete(&name, &parameters).await {
        Ok(_) => Ok(Action::await_change()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::await_change()),
        Err(error) => Err(error).attempted(|| format!("delete Artifact {name}")),
    }
}

/// Deletes the data of an Artifact that is on its way out, then lets it go. It never waits without end: data that could
/// not be deleted stays, and an event says where.
async fn reclaim(
    unit: &Unit,
    objects: &Api<DynamicObject>,
    object: &DynamicObject,
    artifact: Option<api::Artifact>,
) -> Result<Action, ReconcileError> {
    if !object.finalizers().iter().any(|name| name == FINALIZER) {
        return Ok(Action::await_change());
    }
    let namespace = object.namespace().unwrap_or_default();
    let folder = artifact.as_ref().and_then(|artifact| data_folder(unit, artifact, &namespace));
    if folder.is_some()
        && let Some(reader) = reader(unit, &namespace, object).await
    {
        let message = format!("Execution {reader} reads this version: its data is deleted afterwards");
        say(unit, objects, object, Reason::Deleting, &message).await?;
        return Ok(Action::requeue(TRY_AGAIN));
    }
    if let Some(cause) = delete_data(unit, folder).await {
        let deleted = object.meta().deletion_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0);
        let within = if is_ending(unit, &namespace).await { RECLAIM_WITHIN_ENDING_NAMESPACE } else { RECLAIM_WITHIN };
        if unit.context.clock.now() < deleted.checked_add(within).unwrap_or(Timestamp::MAX) {
            say(unit, objects, object, Reason::DeleteFailed, &cause).await?;
            return Ok(Action::requeue(TRY_AGAIN));
        }
        let happened = Happened {
            reason: "DataLeft",
            action: "Reclaim",
            warning: true,
            note: format!("the object goes, its data stays: {cause}"),
            key: String::new(),
        };
        tracing::warn!("{}", happened.note);
        event::record(&unit.context, object, &happened).await;
    }
    let finalizers = object.finalizers().iter().filter(|name| *name != FINALIZER).cloned().collect();
    set_finalizers(objects, object, finalizers).await?;
    Ok(Action::await_change())
}

/// Says why, where the data could not be deleted.
async fn delete_data(unit: &Unit, folder: Option<String>) -> Option<String> {
    let folder = folder?;
    match tokio::time::timeout(TRY_TIMEOUT, unit.context.store.delete_folder(&folder)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("cannot delete {}: no answer", unit.context.store.uri(&folder))),
    }
}

/// The folder of the version's data, if it lies where a run of this dataset put it and no other version lies there. What
/// lies elsewhere is not ours to delete.
fn data_folder(unit: &Unit, artifact: &api::Artifact, namespace: &str) -> Option<String> {
    let (dataset, name) = (&artifact.spec.artifact, artifact.name_any());
    let own = layout::artifact_version(namespace, dataset, &name).ok()?;
    let is_in = |uri: &str, folder: &str| uri.starts_with(&format!("{}/", unit.context.store.uri(folder)));
    let folder = if is_in(&artifact.spec.uri, &own) {
        own
    } else {
        // Taken over from a run that was retried: one attempt's folder of another version.
        let key = artifact.spec.uri.strip_prefix(&unit.context.store.uri(""))?;
        let parts: Vec<&str> = key.split('/').take(6).collect();
        let [key_namespace, "artifacts", key_dataset, version, attempt, pod_uid] = parts[..] else { return None };
        if key_namespace != namespace || key_dataset != dataset {
            return None;
        }
        let attempt = attempt.strip_prefix('a').and_then(|number| number.parse().ok())?;
        layout::artifact_folder(namespace, dataset, version, attempt, pod_uid).ok()?
    };
    let others = unit.artifacts.within(namespace);
    let mut uris = others
        .iter()
        .filter(|other| other.name_any() != name)
        .filter_map(|other| other.data.pointer("/spec/uri").and_then(|uri| uri.as_str()));
    (!uris.any(|uri| is_in(uri, &folder))).then_some(folder)
}

/// An Execution under way that needs the data of this version. One may have started just now, so the API server is asked;
/// where it does not say, as in a namespace that is gone, what is known has to do.
async fn reader(unit: &Unit, namespace: &str, artifact: &DynamicObject) -> Option<String> {
    match unit.api(&unit.executions, namespace).list(&ListParams::default()).await {
        Ok(live) => live.items.iter().find(|execution| needs(execution, artifact)).map(ResourceExt::name_any),
        Err(error) => {
            tracing::debug!(namespace, "cannot list Executions: {}", words(&error));
            let known = unit.executions.within(namespace);
            known.iter().find(|execution| needs(execution, artifact)).map(|execution| execution.name_any())
        }
    }
}

/// Whether a run is pinned to a version, or may publish data anew that the run wrote which made the version.
fn needs(execution: &DynamicObject, artifact: &DynamicObject) -> bool {
    let ended = execution.data.pointer("/status/completionTime").is_some();
    if ended || execution.meta().deletion_timestamp.is_some() {
        return false;
    }
    let Some(resolved) = execution.data.pointer("/status/resolved") else { return false };
    let name = artifact.metadata.name.as_deref();
    let inputs = resolved.get("inputs").and_then(Value::as_array);
    let producer = |field: &str| artifact.data.get("spec")?.get("producedBy")?.get(field)?.as_str();
    let reuses = resolved.get("reuses").and_then(Value::as_array);
    let retried = execution.data.pointer("/spec/retryOf/execution").and_then(Value::as_str);
    inputs.into_iter().flatten().any(|input| input.get("artifact").and_then(Value::as_str) == name)
        || reuses.into_iter().flatten().any(|uid| uid.as_str() == producer("uid"))
        || retried.is_some_and(|retried| Some(retried) == producer("execution"))
}

async fn is_ending(unit: &Unit, namespace: &str) -> bool {
    let found = Api::<Namespace>::all(unit.context.client.clone()).get_opt(namespace).await;
    found.is_ok_and(|found| found.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()))
}

async fn say(
    unit: &Unit,
    objects: &Api<DynamicObject>,
    object: &DynamicObject,
    reason: Reason,
    message: &str,
) -> Result<(), ReconcileError> {
    let generation = object.meta().generation;
    let said = Said { reason, message, generation, now: unit.context.clock.now() };
    let status = api::ArtifactStatus {
        observed_generation: generation,
        conditions: ready_conditions(&conditions(object), false, &said),
        dispatched: true,
    };
    write_status(objects, object, &status).await.map(drop)
}

async fn set_finalizers(
    objects: &Api<DynamicObject>,
    object: &DynamicObject,
    finalizers: Vec<String>,
) -> Result<(), ReconcileError> {
    let name = object.name_any();
    let patch = json!({
        "metadata": {
            "uid": object.uid(), "resourceVersion": object.resource_version(), "finalizers": finalizers,
        },
    });
    match objects.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error).attempted(|| format!("write the finalizers of Artifact {name}")),
    }
}

#[cfg(test)]
mod tests {
    use kube::api::ApiResource;

    use super::*;

    fn object<K: Resource<DynamicType = ()>>(name: &str, data: Value) -> DynamicObject {
        DynamicObject::new(name, &ApiResource::erase::<K>(&())).data(data)
    }

    #[test]
    fn a_version_is_needed_by_a_run_that_reads_it_or_may_take_its_data_over() {
        let artifact =
            object::<api::Artifact>("sales-1", json!({ "spec": { "producedBy": { "execution": "a", "uid": "u1" } } }));
        let run = |data: Value| needs(&object::<api::Execution>("c", data), &artifact);
        let resolved = |resolved: Value| json!({ "spec": {}, "status": { "resolved": resolved } });
        assert!(run(resolved(json!({ "inputs": [{ "name": "i", "artifact": "sales-1" }] }))));
        assert!(run(resolved(json!({ "inputs": [], "reuses": ["u1"] }))));
        let retry = json!({ "spec": { "retryOf": { "execution": "a" } }, "status": { "resolved": { "inputs": [] } } });
        assert!(run(retry));
        assert!(!run(resolved(json!({ "inputs": [{ "name": "i", "value": 1 }], "reuses": ["u2"] }))));
        let ended = json!({ "status": { "resolved": { "inputs": [], "reuses": ["u1"] }, "completionTime": "x" } });
        assert!(!run(ended));
    }
}
