//! `pintail preview`: schema and first rows of what is committed, or an answer to a question about it.

use std::path::PathBuf;

use kube::ResourceExt;
use pintail_api as api;
use pintail_protocol::{Preview as Rows, ReportOutcome, StoredFile, TableResult};
use serde_json::{Map, Value, json};

use crate::arguments::{Output, Preview};
use crate::failure::CommandFailure;
use crate::local::records::Records;
use crate::local::start::committed_of;
use crate::output::{print_json, print_table};
use crate::place::Place;
use crate::progress::grouped;

/// The name under which a question sees the rows.
pub const TABLE: &str = "result";

/// Rows for people, and what they are of.
pub struct Shown {
    pub what: String,
    /// Of the whole table.
    pub rows: i64,
    pub table: Rows,
}

/// A committed table.
struct Found {
    what: String,
    rows: i64,
    files: Vec<StoredFile>,
}

pub async fn preview(arguments: Preview) -> Result<(), CommandFailure> {
    let shown = match Place::open(&arguments.place).await? {
        Place::Store(records) => read_here(&records, &arguments).await?,
        Place::Cluster(cluster) => crate::cluster::data::preview(&cluster, &arguments).await?,
    };
    print(shown, &arguments)
}

async fn read_here(records: &Records, arguments: &Preview) -> Result<Shown, CommandFailure> {
    let Found { what, rows, files } = find(records, &arguments.name, arguments.part.as_deref()).await?;
    let scratch = tempfile::tempdir().map_err(CommandFailure::failed)?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for file in &files {
        paths.push(records.store.stage(file, scratch.path()).await?);
    }
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let read = pintail_task_runner::preview(&paths, TABLE, arguments.sql.as_deref(), limit)
        .map_err(|failure| CommandFailure::failed(format!("{what}: {}", failure.message)))?;
    Ok(Shown { what, rows, table: Rows { columns: read.columns, rows: read.rows } })
}

fn print(shown: Shown, arguments: &Preview) -> Result<(), CommandFailure> {
    let Shown { what, rows, table } = shown;
    if arguments.output == Output::Json {
        let row = |row: &Vec<Option<String>>| {
            let cells = table.columns.iter().zip(row).map(|(column, cell)| (column.name.clone(), json!(cell)));
            Value::Object(cells.collect::<Map<_, _>>())
        };
        let columns = table.columns.iter().map(|column| json!({ "name": column.name, "type": column.data_type }));
        return print_json(&json!({
            "columns": columns.collect::<Vec<_>>(),
            "rows": table.rows.iter().map(row).collect::<Vec<_>>(),
        }));
    }
    if arguments.sql.is_none() {
        eprintln!("{what}: {} rows", grouped(rows));
    }
    let header: Vec<String> =
        table.columns.iter().map(|column| format!("{}\n{}", column.name, column.data_type.to_lowercase())).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let cell = |cell: Option<String>| cell.unwrap_or_else(|| "NULL".to_owned());
    print_table(&header, table.rows.into_iter().map(|row| row.into_iter().map(cell).collect()));
    Ok(())
}

/// A published version by its name, the newest of a dataset, or a table of a run.
async fn find(records: &Records, name: &str, part: Option<&str>) -> Result<Found, CommandFailure> {
    if part.is_none() {
        let artifacts = records.artifacts().await?;
        let named = artifacts.iter().find(|artifact| artifact.name_any() == name);
        if let Some(artifact) = named.or_else(|| pintail_execution::newest_artifact(&artifacts, name, None)) {
            return of_artifact(records, artifact);
        }
    }
    let execution = records.execution(name).await?.execution;
    let committed = committed_of(records, &execution).await?;
    let outputs = execution.status.as_ref().map(|status| status.outputs.clone()).unwrap_or_default();
    let tables: Vec<(&String, &TableResult)> = committed
        .iter()
        .flat_map(|(task, result)| match &result.report.outcome {
            ReportOutcome::Succeeded(results) => results.tables.iter().map(|table| (task, table)).collect(),
            ReportOutcome::Failed(_) => Vec::new(),
        })
        .collect();
    let of_output = |wanted: &str| {
        let uri = outputs.iter().find(|output| output.name == wanted)?.uri.clone()?;
        tables.iter().find(|(_, table)| table.files.iter().any(|file| records.store.uri(&file.key) == uri))
    };
    let table = match part {
        Some(wanted) => of_output(wanted).or_else(|| tables.iter().find(|(task, _)| *task == wanted)),
        None => outputs.iter().find_map(|output| of_output(&output.name)).or(tables.first()),
    };
    let Some((task, table)) = table else {
        let names: Vec<&str> = outputs
            .iter()
            .map(|output| output.name.as_str())
            .chain(tables.iter().map(|(task, _)| task.as_str()))
            .collect();
        let wanted = part.unwrap_or("table");
        return Err(CommandFailure::failed(format!(
            "run {} has no committed table {wanted:?}; it has: {}",
            execution.name_any(),
            names.join(", ")
        )));
    };
    Ok(Found {
        what: format!("{} of {}", task, execution.name_any()),
        rows: i64::try_from(table.rows).unwrap_or(i64::MAX),
        files: table.files.clone(),
    })
}

fn of_artifact(records: &Records, artifact: &api::Artifact) -> Result<Found, CommandFailure> {
    let spec = &artifact.spec;
    let key = spec.uri.strip_prefix(&records.store.uri("")).ok_or_else(|| {
        CommandFailure::failed(format!("{} has its data at {}, outside this store", artifact.name_any(), spec.uri))
    })?;
    let file =
        StoredFile { key: key.to_owned(), bytes: u64::try_from(spec.bytes).unwrap_or(0), digest: spec.digest.clone() };
    Ok(Found { what: format!("{} ({})", artifact.name_any(), spec.artifact), rows: spec.rows, files: vec![file] })
}
