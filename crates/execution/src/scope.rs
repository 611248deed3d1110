//! What the expressions of a run see.

use jiff::Timestamp;
use pintail_plan::expression::Scope;
use pintail_protocol::{ReportOutcome, Results, StoreLocation, TaskReport};
use serde_json::{Map, Value, json};

use crate::input::{BoundInput, BoundSource};
use crate::run::RunContext;

/// Where the data of a key is, as people write it: a path, or `s3://bucket/…`.
pub(crate) fn uri(store: &StoreLocation, key: &str) -> String {
    match store {
        StoreLocation::Folder { path } => format!("{}/{key}", path.trim_end_matches('/')),
        StoreLocation::S3 { bucket, prefix } if prefix.is_empty() => format!("s3://{bucket}/{key}"),
        StoreLocation::S3 { bucket, prefix } => format!("s3://{bucket}/{prefix}/{key}"),
    }
}

/// The key of `uri`, where it lies in `store`.
pub(crate) fn key_of(store: &StoreLocation, uri_text: &str) -> Option<String> {
    uri_text.strip_prefix(&uri(store, "")).map(str::to_owned)
}

pub(crate) fn scope<'a>(
    context: &RunContext,
    inputs: &[BoundInput],
    reports: impl Iterator<Item = (&'a str, &'a TaskReport)>,
) -> Scope {
    let scalars = inputs.iter().filter_map(|input| match &input.source {
        BoundSource::Scalar(value) => Some((input.name.clone(), value.clone())),
        BoundSource::Table(_) | BoundSource::Artifact { .. } => None,
    });
    let tasks = reports.filter_map(|(name, report)| match &report.outcome {
        ReportOutcome::Succeeded(results) => Some((name.to_owned(), task_value(&context.store, results))),
        ReportOutcome::Failed(_) => None,
    });
    Scope {
        inputs: Value::Object(scalars.collect()),
        tasks: Value::Object(tasks.collect()),
        execution: json!({
            "name": context.name,
            "uid": context.uid,
            "startTime": context.start_time.to_string(),
            "scheduledTime": scheduled_time(context).to_string(),
        }),
        ..Scope::default()
    }
}

/// When the occurrence was that the run is for; its start where a person started it.
fn scheduled_time(context: &RunContext) -> Timestamp {
    let started = context.started_by.as_ref();
    started.and_then(|started| started.time.parse().ok()).unwrap_or(context.start_time)
}

/// `$(tasks.x)`: the fields of its main result, its further outputs by name, and `load`.
fn task_value(store: &StoreLocation, results: &Results) -> Value {
    let mut fields = Map::new();
    for table in &results.tables {
        let first = table.files.first().map(|file| uri(store, &file.key));
        add(&mut fields, &table.name, json!({ "rows": table.rows, "bytes": table.bytes, "uri": first }));
    }
    for row in &results.values {
        let values = row.values.iter().map(|value| (value.name.clone(), value.value.clone()));
        add(&mut fields, &row.name, Value::Object(values.collect()));
    }
    for file in &results.files {
        add(&mut fields, &file.name, json!({ "bytes": file.file.bytes, "uri": uri(store, &file.file.key) }));
    }
    if let Some(load) = &results.load {
        let value = json!({
            "rows": load.rows, "inserted": load.inserted, "updated": load.updated, "watermark": load.watermark,
        });
        fields.insert("load".to_owned(), value);
    }
    if let Some(first) = results.written.first() {
        fields.insert("uri".to_owned(), json!(first.uri));
        fields.insert("files".to_owned(), json!(results.written.len()));
        fields.insert("bytes".to_owned(), json!(results.written.iter().map(|file| file.bytes).sum::<u64>()));
        fields.insert("rows".to_owned(), json!(first.rows));
    }
    Value::Object(fields)
}

/// The main result's fields are the task's own; a further output's stand under its name.
fn add(fields: &mut Map<String, Value>, name: &str, value: Value) {
    if let (MAIN_RESULT, Value::Object(own)) = (name, &value) {
        fields.extend(own.clone());
    }
    fields.insert(name.to_owned(), value);
}

/// Name of a task's main result.
pub const MAIN_RESULT: &str = "result";
