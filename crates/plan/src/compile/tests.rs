use std::collections::BTreeMap;
use std::sync::Arc;

use pintail_api as api;
use pintail_engine::{LockMode, NeedKind, TaskIndex};
use serde_json::{Value, json};

use crate::*;

pub(crate) fn workflow(spec: Value) -> api::Workflow {
    let manifest = json!({
        "apiVersion": "pintail.dev/v1alpha1", "kind": "Workflow", "metadata": { "name": "retail" }, "spec": spec,
    });
    serde_json::from_value(manifest).expect("a workflow")
}

pub(crate) fn surroundings() -> Surroundings {
    let connection = |name: &str, spec: Value| {
        let manifest = json!({
            "apiVersion": "pintail.dev/v1alpha1", "kind": "Connection",
            "metadata": { "name": name.replace('_', "-") }, "spec": spec,
        });
        (name.to_owned(), Arc::new(serde_json::from_value(manifest).expect("a connection")))
    };
    Surroundings {
        connections: BTreeMap::from([
            connection("e_commerce", json!({ "duckdb": { "path": "/data/e.duckdb" } })),
            connection("same_file", json!({ "duckdb": { "path": "/data/./e.duckdb" } })),
            connection("lake", json!({ "duckdb": { "path": "/data/lake.duckdb" } })),
            connection("pg", json!({ "postgres": { "host": "h", "database": "d", "user": "u" } })),
            connection("files", json!({ "folder": { "path": "/data/files" } })),
            connection("web", json!({ "http": { "url": "https://example.com" } })),
            connection("mail", json!({ "smtp": { "host": "h", "from": "a@example.com" } })),
            connection("hook", json!({ "webhook": { "url": "https://example.com" } })),
            connection("keys", json!({ "secrets": { "pepper": { "secretKeyRef": { "name": "s", "key": "k" } } } })),
        ]),
        config_maps: BTreeMap::from([(
            "sql".to_owned(),
            BTreeMap::from([("a.sql".to_owned(), "SELECT 1 AS a".to_owned())]),
        )]),
    }
}

