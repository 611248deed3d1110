use std::sync::Arc;

use pintail_api as api;
use serde_json::{Value, json};

use super::*;
use crate::compile::tests::workflow;

fn surroundings() -> Surroundings {
    let connection = |name: &str, spec: Value| {
        let spec: api::ConnectionSpec = serde_json::from_value(spec).expect("a connection");
        (name.to_owned(), Arc::new(api::Connection::new(&name.replace('_', "-"), spec)))
    };
    let listed = json!([{ "name": "products", "columns": [{ "name": "code", "type": "VARCHAR" }] }]);
    Surroundings {
        connections: [
            connection("shop", json!({ "duckdb": { "path": "shop.duckdb" }, "tables": listed })),
            connection("lake", json!({ "postgres": { "host": "h", "database": "d", "user": "u" } })),
            connection("raw", json!({ "folder": { "path": "data" } })),
            connection("mail", json!({ "smtp": { "host": "h", "from": "a@example.com" } })),
        ]
        .into(),
        ..Surroundings::default()
    }
}

fn sales() -> api::Workflow {
    let columns =
        json!([{ "name": "code", "type": "VARCHAR", "nullable": false }, { "name": "pieces", "type": "BIGINT" }]);
    workflow(json!({
        "inputs": [
            { "name": "lines", "type": "table", "columns": columns, "default": { "connection": "raw", "path": "x.csv" } },
            { "name": "few", "type": "table", "columns": columns, "default": { "rows": [{ "code": "A" }] } },
            { "name": "least", "type": "BIGINT" },
        ],
        "tasks": [
            { "name": "sums", "uses": ["lines", "least"], "reads": ["shop"], "duckdb": { "query": "SELECT 1 AS code" } },
            { "name": "others", "uses": ["few"], "duckdb": { "outputs": [{ "name": "more", "query": "SELECT 1 AS a" }] } },
            { "name": "kept", "uses": ["sums"], "writes": ["lake"],
                "duckdb": { "query": "FROM sums", "load": { "into": "lake.kept", "mode": "Append" } } },
            { "name": "told", "uses": ["sums"], "notify": { "connection": "mail", "to": ["a@example.com"], "subject": "x" } },
            { "name": "page", "uses": ["sums"], "report": { "title": "x" } },
        ],
        "outputs": [{ "name": "sums", "value": "$(tasks.sums)" }],
    }))
}

fn compiled(spec: Value) -> Result<PlannedTest, Vec<String>> {
    let spec: api::WorkflowTestSpec = serde_json::from_value(spec).expect("a test");
    let test = api::WorkflowTest { metadata: Default::default(), spec };
    let (workflow, surroundings) = (sales(), surroundings());
    let plan = compile(&workflow, &surroundings).expect("a plan");
    compile_test(&test, &workflow, &plan, &surroundings)
        .map_err(|problems| problems.iter().map(|problem| format!("{} {}", problem.path, problem.rule.id())).collect())
}

/// A right test of one task with something changed.
fn changed(change: impl FnOnce(&mut Value)) -> Result<PlannedTest, Vec<String>> {
    let mut spec = json!({
        "workflowRef": { "name": "w" },
        "only": ["sums"],
        "given": {
            "inputs": { "lines": { "rows": [{ "code": "A", "pieces": 1 }] }, "least": 3 },
            "tables": { "shop.products": { "rows": [{ "code": "A" }] } },
        },
        "expect": [{ "task": "sums", "rows": [{ "code": "A" }] }],
    });
    change(&mut spec);
    compiled(spec)
}

#[test]
fn a_test_runs_the_tasks_that_it_names_and_those_that_they_need() {
    let names = |test: PlannedTest| test.plan.tasks.into_iter().map(|task| task.name).collect::<Vec<_>>();
    assert_eq!(names(changed(|_| ()).unwrap()), ["sums"]);
    assert_eq!(names(changed(|spec| spec["only"] = json!(["kept"])).unwrap()), ["sums", "kept"]);
    assert_eq!(names(changed(|spec| spec["only"] = json!([])).unwrap()), ["sums", "others", "kept", "told", "page"]);
}

#[test]
fn what_is_given_is_bound_with_the_types_that_are_known() {
    let test = changed(|_| ()).unwrap();
    assert_eq!(test.inputs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["lines", "least"]);
    assert_eq!(test.now.to_string(), "2000-01-01T00:00:00Z");
    let [table] = test.tables.as_slice() else { panic!("one table") };
    assert_eq!((table.connection.as_str(), table.schema.as_deref(), table.table.as_str()), ("shop", None, "products"));
    assert_eq!(table.contract.as_ref().unwrap().columns[0].data_type, "VARCHAR");
    // A default of rows is as good as given.
    assert!(
        changed(|spec| (spec["only"], spec["expect"]) = (json!(["others"]), json!([{ "task": "others" }]))).is_ok()
    );
}

