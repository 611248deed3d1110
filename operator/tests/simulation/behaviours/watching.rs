//! Watching.

use std::pin::pin;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Place, config, eventually, execution, merge, named};

type Event = WatchEvent<ConfigMap>;

async fn watch(place: &Place, selector: &str, version: &str) -> impl Stream<Item = kube::Result<Event>> {
    let parameters = WatchParams::default().labels(selector).timeout(20);
    place.api::<ConfigMap>().watch(&parameters, version).await.unwrap().boxed()
}

/// Kind and name of the next event that is no bookmark.
async fn next(events: &mut (impl Stream<Item = kube::Result<Event>> + Unpin)) -> (&'static str, String, u64) {
    loop {
        let (kind, object) = match events.next().await.expect("another event").unwrap() {
            WatchEvent::Added(object) => ("added", object),
            WatchEvent::Modified(object) => ("modified", object),
            WatchEvent::Deleted(object) => ("deleted", object),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => panic!("{status:?}"),
        };
        return (kind, object.name_any(), object.resource_version().unwrap().parse().unwrap());
    }
}

async fn version(place: &Place) -> String {
    place.api::<ConfigMap>().list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap()
}

fn labelled(name: &str) -> ConfigMap {
    let mut object = config(name);
    object.metadata = named(name);
    object.metadata.labels = Some([("watched".to_owned(), "yes".to_owned())].into());
    object
}

pub async fn a_watch_goes_on_after_the_version_it_names(place: Place) {
    place.create(labelled("before")).await;
    let from = version(&place).await;
    place.create(labelled("between")).await;
    let mut events = pin!(watch(&place, "watched=yes", &from).await);
    place.create(labelled("after")).await;
    assert_eq!(next(&mut events).await.1, "between");
    let (kind, name, seen) = next(&mut events).await;
    assert_eq!((kind, name.as_str()), ("added", "after"));
    let seen = seen.to_string();
    let mut resumed = pin!(watch(&place, "watched=yes", &seen).await);
    place.create(labelled("later")).await;
    assert_eq!(next(&mut resumed).await.1, "later");
}

pub async fn a_watch_without_a_version_begins_with_what_is_there(place: Place) {
    place.create(labelled("there")).await;
    let mut events = pin!(watch(&place, "watched=yes", "0").await);
    let (kind, name, _) = next(&mut events).await;
    assert_eq!((kind, name.as_str()), ("added", "there"));
}

pub async fn an_object_that_no_longer_matches_is_deleted_for_the_watch(place: Place) {
    place.create(labelled("x")).await;
    let from = version(&place).await;
    let mut events = pin!(watch(&place, "watched=yes", &from).await);
    let config_maps = place.api::<ConfigMap>();
    merge(&config_maps, "x", json!({ "data": { "a": "b" } })).await.unwrap();
    assert_eq!(next(&mut events).await.0, "modified");
    merge(&config_maps, "x", json!({ "metadata": { "labels": { "watched": "no" } } })).await.unwrap();
    assert_eq!(next(&mut events).await.0, "deleted");
    merge(&config_maps, "x", json!({ "metadata": { "labels": { "watched": "yes" } } })).await.unwrap();
    assert_eq!(next(&mut events).await.0, "added");
}

pub async fn a_deletion_has_a_version_of_its_own(place: Place) {
    let created = place.create(labelled("x")).await;
    let from = version(&place).await;
    let mut events = pin!(watch(&place, "watched=yes", &from).await);
    place.api::<ConfigMap>().delete("x", &DeleteParams::default()).await.unwrap();
    let (kind, _, seen) = next(&mut events).await;
    assert_eq!(kind, "deleted");
    assert!(seen > created.resource_version().unwrap().parse().unwrap());
}

/// Of a kind that came long after the first version: a server may remember all of another since it was started.
pub async fn a_watch_from_a_forgotten_version_expires(place: Place) {
    place.create(execution("x")).await;
    let parameters = WatchParams::default().timeout(20);
    let mut events = place.api::<pintail_api::Execution>().watch(&parameters, "1").await.unwrap().boxed();
    let event = events.next().await.unwrap().unwrap();
    let WatchEvent::Error(status) = event else { panic!("{event:?}") };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(status.message.starts_with("too old resource version: 1 ("), "{}", status.message);
}

pub async fn a_watch_ends_with_its_time(place: Place) {
    let from = version(&place).await;
    let parameters = WatchParams::default().timeout(1);
    let events = place.api::<ConfigMap>().watch(&parameters, &from).await.unwrap();
    let rest: Vec<Event> = events.try_collect().await.unwrap();
    assert!(rest.iter().all(|event| matches!(event, WatchEvent::Bookmark(_) | WatchEvent::Added(_))), "{rest:?}");
}

pub async fn a_reflector_sees_all_there_is(place: Place) {
    let api: Api<ConfigMap> = place.api();
    place.create(labelled("before")).await;
    let (store, writer) = reflector::store();
    let watch = watcher(api, watcher::Config::default().labels("watched=yes")).reflect(writer);
    let mut reading = pin!(watch.try_for_each(|_| async { Ok(()) }));
    let names = || {
        let mut names: Vec<String> = store.state().iter().map(|object| object.name_any()).collect();
        names.sort();
        names
    };
    let work = async {
        eventually("the first", || async { names() == ["before"] }).await;
        place.create(labelled("after")).await;
        eventually("the second", || async { names() == ["after", "before"] }).await;
        place.api::<ConfigMap>().delete("before", &DeleteParams::default()).await.unwrap();
        eventually("one gone", || async { names() == ["after"] }).await;
    };
    tokio::select! {
        ended = &mut reading => panic!("{ended:?}"),
        () = work => {}
    }
}
