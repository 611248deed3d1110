//! What people see of objects, wherever they come from: one way for runs of this machine and of a cluster.

use jiff::Timestamp;
use kube::ResourceExt;
use pintail_api as api;
use serde::Serialize;

use crate::arguments::Output;
use crate::failure::{Code, CommandFailure};
use crate::output::{print_json, print_table, size_text};
use crate::progress::grouped;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Succeeded,
    Failed,
    Cancelled,
}

/// How the run ended; nothing while it is under way.
pub fn ending(execution: &api::Execution) -> Option<Ending> {
    let condition = succeeded(execution.status.as_ref()?)?;
    match (condition.status, condition.reason) {
        (api::ConditionStatus::True, _) => Some(Ending::Succeeded),
        (api::ConditionStatus::False, api::ConditionReason::Cancelled) => Some(Ending::Cancelled),
        (api::ConditionStatus::False, _) => Some(Ending::Failed),
        (api::ConditionStatus::Unknown, _) => None,
    }
}

/// The condition that tells how a run stands.
pub fn succeeded(status: &api::ExecutionStatus) -> Option<&api::Condition> {
    status.conditions.iter().find(|condition| condition.condition_type == api::ConditionType::Succeeded)
}

/// The reason of the condition `Succeeded`: what `kubectl get` shows as Status.
pub fn display_status(execution: &api::Execution) -> String {
    let condition = execution.status.as_ref().and_then(succeeded);
    condition.map_or_else(|| "Pending".to_owned(), |condition| condition.reason.to_string())
}

/// Prints runs that have ended and gives the exit code of the last. `flags` is what further commands need to find them.
pub fn report(finished: &[api::Execution], flags: &str, output: Output) -> Result<(), CommandFailure> {
    match (output, finished) {
        (Output::Json, [execution]) => print_json(execution)?,
        (Output::Json, several) => print_list("ExecutionList", several)?,
        (Output::Name, several) => several.iter().for_each(|execution| println!("{}", execution.name_any())),
        (Output::Pretty, several) => several.iter().for_each(|execution| print_finished(execution, flags)),
    }
    match finished.last().and_then(ending) {
        Some(Ending::Failed) => Err(CommandFailure::shown(Code::Failed)),
        Some(Ending::Cancelled) => Err(CommandFailure::shown(Code::Interrupted)),
        Some(Ending::Succeeded) | None => Ok(()),
    }
}

/// A list as `kubectl get -o json` prints it.
pub fn print_list<T: Serialize>(kind: &str, items: &[T]) -> Result<(), CommandFailure> {
    let items = serde_json::to_value(items).map_err(CommandFailure::failed)?;
    print_json(&serde_json::json!({ "apiVersion": api::API_VERSION, "kind": kind, "metadata": {}, "items": items }))
}

pub fn print_executions(executions: &[api::Execution]) {
    let header = ["RUN", "STATUS", "TASKS", "STARTED", "DURATION", "STARTED BY"];
    print_table(&header, executions.iter().map(execution_row));
}

/// The LaunchPlan and trigger that started the run, the plan alone where a person did; empty where none did.
pub fn started_by(execution: &api::Execution) -> String {
    let Some(started) = &execution.spec.trigger else { return String::new() };
    started.name.as_ref().map_or_else(|| started.plan.clone(), |trigger| format!("{}/{trigger}", started.plan))
}

pub fn print_artifacts(artifacts: &[api::Artifact]) {
    print_table(
        &["ARTIFACT", "DATASET", "PARTITION", "ROWS", "SIZE", "CREATED BY", "AGE"],
        artifacts.iter().map(artifact_row),
    );
}

fn execution_row(execution: &api::Execution) -> Vec<String> {
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
        started_by(execution),
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

pub fn print_execution(execution: &api::Execution) {
    let status = execution.status.clone().unwrap_or_default();
    println!("{}  {}", execution.name_any(), display_status(execution));
    println!(
        "workflow {}, started {}",
        execution.spec.workflow_ref.name,
        status.start_time.as_deref().unwrap_or("never")
    );
    if let Some(started) = &execution.spec.trigger {
        match &started.name {
            Some(_) => println!("started by {}, for {} of {}", started_by(execution), started.occurrence, started.time),
            None => println!("started by hand, with LaunchPlan {}", started.plan),
        }
    }
    if let Some(message) = outside_of_tasks(&status) {
        println!("{message}");
    }
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
    if !status.notifications.is_empty() {
        println!();
        print_table(&["TOLD", "STATE", "ATTEMPTS", "MESSAGE"], status.notifications.iter().map(notification_row));
    }
}

fn notification_row(told: &api::NotificationStatus) -> Vec<String> {
    let message = told.message.as_deref().and_then(|message| message.lines().next()).unwrap_or_default();
    vec![told.connection.clone(), told.state.clone(), told.attempt.to_string(), message.to_owned()]
}

/// Why the run waits or failed, where no task tells it: no Workflow, wrong inputs, a quota.
fn outside_of_tasks(status: &api::ExecutionStatus) -> Option<&str> {
    let condition = succeeded(status)?;
    let told_by_tasks = matches!(condition.reason, api::ConditionReason::TaskFailed);
    Some(condition.message.as_str()).filter(|message| !message.is_empty() && !told_by_tasks)
}

fn print_finished(execution: &api::Execution, flags: &str) {
    let status = execution.status.clone().unwrap_or_default();
    let name = execution.name_any();
    eprintln!("{name}  {}", display_status(execution));
    if let Some(message) = outside_of_tasks(&status) {
        eprintln!("\n{message}");
    }
    let failed: Vec<&api::TaskStatus> = status.task_list.iter().filter(|task| task.state == "Failed").collect();
    for task in &failed {
        if let Some(failure) = status.failures.iter().rfind(|failure| failure.task == task.name) {
            eprintln!("\ntask {}: {}\n{}", task.name, failure.reason, failure.message);
        }
    }
    if !failed.is_empty() {
        eprintln!(
            "\nlogs:  pintail logs{flags} {name}\nagain: pintail retry{flags} {name}   (takes over what succeeded)"
        );
    }
    eprintln!();
    print_outputs(&status.outputs);
}

/// The results of a run, for people.
fn print_outputs(outputs: &[api::OutputStatus]) {
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

pub fn print_artifact(artifact: &api::Artifact) {
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
