//! `pintail trigger`: what an occurrence would start.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use pintail_api as api;
use pintail_engine::{Schedule, Tick};
use pintail_execution::connection_target;
use pintail_execution::launch::{Occurrence, of_happened, of_tick, of_versions, started_run, trigger_of};
use pintail_execution::newest_artifact;
use pintail_plan::{PlannedTrigger, TriggerOn};
use pintail_protocol::{ArrivedObject, ConnectionTarget, Happened, ReceivedEvent};
use pintail_storage::layout::DEFAULT_NAMESPACE;

use crate::arguments::{Output, Trigger};
use crate::check::read_runnable;
use crate::failure::CommandFailure;
use crate::local::by_hand;
use crate::local::records::Records;
use crate::manifests::Manifests;
use crate::output::print_json;
use crate::render::report;

pub async fn trigger(arguments: Trigger) -> Result<(), CommandFailure> {
    let (plan, name) = arguments
        .trigger
        .split_once('/')
        .ok_or_else(|| CommandFailure::usage(format!("{}: write it as PLAN/TRIGGER", arguments.trigger)))?;
    let records = arguments.store.open().await?;
    let manifests = Arc::new(read_runnable(&arguments.files)?);
    let (object, launch) = manifests.launch(plan)?;
    let trigger = trigger_of(&launch, name).ok_or_else(|| {
        let names: Vec<&str> = launch.triggers.iter().map(|trigger| trigger.name.as_str()).collect();
        CommandFailure::usage(format!("LaunchPlan {plan} has no trigger {name:?}; it has: {}", names.join(", ")))
    })?;
    check_arguments(&arguments, trigger)?;
    let occurrence = occurrence(&records, &manifests, trigger, &arguments).await?;
    let run = started_run(&launch, Some(trigger), &occurrence, DEFAULT_NAMESPACE)
        .map_err(|message| CommandFailure::failed(format!("{plan}/{name} would start nothing: {message}")))?;
    if !arguments.run {
        return show(&records, &run, arguments.output).await;
    }
    match by_hand::start(&records, &manifests, object, &launch, run).await? {
        Ok(finished) => report(&[finished], "", arguments.output),
        Err(name) => Err(CommandFailure::failed(format!(
            "this occurrence has started run {name} before: an occurrence starts one"
        ))),
    }
}

async fn show(records: &Records, run: &api::Execution, output: Output) -> Result<(), CommandFailure> {
    match output {
        Output::Json => print_json(run)?,
        Output::Name => println!("{}", run.name_any()),
        Output::Pretty => {
            let started = run.spec.trigger.clone().unwrap_or_default();
            println!("run {} of workflow {}", run.name_any(), run.spec.workflow_ref.name);
            println!("for {} of {}", started.occurrence, started.time);
            for (name, binding) in &run.spec.inputs {
                println!("input {name} = {}", binding.0);
            }
        }
    }
    let started = run.spec.trigger.as_ref();
    let is_there = records.find(&run.name_any()).await?.is_some();
    let was_there = match started {
        Some(started) if !is_there => records.claimed(started).await?.is_some(),
        _ => is_there,
    };
    match was_there {
        true => eprintln!("this occurrence has started that run before: it starts no other"),
        false => eprintln!("nothing was started: --run starts it"),
    }
    Ok(())
}

/// Each argument belongs to one kind of trigger.
fn check_arguments(arguments: &Trigger, trigger: &PlannedTrigger) -> Result<(), CommandFailure> {
    let (takes, what) = match &trigger.on {
        TriggerOn::Schedule { .. } => ("--at", "waits for times"),
        TriggerOn::Artifacts { .. } => ("--version", "waits for versions of datasets"),
        TriggerOn::Object { .. } => ("--path", "waits for objects"),
        TriggerOn::Event { .. } => ("--data", "waits for events"),
    };
    let given = [
        ("--at", arguments.at.is_some()),
        ("--version", !arguments.versions.is_empty()),
        ("--path", arguments.path.is_some()),
        ("--data", arguments.data.is_some()),
    ];
    match given.into_iter().find(|(name, given)| *given && *name != takes) {
        Some((name, _)) => Err(CommandFailure::usage(format!(
            "{name} says nothing here: trigger {} {what}, which {takes} is for",
            trigger.name
        ))),
        None => Ok(()),
    }
}

