//! What the controller manager does: ends what belongs to owners that are gone, and what is in namespaces that end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Server;
use super::objects::{Deletion, Key, Objects};

const AUTHOR: &str = "controller-manager";
/// It is in no hurry.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs until it is dropped.
pub async fn run(server: Server) {
    let mut versions = server.versions();
    while versions.changed().await.is_ok() {
        tokio::time::sleep(PAUSE).await;
        versions.borrow_and_update();
        while server.apply(AUTHOR, sweep) {}
    }
}

/// One look at everything; whether something was done.
fn sweep(objects: &mut Objects) -> bool {
    let all: Vec<(Key, Arc<Value>)> = objects.all().map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
    let uids: HashSet<&str> = all.iter().filter_map(|(_, object)| object["metadata"]["uid"].as_str()).collect();
    let mut done = false;
    for (key, object) in &all {
        let deleting = object["metadata"]["deletionTimestamp"].is_string();
        let owners = owners(object);
        if !deleting && !owners.is_empty() && owners.iter().all(|owner| !uids.contains(owner)) {
            let options =
                Deletion { uid: object["metadata"]["uid"].as_str().map(str::to_owned), ..Deletion::default() };
            done |= objects.delete(key, &options).is_ok();
        }
        if deleting && has_finalizer(object, "foregroundDeletion") {
            done |= end_dependents(objects, &all, key, object);
        }
        if deleting && key.plural == "namespaces" && key.group.is_empty() {
            done |= empty_namespace(objects, &all, key);
        }
    }
    done
}

fn owners(object: &Value) -> Vec<&str> {
    let references = object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    references.iter().filter_map(|owner| owner["uid"].as_str()).collect()
}

fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|known| known.iter().any(|name| name == finalizer))
}

fn remove_finalizer(objects: &mut Objects, key: &Key, finalizer: &str) -> bool {
    let removed = objects.modify(key, |object| {
        if let Some(known) = object["metadata"]["finalizers"].as_array_mut() {
            known.retain(|name| name != finalizer);
        }
        if object["metadata"]["finalizers"] == json!([])
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("finalizers");
        }
    });
    removed.is_ok()
}

fn end_dependents(objects: &mut Objects, all: &[(Key, Arc<Value>)], key: &Key, owner: &Value) -> bool {
    let uid = owner["metadata"]["uid"].as_str().unwrap_or_default();
    let dependents: Vec<_> = all.iter().filter(|(_, object)| owners(object).contains(&uid)).collect();
    if dependents.is_empty() {
        return remove_finalizer(objects, key, "foregroundDeletion");
    }
    let mut done = false;
    for (dependent, object) in dependents {
        if !object["metadata"]["deletionTimestamp"].is_string() {
            done |= objects.delete(dependent, &Deletion::default()).is_ok();
        }
    }
    done
}

fn empty_namespace(objects: &mut Objects, all: &[(Key, Arc<Value>)], key: &Key) -> bool {
    let inside: Vec<_> =
        all.iter().filter(|(inside, _)| inside.resource().namespaced && inside.namespace == key.name).collect();
    if inside.is_empty() {
        return remove_finalizer(objects, key, "kubernetes");
    }
    let mut done = false;
    for (inside, object) in inside {
        if !object["metadata"]["deletionTimestamp"].is_string() {
            done |= objects.delete(inside, &Deletion::default()).is_ok();
        }
    }
    done
}
