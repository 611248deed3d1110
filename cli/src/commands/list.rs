//! `pintail list` and `pintail get`: what a store holds.

use jiff::Timestamp;
use kube::ResourceExt;
use pintail_api as api;

use crate::arguments::{Get, List, ListKind, Output};
use crate::failure::CommandFailure;
use crate::local::records::Records;
use crate::output::{print_json, print_table, size_text};
use crate::progress::grouped;

pub async fn list(arguments: List) -> Result<(), CommandFailure> {
    let records = Records::open(&arguments.store.store).await?;
    match arguments.kind {
        ListKind::Runs => {
            let executions = records.executions().await?;
            match arguments.output {
                Output::Pretty => {
                    print_table(&["RUN", "STATUS", "TASKS", "STARTED", "DURATION"], executions.iter().map(run_row))
                }
                Output::Json => print_json(&list_of("ExecutionList", &executions)?)?,
                Output::Name => executions.iter().for_each(|execution| println!("{}", execution.name_any())),
            }
        }
        ListKind::Artifacts => {
            let artifacts = records.artifacts().await?;
            match arguments.output {
                Output::Pretty => print_table(
                    &["ARTIFACT", "DATASET", "PARTITION", "ROWS", "SIZE", "CREATED BY", "AGE"],
                    artifacts.iter().map(artifact_row),
                ),
                Output::Json => print_json(&list_of("ArtifactList", &artifacts)?)?,
                Output::Name => artifacts.iter().for_each(|artifact| println!("{}", artifact.name_any())),
            }
        }
    }
    Ok(())
}

pub async fn get(arguments: Get) -> Result<(), CommandFailure> {
    let records = Records::open(&arguments.store.store).await?;
    let artifacts = records.artifacts().await?;
    if let Some(artifact) = artifacts.iter().find(|artifact| artifact.name_any() == arguments.name) {
        match arguments.output {
            Output::Pretty => print_artifact(artifact),
            Output::Json => print_json(artifact)?,
            Output::Name => println!("{}", arguments.name),
        }
        return Ok(());
    }
    let stored = records.execution(&arguments.name).await?;
    match arguments.output {
        Output::Pretty => print_execution(&stored.execution),
        Output::Json => print_json(&stored.execution)?,
        Output::Name => println!("{}", stored.execution.name_any()),
    }
    Ok(())
}

/// A list as `kubectl get -o json` prints it.
fn list_of<T: serde::Serialize>(kind: &str, items: &[T]) -> Result<serde_json::Value, CommandFailure> {
    let items = serde_json::to_value(items).map_err(CommandFailure::failed)?;
    Ok(serde_json::json!({ "apiVersion": api::API_VERSION, "kind": kind, "metadata": {}, "items": items }))
}

/// The reason of the condition `Succeeded`: what `kubectl get` shows as Status.
pub fn display_status(execution: &api::Execution) -> String {
    let conditions = execution.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions
        .iter()
        .find(|condition| condition.condition_type == api::ConditionType::Succeeded)
        .map_or_else(|| "Pending".to_owned(), |condition| condition.reason.to_string())
}

fn run_row(execution: &api::Execution) -> Vec<String> {
    let status = execution.status.clone().unwrap_or_default();
    let counts = status.tasks.unwrap_or_default();
    let duration = parse(status.start_time.as_deref()).map(|start| {
        let end = parse(status.completion_time.as_deref()).unwrap_or_else(Timestamp::now);
        duration_words(end.duration_since(start))
    });
    vec![
        execution.name_any(),
        display_status(execution),
        format!("{}/{}", counts.succeeded + counts.skipped, counts.total),
        parse(status.start_time.as_deref()).map(ago).unwrap_or_default(),
        duration.unwrap_or_default(),
    ]
}

fn artifact_row(artifact: &api::Artifact) -> Vec<String> {
    let spec = &artifact.spec;
    let partition: Vec<String> = spec.partition.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![
        artifact.name_any(),
        spec.artifact.clone(),
        partition.join(","),
        grouped(spec.rows),
        size_text(spec.bytes),
        spec.produced_by.as_ref().map(|producer| producer.execution.clone()).unwrap_or_default(),
        parse(Some(&spec.created_at)).map(ago).unwrap_or_default(),
    ]
}

fn print_execution(execution: &api::Execution) {
    let status = execution.status.clone().unwrap_or_default();
    println!("{}  {}", execution.name_any(), display_status(execution));
    println!(
        "workflow {}, started {}",
        execution.spec.workflow_ref.name,
        status.start_time.as_deref().unwrap_or("never")
    );
    if let Some(resolved) = &status.resolved {
        println!("revision {}", resolved.revision);
        for input in &resolved.inputs {
            println!("input {} = {}", input.name, input_words(input));
        }
    }
    println!();
    print_table(&["TASK", "STATE", "ATTEMPT", "DURATION", "ROWS", "MESSAGE"], status.task_list.iter().map(task_row));
    for failure in &status.failures {
        println!("\ntask {}, attempt {}: {}\n{}", failure.task, failure.attempt, failure.reason, failure.message);
    }
    if !status.outputs.is_empty() {
        println!();
    }
    print_outputs(&status.outputs);
}

/// The results of a run, for people.
pub fn print_outputs(outputs: &[api::OutputStatus]) {
    if outputs.is_empty() {
        return;
    }
    print_table(
        &["OUTPUT", "TYPE", "ROWS", "SIZE", "WHERE"],
        outputs.iter().map(|output| {
            let value = output.value.as_ref().map(|value| value.0.to_string());
            vec![
                output.name.clone(),
                output.data_type.clone(),
                output.rows.map(grouped).unwrap_or_default(),
                output.bytes.map(size_text).unwrap_or_default(),
                output.uri.clone().or(value).unwrap_or_default(),
            ]
        }),
    );
}

fn task_row(task: &api::TaskStatus) -> Vec<String> {
    vec![
        task.name.clone(),
        task.state.clone(),
        task.attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
        task.duration.clone().unwrap_or_default(),
        task.rows.map(grouped).unwrap_or_default(),
        task.reused_from
            .as_ref()
            .map(|run| format!("taken over from {run}"))
            .or(task.message.clone())
            .unwrap_or_default(),
    ]
}

fn print_artifact(artifact: &api::Artifact) {
    let spec = &artifact.spec;
    println!("{}  version of {}", artifact.name_any(), spec.artifact);
    for (key, value) in &spec.partition {
        println!("partition {key} = {value}");
    }
    println!("{} rows, {}, created {}", grouped(spec.rows), size_text(spec.bytes), spec.created_at);
    println!("{}\n", spec.uri);
    print_table(
        &["COLUMN", "TYPE"],
        spec.columns.iter().map(|column| vec![column.name.clone(), column.data_type.clone()]),
    );
}

fn input_words(input: &api::ResolvedInput) -> String {
    if let Some(artifact) = &input.artifact {
        return format!("artifact {artifact}");
    }
    match (&input.source, &input.value) {
        (Some(source), _) => match (&source.connection, &source.path, &source.uri) {
            (Some(connection), Some(path), _) => format!("{path} of {connection}"),
            (_, _, Some(uri)) => uri.clone(),
            _ => format!("{} rows", source.rows.as_ref().map_or(0, Vec::len)),
        },
        (None, Some(value)) => value.0.to_string(),
        (None, None) => "null".to_owned(),
    }
}

fn parse(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

fn ago(time: Timestamp) -> String {
    format!("{} ago", duration_words(Timestamp::now().duration_since(time)))
}

/// A duration in its largest unit, as kubectl prints ages.
fn duration_words(duration: jiff::SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64().max(0.0)),
        10..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
