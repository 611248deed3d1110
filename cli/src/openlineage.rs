//! Lineage as OpenLineage has it: a job event with the facet `columnLineage` of every dataset that a workflow writes.

use std::collections::BTreeMap;

use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::{Connections, dataset_of};
use pintail_plan::{InputValue, OutputValue, PlannedWork};
use pintail_protocol::{ColumnSource, How, LineageTarget, ResultLineage, SourceTable, Sources};
use serde_json::{Map, Value, json};

use crate::check::CheckedWorkflow;
use crate::commands::lineage::{loaded_into, published_as};

const PRODUCER: &str = concat!("https://pintail.dev/", env!("CARGO_PKG_VERSION"));
const EVENT_SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/JobEvent";
const FACET_SCHEMA: &str =
    "https://openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json#/$defs/ColumnLineageDatasetFacet";
/// Of jobs, and of what only Pintail knows by name.
const NAMESPACE: &str = "pintail";

/// Namespace and name, as OpenLineage names datasets.
type Dataset = (String, String);

/// What a workflow reads and writes, without a run.
pub fn job_event(workflow: &CheckedWorkflow<'_>, connections: &Connections, now: jiff::Timestamp) -> Value {
    let names = Names { workflow, connections };
    let mut inputs: BTreeMap<Dataset, ()> = BTreeMap::new();
    let mut outputs = Vec::new();
    for result in &workflow.lineage {
        let sources = result.columns.iter().map(|column| &column.sources).chain([&result.rows]);
        inputs.extend(sources.flat_map(Sources::iter).map(|source| (names.of(&source.table), ())));
        for (namespace, name) in names.written(result) {
            outputs.push(json!({
                "namespace": namespace,
                "name": name,
                "facets": { "columnLineage": names.facet(result) },
            }));
        }
    }
    json!({
        "eventTime": now.to_string(),
        "producer": PRODUCER,
        "schemaURL": EVENT_SCHEMA,
        "job": { "namespace": NAMESPACE, "name": workflow.workflow.name_any() },
        "inputs": inputs
            .into_keys()
            .map(|(namespace, name)| json!({ "namespace": namespace, "name": name }))
            .collect::<Vec<_>>(),
        "outputs": outputs,
    })
}

struct Names<'a> {
    workflow: &'a CheckedWorkflow<'a>,
    connections: &'a Connections,
}

