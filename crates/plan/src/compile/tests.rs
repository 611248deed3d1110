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

/// A workflow of `tasks` tasks in layers, as YAML, each with an expression and a query.
pub(crate) fn generated(tasks: usize) -> String {
    use std::fmt::Write as _;
    let mut text = "apiVersion: pintail.dev/v1alpha1\nkind: Workflow\nmetadata: { name: generated }\nspec:\n  inputs:\n    - { name: least, type: BIGINT, default: 1 }\n  tasks:\n".to_owned();
    for index in 0..tasks {
        let name = format!("t{index}");
        let uses = if index >= 10 {
            format!("[least, t{}, t{}]", index - 10, index - 9 + index % 9)
        } else {
            "[least]".to_owned()
        };
        let when = if index >= 10 {
            format!("      when: $(tasks.t{}.rows > inputs.least + {index} || has(inputs.least))\n", index - 10)
        } else {
            String::new()
        };
        writeln!(text, "    - name: {name}\n      uses: {uses}\n{when}      retries: {{ limit: 2 }}\n      duckdb:\n        query: |\n          SELECT *, $least AS least\n          FROM (VALUES ({index})) AS v(a)\n          WHERE a > $least").expect("text");
    }
    text
}

#[test]
fn a_workflow_of_a_thousand_tasks_compiles() {
    let text = generated(1000);
    let start = std::time::Instant::now();
    let parsed = crate::manifest::parse_manifests("a.yaml", &text);
    let parse_time = start.elapsed();
    assert_eq!(parsed.problems, []);
    let crate::manifest::Object::Workflow(workflow) = &parsed.documents[0].object else { panic!("a workflow") };
    let plan = compile(workflow, &Surroundings::default()).expect("right");
    println!("{} KiB: parse {parse_time:?}, compile {:?}", text.len() >> 10, start.elapsed() - parse_time);
    assert_eq!(plan.tasks.len(), 1000);
}

#[test]
fn a_workflow_beyond_the_limits_is_refused() {
    let many: Vec<Value> =
        (0..1001).map(|index| json!({ "name": format!("t{index}"), "duckdb": { "query": "SELECT 1" } })).collect();
    let query = "x".repeat(130_000);
    let large: Vec<Value> =
        (0..5).map(|index| json!({ "name": format!("t{index}"), "duckdb": { "query": query } })).collect();
    for tasks in [many, large] {
        let problems = compile(&workflow(json!({ "tasks": tasks })), &surroundings()).expect_err("too large");
        assert_eq!(problems.iter().map(|problem| problem.rule).collect::<Vec<_>>(), [Rule::PlanLimit]);
    }
}

fn inputs() -> Plan {
    plan(json!({
        "inputs": [
            { "name": "least", "type": "BIGINT", "default": 1 },
            { "name": "day", "type": "DATE", "optional": true },
            { "name": "tags", "type": "VARCHAR[]" },
            { "name": "recent", "type": "table" },
        ],
        "tasks": [{ "name": "a", "duckdb": { "query": "SELECT 1" } }],
    }))
}

fn given(value: Value) -> BTreeMap<String, api::Binding> {
    serde_json::from_value(value).expect("bindings")
}

#[test]
fn inputs_alone_compile_without_the_connections_that_they_name() {
    let of_type = |data_type: &str| {
        let default = json!({ "connection": "elsewhere", "path": "rides.csv" });
        workflow(json!({
            "inputs": [{ "name": "rides", "type": data_type, "default": default }],
            "tasks": [{ "name": "a", "duckdb": { "query": "SELECT 1" } }],
        }))
    };
    assert_eq!(compile_inputs(&of_type("table")).expect("inputs")[0].name, "rides");
    assert!(compile_inputs(&of_type("tabel")).is_err());
}

#[test]
fn inputs_are_bound_to_what_is_given_or_to_their_default() {
    let bound = bind_inputs(&inputs(), &given(json!({ "tags": ["a"], "recent": { "uri": "a.csv" } }))).expect("bound");
    let source = api::TableSource { uri: Some("a.csv".to_owned()), ..Default::default() };
    assert_eq!(
        bound,
        [
            ("least".to_owned(), InputValue::Scalar(json!(1))),
            ("day".to_owned(), InputValue::Scalar(Value::Null)),
            ("tags".to_owned(), InputValue::Scalar(json!(["a"]))),
            ("recent".to_owned(), InputValue::Table(source)),
        ]
    );
}

#[test]
fn every_input_that_cannot_be_bound_is_named() {
    let problems =
        bind_inputs(&inputs(), &given(json!({ "least": "x", "daay": 1, "day": "2024-13-01", "recent": "a.csv" })));
    let problems: Vec<String> = problems.expect_err("problems").iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("inputs", problems.join("\n"));
}

#[test]
fn the_text_of_an_input_is_read_by_its_type() {
    let table = InputKind::Table { contract: None };
    let scalar = |name: &str| InputKind::Scalar(DataType(name.to_owned()));
    for (kind, text, expected) in [
        (scalar("BIGINT"), "5", json!(5)),
        (scalar("BIGINT"), "five", json!("five")),
        (scalar("DOUBLE"), "1.5", json!(1.5)),
        (scalar("BOOLEAN"), "true", json!(true)),
        (scalar("VARCHAR"), "5", json!("5")),
        (scalar("VARCHAR"), "null", json!("null")),
        (scalar("DATE"), "null", json!(null)),
        (scalar("DATE"), "2024-01-31", json!("2024-01-31")),
        (scalar("DECIMAL(12,2)"), "1.10", json!("1.10")),
        (scalar("VARCHAR[]"), "[\"a\"]", json!(["a"])),
        (scalar("JSON"), "{\"a\": 1}", json!({ "a": 1 })),
        (scalar("JSON"), "a", json!("a")),
        (table.clone(), "data/x.csv", json!({ "uri": "data/x.csv" })),
        (table.clone(), "{\"artifact\": \"x\"}", json!({ "artifact": "x" })),
        (table.clone(), "[{\"a\": 1}]", json!({ "rows": [{ "a": 1 }] })),
    ] {
        assert_eq!(parse_input_text(&kind, text).map(|binding| binding.0), Ok(expected), "{text}");
    }
    assert!(parse_input_text(&scalar("VARCHAR[]"), "a").is_err());
    assert!(parse_input_text(&table, "{").is_err());
}
