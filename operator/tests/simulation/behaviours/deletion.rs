//! Deleting, and what follows of it.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Resource, ResourceExt};
use pintail_api as api;
use serde_json::json;

use super::{Place, config, eventually, execution, merge, pod, refused};

pub async fn an_object_is_gone_at_once(place: Place) {
    place.create(execution("x")).await;
    let executions = place.api::<api::Execution>();
    let deleted = executions.delete("x", &DeleteParams::default()).await.unwrap();
    let status = deleted.right().unwrap();
    assert!(status.is_success());
    assert_eq!(status.details.unwrap().kind, "executions");
    assert!(executions.get_opt("x").await.unwrap().is_none());
}

pub async fn an_object_with_a_finalizer_stays_until_it_is_removed(place: Place) {
    let mut object = execution("x");
    object.metadata.finalizers = Some(vec!["pintail.dev/test".to_owned()]);
    place.create(object).await;
    let executions = place.api::<api::Execution>();
    let deleted = executions.delete("x", &DeleteParams::default()).await.unwrap();
    let object = deleted.left().unwrap();
    assert!(object.metadata.deletion_timestamp.is_some());
    assert_eq!(object.metadata.generation, Some(2));
    let version = object.resource_version();
    executions.delete("x", &DeleteParams::default()).await.unwrap();
    assert_eq!(executions.get("x").await.unwrap().resource_version(), version);
    merge(&executions, "x", json!({ "metadata": { "finalizers": null } })).await.unwrap();
    assert!(executions.get_opt("x").await.unwrap().is_none());
}

fn only(uid: Option<String>, resource_version: Option<String>) -> DeleteParams {
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version }), ..DeleteParams::default() }
}

