//! The CEL rules of the CRDs, evaluated as an API server does. `pintail-plan` takes the same rules from the same CRDs.

use kube_cel::Validator;
use serde_json::{Value, json};

/// The messages of the rules that an object breaks.
fn broken(kind: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let definition = crate::definitions().into_iter().find(|found| found.spec.names.kind == kind).expect("a kind");
    let schema = definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let mut schema = serde_json::to_value(schema.expect("a schema")).expect("JSON");
    // The API server knows the metadata of every kind.
    schema["properties"]["metadata"] = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
    match Validator::new().validate(&schema, object, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.as_slice().iter().map(|error| error.message.clone()).collect(),
    }
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": crate::API_VERSION, "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn workflow(task: Value) -> Value {
    object("Workflow", "w", json!({ "tasks": [task] }))
}

const ONE_KIND: &str = "set exactly one of duckdb, export, copy, notify, report";
const ONE_CONNECTION: &str = "set exactly one of folder, s3, http, duckdb, postgres, smtp, webhook, secrets";
const FROM: &str = "secretKeyRef";

#[test]
fn a_task_has_exactly_one_kind() {
    let query = json!({ "query": "SELECT 1" });
    let notify = json!({ "connection": "mail", "subject": "Hello" });
    assert!(broken("Workflow", &workflow(json!({ "name": "a", "duckdb": query })), None).is_empty());
    assert!(broken("Workflow", &workflow(json!({ "name": "a", "notify": notify })), None).is_empty());
    assert_eq!(broken("Workflow", &workflow(json!({ "name": "a" })), None), [ONE_KIND]);
    assert_eq!(
        broken("Workflow", &workflow(json!({ "name": "a", "duckdb": query, "notify": notify })), None),
        [ONE_KIND]
    );
}

#[test]
fn a_query_stands_in_one_place() {
    let from = json!({ "configMapKeyRef": { "name": "sql", "key": "a.sql" } });
    let task = |duckdb: Value| workflow(json!({ "name": "a", "duckdb": duckdb }));
    assert!(broken("Workflow", &task(json!({ "queryFrom": from })), None).is_empty());
    assert!(broken("Workflow", &task(json!({ "outputs": [{ "name": "x", "query": "SELECT 1" }] })), None).is_empty());
    let both = task(json!({ "query": "SELECT 1", "queryFrom": from }));
    assert_eq!(broken("Workflow", &both, None), ["set at most one of query and queryFrom"]);
}

#[test]
fn names_leave_room_for_what_is_added_to_them() {
    let task = json!({ "tasks": [{ "name": "a", "duckdb": { "query": "SELECT 1" } }] });
    let folder = json!({ "folder": { "path": "data" } });
    let run = json!({ "workflowRef": { "name": "w" } });
    for (kind, spec, length_max) in [("Workflow", task, 52), ("Connection", folder, 52), ("Execution", run, 63)] {
        assert!(broken(kind, &object(kind, &"a".repeat(length_max), spec.clone()), None).is_empty(), "{kind}");
        let long = object(kind, &"a".repeat(length_max + 1), spec);
        assert_eq!(broken(kind, &long, None), [format!("metadata.name has at most {length_max} characters")]);
    }
}

#[test]
fn a_connection_has_exactly_one_kind_with_whole_credentials() {
    let connection = |spec: Value| broken("Connection", &object("Connection", "c", spec), None);
    let from = json!({ FROM: { "name": "s", "key": "k" } });
    for right in [
        json!({ "folder": { "path": "data" } }),
        json!({ "s3": { "bucket": "data", "accessKeyIdFrom": from, "secretAccessKeyFrom": from } }),
        json!({ "s3": { "bucket": "data" } }),
        json!({ "http": { "url": "https://example.com" } }),
        json!({ "duckdb": { "path": "a.duckdb" } }),
        json!({ "postgres": { "host": "h", "database": "d", "user": "u" } }),
        json!({ "smtp": { "host": "h", "from": "a@example.com", "usernameFrom": from, "passwordFrom": from } }),
        json!({ "webhook": { "urlFrom": from } }),
        json!({ "secrets": { "pepper": from } }),
    ] {
        assert_eq!(connection(right.clone()), [""; 0], "{right}");
    }
    for (wrong, message) in [
        (json!({}), ONE_CONNECTION),
        (json!({ "folder": { "path": "data" }, "duckdb": { "path": "a" } }), ONE_CONNECTION),
        (
            json!({ "s3": { "bucket": "data", "accessKeyIdFrom": from } }),
            "set both of accessKeyIdFrom and secretAccessKeyFrom, or neither",
        ),
        (
            json!({ "smtp": { "host": "h", "from": "a@example.com", "passwordFrom": from } }),
            "set both of usernameFrom and passwordFrom, or neither",
        ),
        (json!({ "webhook": {} }), "set exactly one of url and urlFrom, or signingKeyFrom alone"),
        (
            json!({ "webhook": { "url": "https://x", "urlFrom": from } }),
            "set exactly one of url and urlFrom, or signingKeyFrom alone",
        ),
    ] {
        assert_eq!(connection(wrong.clone()), [message], "{wrong}");
    }
}

#[test]
fn an_execution_can_be_suspended_and_cancelled_and_not_changed() {
    let run = |spec: Value| object("Execution", "e", spec);
    let old = run(json!({ "workflowRef": { "name": "w" }, "inputs": { "least": 1 } }));
    let cancelled = run(json!({ "workflowRef": { "name": "w" }, "inputs": { "least": 1 }, "cancel": true }));
    assert!(broken("Execution", &cancelled, Some(&old)).is_empty());
    let held = run(json!({ "workflowRef": { "name": "w" }, "inputs": { "least": 1 }, "suspend": true }));
    assert!(broken("Execution", &held, Some(&old)).is_empty());
    for changed in [
        run(json!({ "workflowRef": { "name": "w" }, "inputs": { "least": 2 } })),
        run(json!({ "workflowRef": { "name": "w" }, "inputs": { "least": 1 }, "ttlAfterFinished": "7d" })),
        run(json!({ "workflowRef": { "name": "w" } })),
        run(json!({ "workflowRef": { "name": "v" }, "inputs": { "least": 1 } })),
        run(json!({ "workflowRef": { "name": "w" }, "inputs": { "least": 1 }, "retryOf": { "execution": "x" } })),
    ] {
        let message = "an Execution is immutable but for suspend and cancel; create another one";
        assert_eq!(broken("Execution", &changed, Some(&old)), [message], "{changed}");
    }
}

#[test]
fn an_artifact_never_changes() {
    let version = |rows: i64| {
        let spec = json!({
            "artifact": "sales", "createdAt": "2024-01-01T00:00:00Z", "uri": "/x", "rows": rows, "bytes": 1, "columns": [],
            "digest": "sha256:00",
        });
        object("Artifact", "a", spec)
    };
    assert!(broken("Artifact", &version(1), Some(&version(1))).is_empty());
    assert_eq!(
        broken("Artifact", &version(2), Some(&version(1))),
        ["an Artifact is immutable; publish another version"]
    );
}

/// A structural schema says the type of every value, and every rule has bounds above it.
#[test]
fn every_crd_is_small_and_describes_every_field() {
    for definition in crate::definitions() {
        let kind = definition.spec.names.kind.clone();
        let text = serde_json::to_string(&definition).expect("JSON");
        assert!(text.len() < 100_000, "{kind} has {} bytes", text.len());
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).expect("JSON");
        check_described(&schema["openAPIV3Schema"], &kind);
    }
}