async fn occurrence(
    records: &Records,
    manifests: &Manifests,
    trigger: &PlannedTrigger,
    arguments: &Trigger,
) -> Result<Occurrence, CommandFailure> {
    let now = Timestamp::now();
    match &trigger.on {
        TriggerOn::Schedule { schedule, .. } => Ok(of_tick(&tick(schedule, arguments.at.unwrap_or(now))?)),
        TriggerOn::Artifacts { datasets, .. } => {
            let artifacts = records.artifacts().await?;
            let names: Vec<&str> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
            let versions = versions(&artifacts, &names, &arguments.versions)?;
            Ok(of_versions(&versions))
        }
        TriggerOn::Object { connection, path, .. } => {
            let given = arguments.path.as_deref().ok_or_else(|| {
                CommandFailure::usage(format!("--path is missing: that of an object, of which `{path}` names some"))
            })?;
            let found = manifests.connections().get(connection);
            let found = found.ok_or_else(|| CommandFailure::usage(format!("there is no connection {connection:?}")))?;
            let target = connection_target(connection, &found.spec).map_err(CommandFailure::failed)?;
            Ok(of_happened(&Happened::Object(object(&target, given, now)?)))
        }
        TriggerOn::Event { event_type, source, .. } => {
            let data = arguments.data.as_deref().unwrap_or("null");
            let data = serde_json::from_str(data)
                .map_err(|error| CommandFailure::usage(format!("--data is no JSON: {error}")))?;
            Ok(of_happened(&Happened::Event(ReceivedEvent {
                id: uuid::Uuid::new_v4().to_string(),
                source: source.clone().unwrap_or_else(|| "pintail-trigger".to_owned()),
                event_type: event_type.clone(),
                subject: None,
                time: now,
                data,
            })))
        }
    }
}

/// The tick at that time, or the last one before it.
fn tick(schedule: &Schedule, at: Timestamp) -> Result<Tick, CommandFailure> {
    let after = at.checked_add(jiff::SignedDuration::from_nanos(1)).map_err(CommandFailure::usage)?;
    let tick = schedule.previous_before(after);
    let tick = tick.ok_or_else(|| CommandFailure::usage(format!("the schedule has no tick up to {at}")))?;
    Ok(Tick { at: tick, interval_start: schedule.previous_before(tick).unwrap_or(tick), interval_end: tick })
}

/// A version of each dataset: that which is given, or the newest.
fn versions<'a>(
    artifacts: &'a [api::Artifact],
    datasets: &[&str],
    given: &[String],
) -> Result<Vec<&'a api::Artifact>, CommandFailure> {
    let mut chosen: Vec<&api::Artifact> = Vec::new();
    for name in given {
        let found = artifacts.iter().find(|artifact| artifact.name_any() == *name);
        let found = found.filter(|artifact| datasets.contains(&artifact.spec.artifact.as_str()));
        chosen.push(found.ok_or_else(|| {
            let datasets = datasets.join(", ");
            CommandFailure::usage(format!("--version {name}: this store has no such version of {datasets}"))
        })?);
    }
    for dataset in datasets {
        if !chosen.iter().any(|artifact| artifact.spec.artifact == *dataset) {
            chosen.push(newest_artifact(artifacts, dataset, None).ok_or_else(|| {
                CommandFailure::failed(format!(
                    "this store has no version of dataset {dataset:?}: run the workflow that publishes it first"
                ))
            })?);
        }
    }
    Ok(chosen)
}

/// The object as the agent would tell of it, as far as it is there.
fn object(target: &ConnectionTarget, path: &str, now: Timestamp) -> Result<ArrivedObject, CommandFailure> {
    let simulated = |uri: String| ArrivedObject {
        path: path.to_owned(),
        uri,
        bytes: 0,
        version: format!("triggered-{now}"),
        modified_at: now,
    };
    match target {
        ConnectionTarget::Folder { path: root } => {
            let file = std::path::Path::new(root).join(path);
            let found = std::fs::metadata(&file).map_err(|error| {
                CommandFailure::usage(format!("--path {path}: cannot read {}: {error}", file.display()))
            })?;
            Ok(ArrivedObject { bytes: found.len(), ..simulated(file.display().to_string()) })
        }
        ConnectionTarget::S3 { bucket, prefix, .. } => {
            let key = if prefix.is_empty() { path.to_owned() } else { format!("{prefix}/{path}") };
            Ok(simulated(format!("s3://{bucket}/{key}")))
        }
        _ => Err(CommandFailure::usage("objects arrive in a folder or a bucket")),
    }
}
