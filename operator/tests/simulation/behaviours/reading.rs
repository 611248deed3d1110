//! Getting and listing.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use pintail_api as api;

use super::{Place, config, execution, pod, refused};

pub async fn a_missing_object_is_not_found(place: Place) {
    let status = refused(place.api::<api::Execution>().get("x").await);
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
    assert_eq!(status.message, "executions.pintail.dev \"x\" not found");
    let details = status.details.unwrap();
    let details = (details.name.as_str(), details.group.as_str(), details.kind.as_str());
    assert_eq!(details, ("x", "pintail.dev", "executions"));
    assert_eq!(refused(place.api::<Pod>().get("x").await).message, "pods \"x\" not found");
}

pub async fn an_unknown_kind_is_not_found(place: Place) {
    let path = format!("/apis/pintail.dev/v1alpha1/namespaces/{}/pelicans", place.namespace);
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let error = place.client.request::<serde_json::Value>(request).await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
}

fn labelled(name: &str, labels: &[(&str, &str)]) -> ConfigMap {
    let mut object = config(name);
    object.metadata.labels = Some(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    object
}

pub async fn labels_select(place: Place) {
    place.create(labelled("a", &[("tier", "one"), ("app", "x")])).await;
    place.create(labelled("b", &[("tier", "two"), ("app", "x")])).await;
    place.create(labelled("c", &[("app", "y")])).await;
    let expected = [
        ("tier=one", "a"),
        ("tier==one,app=x", "a"),
        ("tier!=one,app", "bc"),
        ("tier in (one,two)", "ab"),
        ("tier notin (one,two),app", "c"),
        ("!tier,app", "c"),
        ("tier", "ab"),
        ("app=x,tier in (two)", "b"),
        ("app=z", ""),
    ];
    for (selector, names) in expected {
        let found = place.api::<ConfigMap>().list(&ListParams::default().labels(selector)).await.unwrap();
        let found: String = found.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!(found, names, "{selector}");
    }
}

pub async fn fields_select(place: Place) {
    place.create(pod("a")).await;
    place.create(pod("b")).await;
    for (selector, names) in [
        ("metadata.name=a", "a"),
        ("metadata.name!=a", "b"),
        ("status.phase=Pending", "ab"),
        ("status.phase=Running", ""),
    ] {
        let found = place.api::<Pod>().list(&ListParams::default().fields(selector)).await.unwrap();
        let found: String = found.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!(found, names, "{selector}");
    }
    let status = refused(place.api::<Pod>().list(&ListParams::default().fields("spec.pelican=a")).await);
    assert_eq!(status.code, 400);
}

pub async fn a_list_has_the_version_of_its_newest_object(place: Place) {
    let created = place.create(execution("x")).await;
    let list = place.api::<api::Execution>().list(&ListParams::default()).await.unwrap();
    let version = |text: Option<String>| text.unwrap().parse::<u64>().unwrap();
    assert!(version(list.metadata.resource_version) >= version(created.resource_version()));
    assert_eq!(list.items.len(), 1);
}

pub async fn metadata_alone_can_be_read(place: Place) {
    place.create(execution("x")).await;
    let executions = place.api::<api::Execution>();
    let list = executions.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["x"]);
    assert!(executions.get_metadata("x").await.unwrap().metadata.uid.is_some());
}

pub async fn the_kinds_of_the_group_are_listed(place: Place) {
    let list = place.client.list_api_group_resources("pintail.dev/v1alpha1").await.unwrap();
    for plural in ["workflows", "executions", "artifacts", "connections"] {
        assert!(list.resources.iter().any(|resource| resource.name == plural), "{plural}");
    }
    assert!(!place.client.apiserver_version().await.unwrap().git_version.is_empty());
}