fn plan(spec: Value) -> Plan {
    compile(&workflow(spec), &surroundings()).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn needs(plan: &Plan, task: usize) -> Vec<(u32, NeedKind)> {
    plan.graph.tasks[task].needs.iter().map(|need| (need.task.0, need.kind)).collect()
}

#[test]
fn a_workflow_with_every_kind_of_task_becomes_a_plan() {
    let plan = plan(json!({
        "inputs": [
            { "name": "recent", "type": "table", "columns": [{ "name": "id", "type": "int8" }], "default": { "artifact": "recent_data" } },
            { "name": "min_quantity", "type": "BIGINT", "default": 0 },
            { "name": "day", "type": "timestamp", "optional": true },
        ],
        "defaults": { "retries": { "limit": 2 }, "timeout": "10m", "resources": { "cpu": "1", "memory": "1Gi" } },
        "tasks": [
            { "name": "trends", "uses": ["recent", "min_quantity"], "reads": ["e_commerce", "keys"], "resources": { "memory": "2Gi" },
              "duckdb": { "query": "SELECT 1", "outputs": [{ "name": "extra", "query": "SELECT 2" }] } },
            { "name": "stats", "with": { "t": "$(tasks.trends.extra)", "top": "$(inputs.min_quantity * 2)", "three": 3, "plain": "x" },
              "duckdb": { "queryFrom": { "configMapKeyRef": { "name": "sql", "key": "a.sql" } }, "kind": "Values" } },
            { "name": "trips", "uses": ["trends"], "writes": ["lake"], "duckdb": { "query": "SELECT 1",
              "load": { "into": "lake.taxi", "mode": "Upsert", "key": ["id"], "prefer": "f DESC", "stamp": "at",
                        "watermark": { "column": "c", "overlap": "1h", "until": "$(inputs.day)", "bind": "since" } } } },
            { "name": "after", "uses": ["trips"], "when": "$(tasks.trips.load.rows > 0 && tasks.stats.a == 1)", "duckdb": { "query": "FROM trips" } },
            { "name": "page", "uses": ["trends"], "report": { "title": "For $(execution.name)", "charts": [
                { "table": "trends", "mark": "Bar", "xColumn": "a", "yColumns": ["b"] }] } },
            { "name": "out", "uses": ["trends"], "export": { "table": "trends", "to": { "connection": "files", "path": "$(execution.name).csv" } } },
            { "name": "moved", "dependsOn": ["out", "trends"], "copy": { "from": { "connection": "files", "path": "*.csv" }, "to": { "connection": "files", "path": "old/" }, "move": true } },
            { "name": "told", "runs": "Always", "uses": ["page", "trends"], "notify": { "connection": "mail", "to": ["a@example.com"],
              "subject": "$(tasks.trends.rows) rows", "attach": [{ "table": "page", "as": "page.html" }, { "table": "trends", "as": "t.csv" }] } },
        ],
        "outputs": [
            { "name": "trends", "value": "$(tasks.trends)", "publish": { "artifact": "sales", "partition": { "day": "$(inputs.day)" } } },
            { "name": "page", "value": "$(tasks.page)" },
            { "name": "mean", "value": "$(tasks.stats.mean)" },
        ],
    }));
    assert_eq!(plan.inputs.len(), 3);
    assert_eq!(needs(&plan, 1), [(0, NeedKind::Result)]);
    assert_eq!(needs(&plan, 3), [(1, NeedKind::Result), (2, NeedKind::Result)]);
    assert_eq!(needs(&plan, 6), [(0, NeedKind::Order), (5, NeedKind::Order)]);
    let lock = |task: usize| {
        plan.graph.tasks[task].locks.iter().map(|lock| (lock.resource.as_str(), lock.mode)).collect::<Vec<_>>()
    };
    assert_eq!(lock(0), [("duckdb:/data/e.duckdb", LockMode::Shared)]);
    assert_eq!(lock(2), [("duckdb:/data/lake.duckdb", LockMode::Exclusive)]);
    assert_eq!(
        lock(3),
        [("duckdb:/data/lake.duckdb", LockMode::Shared)],
        "what reads a loaded table reads its database"
    );
    assert!(matches!(&plan.tasks[3].bindings[0].value,
        BindingValue::LoadedTable { task: TaskIndex(2), connection, table } if connection == "lake" && table == "taxi"));
    assert_eq!(plan.tasks[0].resources.memory_bytes, Some(2 << 30));
    assert_eq!(plan.tasks[0].resources.cpu_millis, Some(1000));
    assert_eq!(plan.tasks[0].results[0].published_by, Some(0));
    assert_eq!(
        plan.tasks[0].connections.iter().map(|used| (used.name.as_str(), used.writes)).collect::<Vec<_>>(),
        [("e_commerce", false), ("keys", false)]
    );
    assert!(plan.revision.starts_with("retail-") && plan.revision.len() == 17, "{}", plan.revision);
}

#[test]
fn outputs_that_are_left_out_are_the_results_that_no_task_uses() {
    let plan = plan(json!({ "tasks": [
        { "name": "a", "duckdb": { "query": "SELECT 1", "outputs": [{ "name": "x", "query": "SELECT 1" }, { "name": "z", "query": "SELECT 1" }] } },
        { "name": "b", "uses": ["a"], "with": { "x": "$(tasks.a.x)" }, "duckdb": { "query": "SELECT 1" } },
        { "name": "v", "duckdb": { "query": "SELECT 1", "kind": "Values" } },
        { "name": "l", "writes": ["lake"], "duckdb": { "query": "SELECT 1", "load": { "into": "lake.t", "mode": "Append" } } },
    ] }));
    let names: Vec<&str> = plan.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["a_z", "b", "l"]);
}

#[test]
fn a_revision_changes_with_the_definition_and_with_the_sql_of_config_maps() {
    let spec = json!({ "tasks": [{ "name": "a", "duckdb": { "queryFrom": { "configMapKeyRef": { "name": "sql", "key": "a.sql" } } } }] });
    let inline = json!({ "tasks": [{ "name": "a", "duckdb": { "query": "SELECT 1 AS a" } }] });
    let other = json!({ "tasks": [{ "name": "a", "duckdb": { "query": "SELECT 2 AS a" } }] });
    assert_eq!(plan(spec.clone()).revision, plan(inline).revision);
    assert_ne!(plan(spec).revision, plan(other).revision);
}
