//! What the server does to objects of certain kinds on their way in.

use serde_json::{Value, json};

use super::objects::{Key, Objects, Part};
use super::refusal::Refusal;
use super::resource::Resource;

/// Kinds whose `metadata.generation` counts changes of the spec.
pub fn counts_generations(resource: &Resource) -> bool {
    resource.is_custom() || resource.kind == "Pod"
}

const POD_GRACE_SECONDS: i64 = 30;

pub fn on_create(objects: &Objects, key: &Key, body: &mut Value) -> Result<(), Refusal> {
    let resource = key.resource();
    if let Some(metadata) = body["metadata"].as_object_mut() {
        for field in ["uid", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"] {
            metadata.remove(field);
        }
    }
    check_name(key)?;
    if resource.has_status
        && let Some(object) = body.as_object_mut()
    {
        object.remove("status");
    }
    match resource.kind {
        "Namespace" => body["status"] = json!({ "phase": "Active" }),
        "Pod" => {
            let account = body["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned();
            let accounts = Resource::named("serviceaccounts");
            if objects.get(&Key::new(accounts, &key.namespace, &account)).is_err() {
                let why = format!(
                    "error looking up service account {}/{account}: serviceaccount {account:?} not found",
                    key.namespace
                );
                return Err(Refusal::forbidden(resource, &key.name, &why));
            }
            body["spec"]["serviceAccountName"] = json!(account);
            body["status"] = json!({ "phase": "Pending", "qosClass": "Burstable" });
        }
        _ => {}
    }
    Ok(())
}

fn check_name(key: &Key) -> Result<(), Refusal> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name = &key.name;
    if name.len() <= 253 && name.chars().all(fits) && name.starts_with(ends) && name.ends_with(ends) {
        return Ok(());
    }
    let why = format!(
        "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
         '-' or '.', and must start and end with an alphanumeric character"
    );
    Err(Refusal::invalid(key.resource(), name, "metadata.name", &why))
}

/// What the object becomes when `body` is written over `old`: each part of it takes only what belongs to it.
pub fn merged(resource: &Resource, old: &Value, mut body: Value, part: Part) -> Result<Value, Refusal> {
    if part == Part::Status {
        let mut new = old.clone();
        new["status"] = body["status"].take();
        if new["status"].is_null()
            && let Some(object) = new.as_object_mut()
        {
            object.remove("status");
        }
        return Ok(new);
    }
    body["apiVersion"] = old["apiVersion"].clone();
    body["kind"] = old["kind"].clone();
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        set(&mut body["metadata"], field, old["metadata"].get(field));
    }
    set(&mut body["metadata"], "resourceVersion", old["metadata"].get("resourceVersion"));
    set(&mut body["metadata"], "managedFields", None);
    if resource.has_status {
        set(&mut body, "status", old.get("status"));
    }
    Ok(body)
}

fn set(object: &mut Value, field: &str, value: Option<&Value>) {
    let Some(object) = object.as_object_mut() else { return };
    match value {
        Some(value) => {
            object.insert(field.to_owned(), value.clone());
        }
        None => {
            object.remove(field);
        }
    }
}

pub fn on_update(key: &Key, old: &Value, new: &mut Value) -> Result<(), Refusal> {
    let resource = key.resource();
    match resource.kind {
        "Pod" => check_pod(key, old, new)?,
        "ControllerRevision" if old["data"] != new["data"] => {
            let why = "Invalid value: field is immutable";
            return Err(Refusal::invalid(resource, &key.name, "data", why));
        }
        "Execution" | "Artifact" => check_immutable(key, old, new)?,
        _ => {}
    }
    if counts_generations(resource) && without_status_and_metadata(old) != without_status_and_metadata(new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
    Ok(())
}

fn without_status_and_metadata(object: &Value) -> Value {
    let mut object = object.clone();
    set(&mut object, "status", None);
    set(&mut object, "metadata", None);
    object
}

/// Of a pod's spec only the deadline may change, downwards (images and tolerations, which nobody here changes, aside).
fn check_pod(key: &Key, old: &Value, new: &Value) -> Result<(), Refusal> {
    let rest = |object: &Value| {
        let mut spec = object["spec"].clone();
        set(&mut spec, "activeDeadlineSeconds", None);
        set(&mut spec, "nodeName", None);
        spec
    };
    if rest(old) != rest(new) {
        let why = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, \
                   `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to \
                   existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                   previously negative)";
        return Err(Refusal::invalid(key.resource(), &key.name, "spec", why));
    }
    let deadline = |object: &Value| object["spec"]["activeDeadlineSeconds"].as_i64();
    match (deadline(old), deadline(new)) {
        (Some(_), None) => {
            let why = "Invalid value: null: must not update from a positive integer to nil value";
            Err(Refusal::invalid(key.resource(), &key.name, "spec.activeDeadlineSeconds", why))
        }
        (Some(before), Some(after)) if after > before => {
            let why = format!("Invalid value: {after}: must be less than or equal to previous value");
            Err(Refusal::invalid(key.resource(), &key.name, "spec.activeDeadlineSeconds", &why))
        }
        (_, Some(after)) if after < 1 => {
            let why = format!("Invalid value: {after}: must be between 1 and 2147483647, inclusive");
            Err(Refusal::invalid(key.resource(), &key.name, "spec.activeDeadlineSeconds", &why))
        }
        _ => Ok(()),
    }
}

/// The rules of the CRDs, in CEL there.
fn check_immutable(key: &Key, old: &Value, new: &Value) -> Result<(), Refusal> {
    let fixed: &[&str] = match key.resource().kind {
        "Artifact" => {
            &["artifact", "partition", "createdAt", "uri", "rows", "bytes", "columns", "digest", "producedBy"]
        }
        _ => &["workflowRef", "inputs", "trigger", "retryOf"],
    };
    if fixed.iter().all(|field| old["spec"][field] == new["spec"][field]) {
        return Ok(());
    }
    Err(Refusal::invalid(key.resource(), &key.name, "spec", "Invalid value: it is immutable"))
}

/// How long the kubelet may take for the end of an object.
pub fn grace_seconds(resource: &Resource, object: &Value, asked: Option<i64>) -> i64 {
    if resource.kind != "Pod" {
        return 0;
    }
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    if object["spec"]["nodeName"].as_str().is_none_or(str::is_empty) || matches!(phase, "Succeeded" | "Failed") {
        return 0;
    }
    let default = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(POD_GRACE_SECONDS);
    asked.unwrap_or(default)
}
