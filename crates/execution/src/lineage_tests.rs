use std::collections::{BTreeMap, BTreeSet};

use pintail_api as api;
use pintail_plan::manifest::{Object, parse_manifests};
use pintail_plan::{Plan, Surroundings, compile};
use pintail_protocol::{
    CheckedResult, ColumnLineage, ColumnSource, How, LineageTarget, ResultColumn, ResultLineage, SourceTable, Sources,
    TableShape,
};

use crate::lineage::trace;
use crate::sensitive::sensitive_problems;
use crate::*;

const MANIFESTS: &str = "
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata: { name: lake }
spec:
  duckdb: { path: lake.duckdb }
  tables:
    - { name: people, columns: [ { name: email, type: VARCHAR, sensitive: true } ] }
---
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata: { name: people }
spec:
  inputs:
    - { name: raw, type: table, columns: [ { name: email, type: VARCHAR } ], default: { rows: [] } }
  tasks:
    - { name: keep, uses: [raw], writes: [lake], duckdb: { query: FROM raw, load: { into: lake.people, mode: MODE } } }
    - { name: kept, uses: [keep], duckdb: { query: FROM keep } }
  outputs:
    - { name: everyone, value: $(tasks.kept), publish: { artifact: people }PROMISE }
";

fn read(mode: &str, promise: &str) -> (api::Workflow, Plan, Connections) {
    let text = MANIFESTS.replace("MODE", mode).replace("PROMISE", promise);
    let parsed = parse_manifests("a.yaml", &text);
    assert_eq!(parsed.problems, []);
    let (mut connections, mut workflow) = (Connections::new(), None);
    for document in parsed.documents {
        match document.object {
            Object::Connection(connection) => {
                connections.insert("lake".to_owned(), std::sync::Arc::new(*connection));
            }
            Object::Workflow(found) => workflow = Some(*found),
            _ => {}
        }
    }
    let workflow = workflow.unwrap();
    let surroundings = Surroundings { connections: connections.clone(), config_maps: BTreeMap::new() };
    let plan = compile(&workflow, &surroundings).unwrap();
    (workflow, plan, connections)
}

fn step(task: &str, table: SourceTable, how: How, masked: bool) -> ResultLineage {
    let source = ColumnSource { table, column: "email".to_owned(), how, masked };
    ResultLineage {
        task: task.to_owned(),
        target: LineageTarget::Output("result".to_owned()),
        columns: vec![ColumnLineage { name: "email".to_owned(), sources: vec![source].into(), unknown: None }],
        rows: Sources::default(),
    }
}

fn steps(how: How, masked: bool) -> Vec<ResultLineage> {
    let loaded = SourceTable::Loaded { task: "keep".to_owned() };
    vec![step("keep", SourceTable::Input("raw".to_owned()), How::Identity, false), step("kept", loaded, how, masked)]
}

fn database() -> SourceTable {
    SourceTable::Database { connection: "lake".to_owned(), table: "people".to_owned() }
}

#[test]
fn a_loaded_table_comes_from_its_query_and_from_the_rows_that_it_keeps() {
    for (mode, keeps) in [("Append", true), ("Replace", false)] {
        let (_, plan, connections) = read(mode, "");
        let traced = trace(&plan, &connections, &steps(How::Identity, false));
        let sources: Vec<SourceTable> = traced[1].columns[0].sources.iter().map(|source| source.table).collect();
        let mut expected = vec![SourceTable::Input("raw".to_owned())];
        expected.extend(keeps.then(database));
        assert_eq!(sources, expected, "{mode}");
    }
}

#[test]
fn only_a_value_in_the_clear_is_refused_and_a_release_lets_it_out() {
    for (how, masked, promise, refused) in [
        (How::Identity, false, "", true),
        (How::Aggregation, false, "", true),
        (How::Transformation, true, "", false),
        (How::Filter, false, "", false),
        (How::Identity, false, ", releases: [EMAIL]", false),
    ] {
        let (workflow, plan, connections) = read("Append", promise);
        let traced = trace(&plan, &connections, &steps(how, masked));
        let problems = sensitive_problems(&workflow, &plan, &connections, &traced);
        let found: Vec<String> = problems.iter().map(|problem| problem.path.to_string()).collect();
        let expected: &[&str] = if refused { &["spec.outputs[0].value"] } else { &[] };
        assert_eq!(found, expected, "{how:?} {masked} {promise}");
    }
}

fn publishing(columns: &[(&str, &str)], promise: &str) -> Publishers {
    let (workflow, plan, _) = read("Append", promise);
    let column = |(name, data_type): &(&str, &str)| ResultColumn {
        name: (*name).to_owned(),
        data_type: (*data_type).to_owned(),
    };
    let shape = TableShape { columns: columns.iter().map(column).collect(), open: false };
    let result = CheckedResult { task: "kept".to_owned(), output: "result".to_owned(), shape: Some(shape) };
    publishers(&workflow, &plan, &[result])
}

#[test]
fn a_column_that_goes_or_becomes_another_type_breaks_who_reads_it() {
    let before = publishing(&[("id", "BIGINT"), ("email", "VARCHAR")], "");
    let reader = Reader {
        workflow: "mailing".to_owned(),
        input: "people".to_owned(),
        dataset: "people".to_owned(),
        columns: BTreeSet::from(["id".to_owned()]),
        any: false,
    };
    let workflows = BTreeSet::from(["people".to_owned(), "mailing".to_owned()]);
    for (now, promise, refused) in [
        (vec![("id", "BIGINT"), ("email", "VARCHAR"), ("more", "DATE")], "", false),
        (vec![("id", "INTEGER"), ("email", "VARCHAR")], "", false),
        (vec![("id", "BIGINT")], "", false),
        (vec![("id", "DOUBLE"), ("email", "VARCHAR")], "", true),
        (vec![("email", "VARCHAR")], "", true),
        (vec![("email", "VARCHAR")], ", contract: Break", false),
    ] {
        let changes = dataset_changes(&before, &publishing(&now, promise), &workflows, std::slice::from_ref(&reader));
        assert_eq!(changes.iter().any(DatasetChange::is_refused), refused, "{now:?}");
    }
    // Nothing follows any more: who reads it would read an old version for ever.
    let gone = dataset_changes(&before, &Publishers::new(), &workflows, &[reader]);
    assert!(gone[0].is_refused());
}
