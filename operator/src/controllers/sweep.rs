//! What nobody needs any more, looked for now and then: files of runs that are gone, revisions that nothing names, markers
//! of occurrences that have refused for long enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Resource, ResourceExt};
use serde_json::Value;

use super::agent;
use super::error::{Attempted, ReconcileError};
use super::launch;
use super::leftovers;
use super::revision;
use super::runner::{MANAGED_BY, MANAGED_BY_LABEL};
use super::unit::Unit;

/// Nothing here is urgent.
const EVERY: Duration = Duration::from_secs(600);
/// A run whose Execution is gone may have pods that are on their way out and still write.
const FILES_STAY: Duration = Duration::from_secs(3600);
/// A revision may be about to be named.
const REVISIONS_STAY: Duration = Duration::from_secs(3600);

/// Namespace and uid of a run without an Execution, and since when it was seen so.
type Orphans = BTreeMap<(String, String), Timestamp>;

/// Sweeps until the end of the operator.
pub async fn sweep(unit: &Unit) {
    let mut orphans = Orphans::new();
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = sweep_store(unit, &mut orphans).await {
            tracing::warn!("the store was not swept: {error}");
        }
        if let Err(error) = sweep_revisions(unit).await {
            tracing::warn!("revisions were not swept: {error}");
        }
    }
}

async fn sweep_store(unit: &Unit, orphans: &mut Orphans) -> Result<(), ReconcileError> {
    let store = &unit.context.store;
    let namespaces = match unit.only_namespace() {
        Some(namespace) => vec![namespace.to_owned()],
        None => store.folders("").await?,
    };
    let mut found = BTreeSet::new();
    for namespace in namespaces.into_iter().filter(|name| may_be_namespace(name)) {
        if let Err(error) = launch::sweep::sweep(unit, &namespace).await {
            tracing::warn!(namespace, "what is known of occurrences was not swept: {error}");
        }
        if let Err(error) = agent::sweep_orders(unit, &namespace).await {
            tracing::warn!(namespace, "orders of agents were not swept: {error}");
        }
        match runs_of_nobody(unit, &namespace).await {
            Ok(runs) => found.extend(runs.into_iter().map(|uid| (namespace.clone(), uid))),
            Err(error) => tracing::warn!(namespace, "what runs left was not looked for: {error}"),
        }
    }
    let now = unit.context.clock.now();
    for (namespace, uid) in due(orphans, found, now) {
        match delete_files(unit, &namespace, &uid).await {
            Ok(()) => {
                tracing::info!(namespace, uid, "deleted the files of a run that is gone");
                orphans.remove(&(namespace, uid));
            }
            Err(error) => tracing::warn!(namespace, uid, "the files of a run that is gone were not deleted: {error}"),
        }
    }
    Ok(())
}

/// Whether a folder of the store may be a namespace's: others may put there what they like.
fn may_be_namespace(folder: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !folder.is_empty() && folder.len() <= 63 && folder.chars().all(is_inner)
}

/// The uids of runs that have files and no Execution.
async fn runs_of_nobody(unit: &Unit, namespace: &str) -> Result<Vec<String>, ReconcileError> {
    let runs = unit.context.store.folders(&format!("{namespace}/runs")).await?;
    if runs.is_empty() {
        return Ok(runs);
    }
    let needed = needed_uids(unit, namespace).await?;
    Ok(runs.into_iter().filter(|uid| !needed.contains(uid)).collect())
}

async fn delete_files(unit: &Unit, namespace: &str, uid: &str) -> Result<(), ReconcileError> {
    let uris = uris(unit, namespace).await?;
    Ok(leftovers::delete(&unit.context.store, namespace, uid, &uris).await?)
}

/// Takes in what was found this time, and gives what has been so for long enough.
fn due(orphans: &mut Orphans, found: BTreeSet<(String, String)>, now: Timestamp) -> Vec<(String, String)> {
    orphans.retain(|orphan, _| found.contains(orphan));
    for orphan in found {
        orphans.entry(orphan).or_insert(now);
    }
    let long_enough = |since: &Timestamp| since.checked_add(FILES_STAY).is_ok_and(|until| until <= now);
    orphans.iter().filter(|(_, since)| long_enough(since)).map(|(orphan, _)| orphan.clone()).collect()
}

/// The uids of all Executions, and of those whose files they may have taken over.
async fn needed_uids(unit: &Unit, namespace: &str) -> Result<BTreeSet<String>, ReconcileError> {
    let mut uids = BTreeSet::new();
    for execution in list(unit.api(&unit.executions, namespace), namespace).await? {
        uids.extend(execution.uid());
        let reuses = execution.data.pointer("/status/resolved/reuses").and_then(Value::as_array);
        uids.extend(reuses.into_iter().flatten().filter_map(|uid| uid.as_str().map(str::to_owned)));
    }
    Ok(uids)
}

