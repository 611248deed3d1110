//! `pintail run`, `resume` and `retry`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::{BoundInput, BoundSource, bound_from_resolved, execution_name};
use pintail_plan::{InputValue, Plan, PlannedInput};

use crate::arguments::{Resume, Retry, Run};
use crate::check::read_runnable;
use crate::cluster;
use crate::commands::plan::{self, plan_name};
use crate::failure::CommandFailure;
use crate::local::driver::Watcher;
use crate::local::lock::RunLock;
use crate::local::records::Records;
use crate::local::start::{NewRun, RestoredRun, pin_inputs, reusable, sources};
use crate::manifests::absolute_uri;
use crate::place::Place;
use crate::render::{Ending, ending, report};

pub async fn run(arguments: Run) -> Result<(), CommandFailure> {
    match Place::open(&arguments.place).await? {
        Place::Store(records) => run_here(&records, &arguments).await,
        Place::Cluster(cluster) => cluster::start::run(&cluster, arguments).await,
    }
}

async fn run_here(records: &Records, arguments: &Run) -> Result<(), CommandFailure> {
    if let Some((first, files)) = arguments.what.split_first()
        && let Some(name) = plan_name(first)
    {
        return plan::run_here(records, name, files, arguments).await;
    }
    let manifests = Arc::new(read_runnable(&arguments.what)?);
    let jobs = manifests.jobs(arguments.workflow.as_deref())?;
    let mut planned = Vec::new();
    for job in jobs {
        planned.push((manifests.compile(job.workflow, manifests.config_maps().clone())?, job));
    }
    let mut given = given_inputs(&arguments.inputs, planned.iter().flat_map(|(plan, _)| &plan.inputs))?;
    let here = std::env::current_dir().unwrap_or_default();
    given.values_mut().for_each(|binding| absolute_uri(binding, &here));
    let mut finished = Vec::new();
    for (plan, job) in planned {
        let mut given_here: BTreeMap<_, _> = job.inputs;
        let declared = |name: &str| plan.inputs.iter().any(|input| input.name == name);
        given_here
            .extend(given.iter().filter(|(name, _)| declared(name)).map(|(name, value)| (name.clone(), value.clone())));
        let bound = pintail_plan::bind_inputs(&plan, &given_here)
            .map_err(|problems| input_failure(&plan.workflow, &problems))?;
        let inputs = pin_inputs(records, bound).await?;
        let name = job.name.unwrap_or_else(|| new_name(&plan.workflow));
        let run = NewRun {
            manifests: &manifests,
            workflow: job.workflow,
            plan,
            name,
            given: given_here,
            inputs,
            started_by: None,
            retry_of: None,
            reusable: BTreeMap::new(),
        };
        let execution = run.drive(records).await?;
        let succeeded = ending(&execution) == Some(Ending::Succeeded);
        finished.push(execution);
        if !succeeded {
            break;
        }
    }
    report(&finished, "", arguments.output)
}

pub async fn resume(arguments: Resume) -> Result<(), CommandFailure> {
    let records = arguments.store.open().await?;
    let stored = records.execution(&arguments.name).await?;
    if ending(&stored.execution).is_some() {
        eprintln!("run {} has ended already; `pintail retry` makes a new one", stored.execution.name_any());
        return report(&[stored.execution], "", arguments.output);
    }
    let watcher = Watcher::of_terminal()?;
    let _lock = RunLock::take(records.store.location(), &stored.execution.name_any())?;
    let finished = RestoredRun::read(&records, stored).await?.drive(&records, watcher).await?;
    report(&[finished], "", arguments.output)
}

pub async fn retry(arguments: Retry) -> Result<(), CommandFailure> {
    match Place::open(&arguments.place).await? {
        Place::Store(records) => retry_here(&records, arguments).await,
        Place::Cluster(cluster) => cluster::start::retry(&cluster, arguments).await,
    }
}