pub async fn a_deletion_of_another_uid_is_a_conflict(place: Place) {
    let created = place.create(pod("x")).await;
    let other = "00000000-0000-4000-8000-000000000000";
    let status = refused(place.api::<Pod>().delete("x", &only(Some(other.to_owned()), None)).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let words = format!(
        "Operation cannot be fulfilled on Pod \"x\": the UID in the precondition ({other}) does not match the UID in record \
         ({}). The object might have been deleted and then recreated",
        created.uid().unwrap()
    );
    assert_eq!(status.message, words);
    place.api::<Pod>().delete("x", &only(created.uid(), None)).await.unwrap();
}

pub async fn a_deletion_of_an_older_version_is_a_conflict(place: Place) {
    let created = place.create(execution("x")).await;
    let executions = place.api::<api::Execution>();
    merge(&executions, "x", json!({ "metadata": { "labels": { "a": "b" } } })).await.unwrap();
    let status = refused(executions.delete("x", &only(None, created.resource_version())).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let words = "Operation cannot be fulfilled on Execution.pintail.dev \"x\": the ResourceVersion in the precondition";
    assert!(status.message.starts_with(words), "{}", status.message);
}

pub async fn a_missing_object_cannot_be_deleted(place: Place) {
    let status = refused(place.api::<Pod>().delete("x", &DeleteParams::default()).await);
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
}

pub async fn a_name_used_again_has_another_uid(place: Place) {
    let first = place.create(pod("x")).await;
    place.api::<Pod>().delete("x", &DeleteParams::default()).await.unwrap();
    assert_ne!(place.create(pod("x")).await.uid(), first.uid());
}

pub async fn a_pod_without_a_node_is_gone_at_once(place: Place) {
    place.create(pod("x")).await;
    place.api::<Pod>().delete("x", &DeleteParams::default()).await.unwrap();
    assert_eq!(place.api::<Pod>().get_opt("x").await.unwrap(), None);
}

fn pod_on_node(name: &str) -> Pod {
    let mut object = pod(name);
    object.spec.as_mut().unwrap().node_name = Some("node".to_owned());
    object
}

pub async fn a_pod_on_a_node_is_left_to_its_kubelet(place: Place) {
    place.create(pod_on_node("x")).await;
    let pods = place.api::<Pod>();
    pods.delete("x", &DeleteParams::default()).await.unwrap();
    let deleting = pods.get("x").await.unwrap();
    assert_eq!(deleting.metadata.deletion_grace_period_seconds, Some(30));
    assert!(deleting.metadata.deletion_timestamp.is_some());
    pods.delete("x", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(pods.get_opt("x").await.unwrap(), None);
}

pub async fn a_finished_pod_is_gone_at_once(place: Place) {
    place.create(pod_on_node("x")).await;
    let pods = place.api::<Pod>();
    let patch = Patch::Merge(json!({ "status": { "phase": "Succeeded" } }));
    pods.patch_status("x", &PatchParams::default(), &patch).await.unwrap();
    pods.delete("x", &DeleteParams::default()).await.unwrap();
    assert_eq!(pods.get_opt("x").await.unwrap(), None);
}

fn owned_by(name: &str, owner: OwnerReference) -> ConfigMap {
    let mut object = config(name);
    object.metadata.owner_references = Some(vec![owner]);
    object
}

async fn goes(place: &Place, name: &str) {
    let config_maps = place.api::<ConfigMap>();
    eventually(name, || async { config_maps.get_opt(name).await.unwrap().is_none() }).await;
}

pub async fn what_belongs_to_a_deleted_owner_goes(place: Place) {
    let owner = place.create(execution("owner")).await;
    place.create(owned_by("owned", owner.controller_owner_ref(&()).unwrap())).await;
    place.create(config("other")).await;
    place.api::<api::Execution>().delete("owner", &DeleteParams::default()).await.unwrap();
    goes(&place, "owned").await;
    assert!(place.api::<ConfigMap>().get_opt("other").await.unwrap().is_some());
}

pub async fn what_belongs_to_an_owner_that_never_was_goes(place: Place) {
    let owner = place.create(execution("owner")).await;
    let mut reference = owner.controller_owner_ref(&()).unwrap();
    reference.uid = "00000000-0000-4000-8000-000000000000".to_owned();
    place.create(owned_by("owned", reference)).await;
    goes(&place, "owned").await;
}

pub async fn a_foreground_deletion_waits_for_what_belongs_to_it(place: Place) {
    let owner = place.create(execution("owner")).await;
    let reference = OwnerReference { block_owner_deletion: Some(true), ..owner.controller_owner_ref(&()).unwrap() };
    let mut owned = owned_by("owned", reference);
    owned.metadata.finalizers = Some(vec!["pintail.dev/test".to_owned()]);
    place.create(owned).await;
    let executions = place.api::<api::Execution>();
    let foreground =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    executions.delete("owner", &foreground).await.unwrap();
    let config_maps = place.api::<ConfigMap>();
    let ending = || async { config_maps.get("owned").await.unwrap().metadata.deletion_timestamp.is_some() };
    eventually("what is owned is told to end", ending).await;
    let finalizers = executions.get("owner").await.unwrap().finalizers().to_vec();
    assert_eq!(finalizers, ["foregroundDeletion"]);
    merge(&config_maps, "owned", json!({ "metadata": { "finalizers": null } })).await.unwrap();
    eventually("the owner goes", || async { executions.get_opt("owner").await.unwrap().is_none() }).await;
}

pub async fn a_namespace_that_ends_takes_nothing_new_and_goes_with_all_in_it(place: Place) {
    let mut object = config("x");
    object.metadata.finalizers = Some(vec!["pintail.dev/test".to_owned()]);
    place.create(object).await;
    place.create(execution("y")).await;
    let namespaces: Api<Namespace> = Api::all(place.client.clone());
    namespaces.delete(&place.namespace, &DeleteParams::default()).await.unwrap();
    let phase = namespaces.get(&place.namespace).await.unwrap().status.unwrap().phase;
    assert_eq!(phase.as_deref(), Some("Terminating"));
    let status = refused(place.api::<ConfigMap>().create(&PostParams::default(), &config("late")).await);
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    let words = format!(
        "configmaps \"late\" is forbidden: unable to create new content in namespace {} because it is being terminated",
        place.namespace
    );
    assert_eq!(status.message, words);
    assert_eq!(status.details.unwrap().causes[0].reason, "NamespaceTerminating");
    let executions = place.api::<api::Execution>();
    eventually("what is in it goes", || async { executions.get_opt("y").await.unwrap().is_none() }).await;
    assert!(namespaces.get_opt(&place.namespace).await.unwrap().is_some());
    merge(&place.api::<ConfigMap>(), "x", json!({ "metadata": { "finalizers": null } })).await.unwrap();
    eventually("it goes", || async { namespaces.get_opt(&place.namespace).await.unwrap().is_none() }).await;
}