fn check_described(schema: &Value, path: &str) {
    let is_free = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
    assert!(is_free || schema.get("type").is_some(), "{path} has a type");
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let is_root = matches!(name.as_str(), "spec" | "status") && path.matches('.').count() == 1;
        assert!(is_root || field.get("description").is_some(), "{path} has a description");
        check_described(field, &path);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(inner).filter(|inner| inner.is_object()) {
            check_described(inner, &format!("{path}[]"));
        }
    }
}

/// Without a bound the API server may refuse a rule for its estimated cost, and an object may be of any size. The limit
/// of a map is easily lost: a `length` on its field says nothing.
#[test]
fn every_list_and_map_of_a_spec_has_a_limit() {
    for definition in crate::definitions() {
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).expect("JSON");
        check_limits(&schema["openAPIV3Schema"]["properties"]["spec"], &definition.spec.names.kind);
    }
}

#[test]
fn every_reason_is_in_the_reference() {
    let page = include_str!("../../../docs/reference/conditions.md");
    let schema = serde_json::to_value(schemars::schema_for!(crate::ConditionReason)).expect("JSON");
    let alternatives = schema["oneOf"].as_array().expect("alternatives");
    for reason in alternatives.iter().filter_map(|alternative| alternative["const"].as_str()) {
        assert!(page.contains(&format!("`{reason}`")), "{reason}");
    }
    let reason: crate::ConditionReason = serde_json::from_str("\"Unschedulable\"").expect("a reason");
    assert_eq!(reason.word(), "Unschedulable");
}

fn check_limits(schema: &Value, path: &str) {
    for (inner, limit) in [("items", "maxItems"), ("additionalProperties", "maxProperties")] {
        if let Some(inner) = schema.get(inner).filter(|inner| inner.is_object()) {
            assert!(schema.get(limit).is_some(), "{path} has {limit}");
            check_limits(inner, &format!("{path}[]"));
        }
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        check_limits(field, &format!("{path}.{name}"));
    }
}
