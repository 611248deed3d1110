//! Creating, replacing, patching.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{PatchParams, PostParams};
use kube::{Api, ResourceExt};
use pintail_api as api;
use serde_json::json;

use super::{Place, config, execution, merge, named, pod, refused};

pub async fn a_created_object_has_what_the_server_gives_it(place: Place) {
    let created = place.create(execution("x")).await;
    assert_eq!(created.metadata.generation, Some(1));
    assert_eq!(created.namespace(), Some(place.namespace.clone()));
    assert!(created.uid().is_some_and(|uid| uid.len() == 36));
    assert!(created.creation_timestamp().is_some());
    assert!(created.resource_version().unwrap().parse::<u64>().unwrap() > 0);
    let pod = place.create(pod("x")).await;
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Pending"));
}

pub async fn a_second_object_of_a_name_is_refused(place: Place) {
    place.create(pod("x")).await;
    let status = refused(place.api::<Pod>().create(&PostParams::default(), &pod("x")).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(status.message, "pods \"x\" already exists");
    let details = status.details.unwrap();
    assert_eq!((details.name.as_str(), details.kind.as_str(), details.group.as_str()), ("x", "pods", ""));
    place.create(execution("x")).await;
    let status = refused(place.api::<api::Execution>().create(&PostParams::default(), &execution("x")).await);
    assert_eq!(status.message, "executions.pintail.dev \"x\" already exists");
    assert_eq!(status.details.unwrap().group, "pintail.dev");
}

pub async fn an_object_in_no_namespace_is_refused(place: Place) {
    let nowhere: Api<ConfigMap> = Api::namespaced(place.client, "behaviour-nowhere");
    let status = refused(nowhere.create(&PostParams::default(), &config("x")).await);
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
    assert_eq!(status.message, "namespaces \"behaviour-nowhere\" not found");
}

pub async fn a_status_in_a_create_is_dropped(place: Place) {
    let mut object = execution("x");
    object.status = Some(api::ExecutionStatus { observed_generation: Some(7), ..Default::default() });
    assert_eq!(place.create(object).await.status, None);
}

pub async fn a_replace_of_an_older_version_is_a_conflict(place: Place) {
    let old = place.create(execution("x")).await;
    let executions = place.api::<api::Execution>();
    merge(&executions, "x", json!({ "metadata": { "labels": { "a": "b" } } })).await.unwrap();
    let status = refused(executions.replace("x", &PostParams::default(), &old).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        status.message,
        "Operation cannot be fulfilled on executions.pintail.dev \"x\": the object has been modified; please apply your \
         changes to the latest version and try again"
    );
    let status = refused(executions.replace_status("x", &PostParams::default(), &old).await);
    assert_eq!(status.code, 409);
}

pub async fn a_replace_without_a_version_is_refused_of_custom_resources(place: Place) {
    place.create(execution("x")).await;
    let status = refused(place.api::<api::Execution>().replace("x", &PostParams::default(), &execution("x")).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(status.message.contains("metadata.resourceVersion"), "{}", status.message);
}

pub async fn a_patch_with_an_older_version_is_a_conflict(place: Place) {
    let old = place.create(execution("x")).await;
    let executions = place.api::<api::Execution>();
    merge(&executions, "x", json!({ "metadata": { "labels": { "a": "b" } } })).await.unwrap();
    let patch = json!({
        "metadata": { "resourceVersion": old.resource_version() },
        "status": { "observedGeneration": 1 },
    });
    let patch = kube::api::Patch::Merge(patch);
    let status = refused(executions.patch_status("x", &PatchParams::default(), &patch).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
}

pub async fn a_patch_with_another_uid_is_refused(place: Place) {
    place.create(execution("x")).await;
    let patch = json!({ "metadata": { "uid": "00000000-0000-4000-8000-000000000000", "labels": { "a": "b" } } });
    let status = refused(merge(&place.api::<api::Execution>(), "x", patch).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(status.message.starts_with("Execution.pintail.dev \"x\" is invalid: metadata.uid"), "{}", status.message);
}

pub async fn a_replace_of_another_uid_is_a_conflict(place: Place) {
    let mut object = place.create(execution("x")).await;
    object.metadata.uid = Some("00000000-0000-4000-8000-000000000000".to_owned());
    let status = refused(place.api::<api::Execution>().replace("x", &PostParams::default(), &object).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
}

pub async fn a_write_that_changes_nothing_keeps_the_version(place: Place) {
    let created = place.create(execution("x")).await;
    let executions = place.api::<api::Execution>();
    let replaced = executions.replace("x", &PostParams::default(), &created).await.unwrap();
    assert_eq!(replaced.resource_version(), created.resource_version());
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    let first = merge(&executions, "x", labels.clone()).await.unwrap();
    assert_ne!(first.resource_version(), created.resource_version());
    let second = merge(&executions, "x", labels).await.unwrap();
    assert_eq!(second.resource_version(), first.resource_version());
}

pub async fn a_change_of_the_spec_is_a_generation_and_one_of_labels_is_none(place: Place) {
    place.create(execution("x")).await;
    let executions = place.api::<api::Execution>();
    let labelled = merge(&executions, "x", json!({ "metadata": { "labels": { "a": "b" } } })).await.unwrap();
    assert_eq!(labelled.metadata.generation, Some(1));
    let cancelled = merge(&executions, "x", json!({ "spec": { "cancel": true } })).await.unwrap();
    assert_eq!(cancelled.metadata.generation, Some(2));
}

pub async fn a_write_of_the_status_changes_nothing_else(place: Place) {
    let mut object = place.create(execution("x")).await;
    object.spec.cancel = Some(true);
    object.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    object.status = Some(api::ExecutionStatus { observed_generation: Some(1), ..Default::default() });
    let written = place.api::<api::Execution>().replace_status("x", &PostParams::default(), &object).await.unwrap();
    assert_eq!(written.status, object.status);
    assert_eq!((written.spec.cancel, written.metadata.generation), (None, Some(1)));
}

pub async fn a_write_of_the_object_leaves_its_status(place: Place) {
    place.create(execution("x")).await;
    let executions = place.api::<api::Execution>();
    let status = json!({ "status": { "observedGeneration": 1 } });
    let patch = kube::api::Patch::Merge(status);
    executions.patch_status("x", &PatchParams::default(), &patch).await.unwrap();
    let patch = json!({ "spec": { "cancel": true }, "status": { "observedGeneration": 9 } });
    let written = merge(&executions, "x", patch).await.unwrap();
    assert_eq!(written.status.unwrap().observed_generation, Some(1));
}

pub async fn a_null_in_a_merge_patch_removes_the_field(place: Place) {
    place.create(execution("x")).await;
    let executions = place.api::<api::Execution>();
    merge(&executions, "x", json!({ "metadata": { "labels": { "a": "b", "c": "d" } } })).await.unwrap();
    let left = merge(&executions, "x", json!({ "metadata": { "labels": { "a": null } } })).await.unwrap();
    assert_eq!(left.labels().keys().collect::<Vec<_>>(), ["c"]);
}

pub async fn what_an_execution_runs_cannot_be_changed(place: Place) {
    place.create(execution("x")).await;
    let patch = json!({ "spec": { "workflowRef": { "name": "other" } } });
    let status = refused(merge(&place.api::<api::Execution>(), "x", patch).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(status.message.starts_with("Execution.pintail.dev \"x\" is invalid: spec"), "{}", status.message);
}

pub async fn the_data_of_a_revision_cannot_be_changed(place: Place) {
    let revision = ControllerRevision { metadata: named("x"), revision: 1, ..ControllerRevision::default() };
    place.create(ControllerRevision { data: Some(data("a")), ..revision }).await;
    let status = refused(merge(&place.api::<ControllerRevision>(), "x", json!({ "data": { "spec": "b" } })).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
}

fn data(text: &str) -> k8s_openapi::apimachinery::pkg::runtime::RawExtension {
    k8s_openapi::apimachinery::pkg::runtime::RawExtension(json!({ "spec": text }))
}

pub async fn the_deadline_of_a_pod_can_be_lowered_only(place: Place) {
    place.create(pod("x")).await;
    let pods = place.api::<Pod>();
    let deadline = |seconds: i64| json!({ "spec": { "activeDeadlineSeconds": seconds } });
    merge(&pods, "x", deadline(60)).await.unwrap();
    let lowered = merge(&pods, "x", deadline(1)).await.unwrap();
    assert_eq!(lowered.spec.unwrap().active_deadline_seconds, Some(1));
    let status = refused(merge(&pods, "x", deadline(60)).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let status = refused(merge(&pods, "x", json!({ "spec": { "schedulerName": "other" } })).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(
        status.message.starts_with("Pod \"x\" is invalid: spec: Forbidden: pod updates may not"),
        "{}",
        status.message
    );
}

pub async fn a_pod_without_its_service_account_is_refused(place: Place) {
    let mut object = pod("x");
    object.spec.as_mut().unwrap().service_account_name = Some("nobody".to_owned());
    let status = refused(place.api::<Pod>().create(&PostParams::default(), &object).await);
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    let words = format!(
        "pods \"x\" is forbidden: error looking up service account {}/nobody: serviceaccount \"nobody\" not found",
        place.namespace
    );
    assert_eq!(status.message, words);
}

pub async fn a_name_that_is_none_is_refused(place: Place) {
    let status = refused(place.api::<ConfigMap>().create(&PostParams::default(), &config("No Name")).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(
        status.message.starts_with("ConfigMap \"No Name\" is invalid: metadata.name: Invalid value"),
        "{}",
        status.message
    );
}

pub async fn a_dry_run_stores_nothing(place: Place) {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let created = place.api::<ConfigMap>().create(&dry, &config("x")).await.unwrap();
    assert_eq!(created.name_any(), "x");
    assert_eq!(place.api::<ConfigMap>().get_opt("x").await.unwrap(), None);
}
