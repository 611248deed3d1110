//! `pintail lineage`.

use std::fmt::Write;

use kube::ResourceExt;
use pintail_execution::table_text;
use pintail_plan::{OutputValue, PlannedWork};
use pintail_protocol::{ColumnLineage, ColumnSource, How, LineageTarget, ResultLineage, SourceTable, Sources};
use serde_json::{Value, json};

use crate::arguments::{Lineage, LineageOutput};
use crate::check::{Checked, CheckedWorkflow, check_sql};
use crate::diagnostics;
use crate::failure::{Code, CommandFailure};
use crate::manifests::Manifests;
use crate::openlineage;
use crate::output::{print_json, print_text};

/// Version of the JSON; it grows only where a field changes its meaning or goes.
const JSON_VERSION: u32 = 1;

pub fn lineage(arguments: &Lineage) -> Result<(), CommandFailure> {
    let manifests = Manifests::read(&arguments.files)?;
    let mut problems = manifests.problems();
    let checked = check_sql(&manifests)?;
    problems.extend(checked.problems.iter().filter(|located| !located.problem.rule.is_note()).cloned());
    match arguments.output {
        LineageOutput::Text => print_text(&as_text(&checked)),
        LineageOutput::Json => print_json(&as_json(&checked))?,
        LineageOutput::OpenLineage => {
            let now = jiff::Timestamp::now();
            for workflow in &checked.workflows {
                print_text(&format!("{}\n", openlineage::job_event(workflow, manifests.connections(), now)));
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    // What is wrong has no lineage, or a part of it.
    eprint!("{}", diagnostics::as_lines(&problems));
    Err(CommandFailure::shown(Code::Failed))
}

fn as_text(checked: &Checked<'_>) -> String {
    let mut text = String::new();
    for workflow in &checked.workflows {
        let name = workflow.workflow.name_any();
        for result in &workflow.lineage {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}  {}", heading(workflow, result));
            let width =
                result.columns.iter().map(|column| column.name.chars().count()).max().unwrap_or_default().max(4);
            for column in &result.columns {
                let _ = writeln!(text, "  {:width$}  {}", column.name, sources_text(column));
            }
            if !result.rows.is_empty() {
                let _ = writeln!(text, "  {:width$}  {}", "rows", list_text(&result.rows));
            }
            text.push('\n');
        }
    }
    text.truncate(text.trim_end().len());
    if text.is_empty() { text } else { text + "\n" }
}

/// The result, and where it goes.
fn heading(workflow: &CheckedWorkflow<'_>, result: &ResultLineage) -> String {
    let name = match &result.target {
        LineageTarget::Output(output) if output == "result" => result.task.clone(),
        LineageTarget::Output(output) => format!("{}.{output}", result.task),
        LineageTarget::Table { connection, table, .. } => {
            return format!("{}, setup writes {connection}.{table}", result.task);
        }
    };
    let mut text = name;
    if let Some(table) = loaded_into(workflow, result) {
        text += &format!(", loaded into {table}");
    }
    if let Some(dataset) = published_as(workflow, result) {
        text += &format!(", published as {dataset}");
    }
    text
}

/// `connection.table` of the load that writes a result.
pub fn loaded_into(workflow: &CheckedWorkflow<'_>, result: &ResultLineage) -> Option<String> {
    let task = workflow.plan.tasks.iter().find(|task| task.name == result.task)?;
    let PlannedWork::DuckDb { load: Some(load), .. } = &task.work else { return None };
    if result.target != LineageTarget::Output("result".to_owned()) {
        return None;
    }
    let schema = load.schema.iter().map(|schema| format!("{schema}.")).collect::<String>();
    Some(format!("{}.{schema}{}", load.connection, load.table))
}

/// The dataset that a result becomes a version of.
pub fn published_as<'a>(workflow: &'a CheckedWorkflow<'_>, result: &ResultLineage) -> Option<&'a str> {
    let LineageTarget::Output(name) = &result.target else { return None };
    let position = workflow.plan.tasks.iter().position(|task| task.name == result.task)?;
    let is_it = |value: &OutputValue| matches!(value, OutputValue::Result(task, output) if task.0 as usize == position && output == name);
    let mut outputs = workflow.plan.outputs.iter().filter(|output| is_it(&output.value));
    outputs.find_map(|output| Some(output.publish.as_ref()?.artifact.as_str()))
}

fn sources_text(column: &ColumnLineage) -> String {
    match &column.unknown {
        Some(reason) => format!("not known ({reason}): any of {}", list_text(&column.sources)),
        None if column.sources.is_empty() => "-".to_owned(),
        None => list_text(&column.sources),
    }
}

fn list_text(sources: &Sources) -> String {
    let one = |source: ColumnSource| {
        let how = match source.how {
            How::Identity => None,
            How::Transformation => Some("computed"),
            How::Aggregation => Some("aggregated"),
            How::Filter => Some("filter"),
            How::Join => Some("join"),
            How::GroupBy => Some("group"),
            How::Sort => Some("order"),
            How::Window => Some("window"),
            How::Conditional => Some("condition"),
        };
        let words: Vec<&str> = how.into_iter().chain(source.masked.then_some("masked")).collect();
        let column = format!("{}.{}", table_text(&source.table), source.column);
        if words.is_empty() { column } else { format!("{column} ({})", words.join(", ")) }
    };
    sources.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn as_json(checked: &Checked<'_>) -> Value {
    let workflow = |workflow: &CheckedWorkflow<'_>| {
        json!({
            "workflow": workflow.workflow.name_any(),
            "results": workflow.lineage.iter().map(|result| result_json(workflow, result)).collect::<Vec<_>>(),
        })
    };
    json!({ "version": JSON_VERSION, "workflows": checked.workflows.iter().map(workflow).collect::<Vec<_>>() })
}

fn result_json(workflow: &CheckedWorkflow<'_>, result: &ResultLineage) -> Value {
    let column = |column: &ColumnLineage| {
        json!({
            "name": column.name,
            "sources": sources_json(&column.sources),
            "unknown": column.unknown,
        })
    };
    let (output, written) = match &result.target {
        LineageTarget::Output(output) => (Some(output), None),
        LineageTarget::Table { connection, table, .. } => (None, Some(format!("{connection}.{table}"))),
    };
    json!({
        "task": result.task,
        "output": output,
        "table": written.or_else(|| loaded_into(workflow, result)),
        "dataset": published_as(workflow, result),
        "columns": result.columns.iter().map(column).collect::<Vec<_>>(),
        "rows": sources_json(&result.rows),
    })
}

fn sources_json(sources: &Sources) -> Vec<Value> {
    let one = |source: ColumnSource| {
        let kind = if matches!(source.table, SourceTable::Input(_)) { "input" } else { "table" };
        json!({
            kind: table_text(&source.table),
            "column": source.column,
            "how": source.how,
            "masked": source.masked,
        })
    };
    sources.iter().map(one).collect()
}