#[test]
fn what_a_workflow_does_not_read_and_what_does_not_fit_is_refused_at_its_place() {
    let given = |path: &str, value: Value| {
        changed(|spec| *spec.pointer_mut(path).unwrap() = value.clone()).err().unwrap_or_default()
    };
    let tables = "/given/tables";
    for (path, value, expected) in [
        ("/given/inputs", json!({ "least": 3 }), "spec.given.inputs missing-input"),
        ("/given/inputs", json!({ "lines": { "rows": [] } }), "spec.given.inputs missing-input"),
        (
            "/given/inputs/lines",
            json!({ "connection": "raw", "path": "x.csv" }),
            "spec.given.inputs.lines.connection table-source",
        ),
        (
            "/given/inputs/lines",
            json!({ "rows": [{ "code": 1 }] }),
            "spec.given.inputs.lines.rows[0].code invalid-value",
        ),
        ("/given/inputs/least", json!("many"), "spec.given.inputs.least invalid-value"),
        (tables, json!({ "products": { "rows": [] } }), "spec.given.tables.products unknown-table"),
        (tables, json!({ "raw.x": { "rows": [] } }), "spec.given.tables[\"raw.x\"] unknown-connection"),
        (tables, json!({ "shop.goods": { "rows": [] } }), "spec.given.tables[\"shop.goods\"] unknown-table"),
        (tables, json!({ "shop.products": {} }), "spec.given.tables[\"shop.products\"] table-source"),
        (tables, json!({ "lake.kept": { "rows": [] } }), "spec.given.tables[\"lake.kept\"] invalid-contract"),
        (
            tables,
            json!({ "lake.kept": { "rows": [], "columns": [{ "name": "a", "type": "int64" }] } }),
            "spec.given.tables[\"lake.kept\"].columns[0].type invalid-type",
        ),
    ] {
        assert_eq!(given(path, value.clone()), [expected], "{value}");
    }
    let unknown = changed(|spec| spec["given"]["inputs"]["line"] = json!(1)).unwrap_err();
    assert_eq!(unknown, ["spec.given.inputs.line unknown-input"]);
    // A table that the Connection does not list can be given with its columns.
    let columns = json!([{ "name": "a", "type": "INT" }]);
    assert!(given(tables, json!({ "shop.goods": { "rows": [{ "a": 1 }], "columns": columns } })).is_empty());
}

#[test]
fn a_task_is_expected_to_give_what_its_kind_gives() {
    let expect = |expectation: Value| {
        let all = |spec: &mut Value| (spec["only"], spec["expect"]) = (json!([]), json!([expectation]));
        changed(all).err().unwrap_or_default()
    };
    for right in [
        json!({ "task": "kept", "rows": [], "loaded": { "inserted": 1 } }),
        json!({ "task": "told", "sent": { "subject": "x" } }),
        json!({ "task": "others", "output": "more", "rows": [{ "a": 1 }], "inOrder": true }),
        json!({ "task": "page", "state": "Succeeded" }),
    ] {
        assert!(expect(right.clone()).is_empty(), "{right}");
    }
    for (wrong, expected) in [
        (json!({ "task": "told", "rows": [] }), "spec.expect[0].rows invalid-test"),
        (json!({ "task": "page", "sent": {} }), "spec.expect[0].sent invalid-test"),
        (json!({ "task": "others", "rows": [] }), "spec.expect[0].rows invalid-test"),
        (json!({ "task": "others", "output": "mor", "rows": [] }), "spec.expect[0].output unknown-name"),
        (json!({ "task": "sums", "inOrder": true }), "spec.expect[0].inOrder invalid-test"),
        (json!({ "task": "sums", "state": "Skipped", "rows": [] }), "spec.expect[0].rows invalid-test"),
        (json!({ "task": "summs" }), "spec.expect[0].task unknown-name"),
    ] {
        assert_eq!(expect(wrong.clone()), [expected], "{wrong}");
    }
    let idle = changed(|spec| spec["expect"][0]["task"] = json!("kept")).unwrap_err();
    assert_eq!(idle, ["spec.expect[0].task invalid-test"]);
}

#[test]
fn expected_rows_have_the_columns_and_types_of_the_result() {
    let rows = json!([{ "code": "A", "pieces": "2" }, { "cod": "A" }]);
    let test = changed(|spec| spec["expect"][0]["rows"] = rows).unwrap();
    let columns = [("Code", "VARCHAR"), ("pieces", "BIGINT")];
    let columns: Vec<_> = columns.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into();
    let found = check_expected_rows(&test, &|task, output| {
        assert_eq!((task, output), ("sums", "result"));
        Some(columns.clone())
    });
    let found: Vec<String> = found.iter().map(|problem| format!("{} {}", problem.path, problem.rule.id())).collect();
    assert_eq!(found, ["spec.expect[0].rows[0].pieces invalid-value", "spec.expect[0].rows[1].cod unknown-column"]);
    assert!(check_expected_rows(&test, &|_, _| None).is_empty());
}