impl Names<'_> {
    fn facet(&self, result: &ResultLineage) -> Value {
        let fields: Map<String, Value> = result
            .columns
            .iter()
            .map(|column| (column.name.clone(), json!({ "inputFields": self.fields(&column.sources) })))
            .collect();
        json!({
            "_producer": PRODUCER,
            "_schemaURL": FACET_SCHEMA,
            "fields": fields,
            "dataset": self.fields(&result.rows),
        })
    }

    fn fields(&self, sources: &Sources) -> Vec<Value> {
        let one = |source: ColumnSource| {
            let (namespace, name) = self.of(&source.table);
            let (kind, subtype) = transformation(source.how);
            json!({
                "namespace": namespace,
                "name": name,
                "field": source.column,
                "transformations": [
                    { "type": kind, "subtype": subtype, "description": "", "masking": source.masked },
                ],
            })
        };
        sources.iter().map(one).collect()
    }

    /// The datasets that a result becomes: a table that is written, a published version, an output.
    fn written(&self, result: &ResultLineage) -> Vec<Dataset> {
        let mut written = Vec::new();
        if let LineageTarget::Table { connection, table, .. } = &result.target {
            written.push(self.table(connection, table));
        }
        if let Some((connection, table)) =
            loaded_into(self.workflow, result).as_deref().and_then(|it| it.split_once('.'))
        {
            written.push(self.table(connection, table));
        }
        if let Some(dataset) = published_as(self.workflow, result) {
            written.push((NAMESPACE.to_owned(), dataset.to_owned()));
        }
        let plan = &self.workflow.plan;
        for output in plan.outputs.iter().filter(|output| output.publish.is_none()) {
            let OutputValue::Result(task, name) = &output.value else { continue };
            let is_task = plan.tasks.get(task.0 as usize).is_some_and(|task| task.name == result.task);
            if is_task && result.target == LineageTarget::Output(name.clone()) {
                written.push((NAMESPACE.to_owned(), format!("{}.{}", plan.workflow, output.name)));
            }
        }
        for task in &plan.tasks {
            let PlannedWork::Export { table, connection, path, .. } = &task.work else { continue };
            let binding = task.bindings.iter().find(|binding| binding.name == *table);
            let Some(pintail_plan::BindingValue::TaskTable(of, name)) = binding.map(|it| &it.value) else { continue };
            let is_task = plan.tasks.get(of.0 as usize).is_some_and(|task| task.name == result.task);
            if is_task && result.target == LineageTarget::Output(name.clone()) {
                written.push(self.file(connection, &path.source));
            }
        }
        written
    }

    fn of(&self, table: &SourceTable) -> Dataset {
        let own = |name: &str| (NAMESPACE.to_owned(), format!("{}.{name}", self.workflow.plan.workflow));
        match table {
            SourceTable::Database { connection, table } => self.table(connection, table),
            SourceTable::Result { task, .. } | SourceTable::Loaded { task } => own(task),
            SourceTable::Input(name) => {
                let Some(input) = self.workflow.plan.inputs.iter().find(|input| input.name == *name) else {
                    return own(name);
                };
                if let Some(dataset) = dataset_of(input) {
                    return (NAMESPACE.to_owned(), dataset.to_owned());
                }
                match &input.default {
                    Some(InputValue::Table(api::TableSource {
                        connection: Some(connection),
                        path: Some(path),
                        ..
                    })) => self.file(connection, path),
                    _ => own(name),
                }
            }
        }
    }

    fn table(&self, connection: &str, table: &str) -> Dataset {
        let spec = self.connections.get(connection).map(|connection| &connection.spec);
        if let Some(postgres) = spec.and_then(|spec| spec.postgres.as_ref()) {
            let qualified = if table.contains('.') { table.to_owned() } else { format!("public.{table}") };
            let port = postgres.port.unwrap_or(5432);
            return (format!("postgres://{}:{port}", postgres.host), format!("{}.{qualified}", postgres.database));
        }
        if let Some(duckdb) = spec.and_then(|spec| spec.duckdb.as_ref()) {
            return (format!("duckdb://{}", duckdb.path), table.to_owned());
        }
        (NAMESPACE.to_owned(), format!("{connection}.{table}"))
    }

    fn file(&self, connection: &str, path: &str) -> Dataset {
        let spec = self.connections.get(connection).map(|connection| &connection.spec);
        let below = |root: &str| format!("{}/{path}", root.trim_end_matches('/'));
        if let Some(s3) = spec.and_then(|spec| spec.s3.as_ref()) {
            let prefix = s3.prefix.trim_matches('/');
            let name = if prefix.is_empty() { path.to_owned() } else { format!("{prefix}/{path}") };
            return (format!("s3://{}", s3.bucket), name);
        }
        if let Some(folder) = spec.and_then(|spec| spec.folder.as_ref()) {
            return ("file".to_owned(), below(&folder.path));
        }
        if let Some(http) = spec.and_then(|spec| spec.http.as_ref()) {
            return (http.url.clone(), path.to_owned());
        }
        (NAMESPACE.to_owned(), format!("{connection}.{path}"))
    }
}

fn transformation(how: How) -> (&'static str, &'static str) {
    match how {
        How::Identity => ("DIRECT", "IDENTITY"),
        How::Transformation => ("DIRECT", "TRANSFORMATION"),
        How::Aggregation => ("DIRECT", "AGGREGATION"),
        How::Filter => ("INDIRECT", "FILTER"),
        How::Join => ("INDIRECT", "JOIN"),
        How::GroupBy => ("INDIRECT", "GROUP_BY"),
        How::Sort => ("INDIRECT", "SORT"),
        How::Window => ("INDIRECT", "WINDOW"),
        How::Conditional => ("INDIRECT", "CONDITIONAL"),
    }
}