async fn retry_here(records: &Records, arguments: Retry) -> Result<(), CommandFailure> {
    let before = records.execution(&arguments.name).await?.execution;
    let files = if arguments.files.is_empty() { sources(&before) } else { arguments.files };
    let manifests = Arc::new(read_runnable(&files)?);
    let workflow = manifests.workflow(&before.spec.workflow_ref.name)?;
    let plan = manifests.compile(workflow, manifests.config_maps().clone())?;
    let inputs = retried_inputs(records, &plan, &before).await?;
    let run = NewRun {
        manifests: &manifests,
        workflow,
        name: new_name(&plan.workflow),
        plan,
        given: before.spec.inputs.clone(),
        inputs,
        started_by: None,
        retry_of: Some(before.name_any()),
        reusable: reusable(records, &before.name_any()).await?,
    };
    let finished = run.drive(records).await?;
    report(&[finished], "", arguments.output)
}

/// What the run before was given, and the versions of datasets that it read; defaults are bound as they are now.
async fn retried_inputs(
    records: &Records,
    plan: &Plan,
    before: &api::Execution,
) -> Result<Vec<BoundInput>, CommandFailure> {
    let declared = |name: &str| plan.inputs.iter().any(|input| input.name == name);
    let mut given = before.spec.inputs.clone();
    given.retain(|name, _| declared(name));
    let bound = pintail_plan::bind_inputs(plan, &given).map_err(|problems| input_failure(&plan.workflow, &problems))?;
    let resolved = before.status.as_ref().and_then(|status| status.resolved.as_ref());
    let versions: Vec<BoundInput> = resolved
        .map(|resolved| resolved.inputs.as_slice())
        .unwrap_or_default()
        .iter()
        .filter(|input| input.artifact.is_some())
        .filter_map(bound_from_resolved)
        .collect();
    let artifacts = records.artifacts().await?;
    let mut inputs = Vec::new();
    for (name, value) in bound {
        let kept = versions.iter().find(|version| version.name == name && is_of(version, &value, &artifacts));
        match kept {
            Some(version) => inputs.push(version.clone()),
            None => inputs.extend(pin_inputs(records, vec![(name, value)]).await?),
        }
    }
    Ok(inputs)
}

/// Whether the version is one of the dataset that the input is bound to.
fn is_of(version: &BoundInput, value: &InputValue, artifacts: &[api::Artifact]) -> bool {
    let (BoundSource::Artifact { name, .. }, InputValue::Table(source)) = (&version.source, value) else {
        return false;
    };
    let artifact = artifacts.iter().find(|artifact| artifact.name_any() == *name);
    artifact.is_some_and(|artifact| source.artifact.as_ref() == Some(&artifact.spec.artifact))
}

/// `--input name=value` by the type of the input; each must be one of these.
pub fn given_inputs<'a>(
    texts: &[String],
    inputs: impl Iterator<Item = &'a PlannedInput> + Clone,
) -> Result<BTreeMap<String, api::Binding>, CommandFailure> {
    let mut given = BTreeMap::new();
    for text in texts {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| CommandFailure::usage(format!("--input {text}: write it as name=value")))?;
        let input = inputs.clone().find(|input| input.name == name).ok_or_else(|| {
            let names: Vec<&str> = inputs.clone().map(|input| input.name.as_str()).collect();
            CommandFailure::usage(format!("--input {name}: there is no such input; there are: {}", names.join(", ")))
        })?;
        let binding = pintail_plan::parse_input_text(&input.kind, value)
            .map_err(|message| CommandFailure::usage(format!("--input {name}: {message}")))?;
        given.insert(name.to_owned(), binding);
    }
    Ok(given)
}

/// Says which inputs a workflow cannot be run with.
pub fn input_failure(workflow: &str, problems: &[pintail_plan::Problem]) -> CommandFailure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    CommandFailure::usage(format!("workflow {workflow} cannot be run with these inputs:\n{}", lines.join("\n")))
}

/// A name for a new run of a workflow.
pub fn new_name(workflow: &str) -> String {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    execution_name(workflow, [bytes[0], bytes[1], bytes[2], bytes[3]])
}