async fn uris(unit: &Unit, namespace: &str) -> Result<BTreeSet<String>, ReconcileError> {
    let artifacts = list(unit.api(&unit.artifacts, namespace), namespace).await?;
    let uri = |artifact: &DynamicObject| Some(artifact.data.pointer("/spec/uri")?.as_str()?.to_owned());
    Ok(artifacts.iter().filter_map(uri).collect())
}

pub async fn list(objects: Api<DynamicObject>, namespace: &str) -> Result<Vec<DynamicObject>, ReconcileError> {
    let listed = objects.list(&ListParams::default()).await;
    listed.attempted(|| format!("list objects of {namespace}")).map(|list| list.items)
}

/// A label that says who manages them others may use as well; revisions of other controllers are not ours to delete.
fn revision_selector() -> String {
    format!("{MANAGED_BY_LABEL}={MANAGED_BY},{}", revision::WORKFLOW_LABEL)
}

async fn sweep_revisions(unit: &Unit) -> Result<(), ReconcileError> {
    let selector = ListParams::default().labels(&revision_selector());
    let revisions = unit.all::<ControllerRevision>().list(&selector).await;
    let now = unit.context.clock.now();
    let mut unnamed = revisions.attempted(|| "list ControllerRevisions".to_owned())?.items;
    unnamed.retain(|revision| {
        let created = revision.meta().creation_timestamp.as_ref().map_or(now, |time| time.0);
        created.checked_add(REVISIONS_STAY).is_ok_and(|until| until <= now)
    });
    retain_unnamed(unit, &mut unnamed).await?;
    if unnamed.is_empty() {
        return Ok(());
    }
    // No run is being pinned meanwhile; one may have been since the look before, which held none up.
    let _held = unit.revisions.write().await;
    retain_unnamed(unit, &mut unnamed).await?;
    for revision in unnamed {
        delete_revision(unit, &revision).await?;
    }
    Ok(())
}

/// Leaves out the revisions that an Execution or a Workflow names.
async fn retain_unnamed(unit: &Unit, revisions: &mut Vec<ControllerRevision>) -> Result<(), ReconcileError> {
    if revisions.is_empty() {
        return Ok(());
    }
    let executions = unit.all_of(&unit.executions).list(&ListParams::default()).await;
    let executions = executions.attempted(|| "list Executions".to_owned())?.items;
    let workflows = unit.workflows.objects.state();
    let named = |object: &DynamicObject, pointer: &str| {
        Some((object.namespace()?, object.data.pointer(pointer)?.as_str()?.to_owned()))
    };
    let mut needed: BTreeSet<(String, String)> =
        executions.iter().filter_map(|execution| named(execution, "/status/resolved/revision")).collect();
    needed.extend(workflows.iter().filter_map(|workflow| named(workflow, "/status/revision")));
    revisions.retain(|revision| !needed.contains(&(revision.namespace().unwrap_or_default(), revision.name_any())));
    Ok(())
}

async fn delete_revision(unit: &Unit, revision: &ControllerRevision) -> Result<(), ReconcileError> {
    let (namespace, name) = (revision.namespace().unwrap_or_default(), revision.name_any());
    let preconditions = Preconditions { uid: revision.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let revisions: Api<ControllerRevision> = Api::namespaced(unit.context.client.clone(), &namespace);
    match revisions.delete(&name, &parameters).await {
        Ok(_) => tracing::info!(namespace, name, "deleted a revision that nothing names"),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => return Err(error).attempted(|| format!("delete ControllerRevision {name}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_are_no_namespaces_are_left_alone() {
        let folders = ["team-a", "_installation", "my data", ".cache", "Team", "a.b", ""];
        assert_eq!(folders.into_iter().filter(|folder| may_be_namespace(folder)).collect::<Vec<_>>(), ["team-a"]);
    }

    #[test]
    fn only_revisions_of_workflows_are_looked_at() {
        assert_eq!(revision_selector(), "app.kubernetes.io/managed-by=pintail,pintail.dev/workflow-digest");
    }

    #[test]
    fn files_go_when_their_run_has_been_gone_for_an_hour() {
        let at = |minutes: i64| Timestamp::from_second(minutes * 60).expect("a time");
        let run = |uid: &str| ("data".to_owned(), uid.to_owned());
        let mut orphans = Orphans::new();
        assert!(due(&mut orphans, [run("a"), run("b")].into(), at(0)).is_empty());
        assert!(due(&mut orphans, [run("a")].into(), at(50)).is_empty());
        assert_eq!(due(&mut orphans, [run("a"), run("b")].into(), at(60)), [run("a")]);
    }
}
