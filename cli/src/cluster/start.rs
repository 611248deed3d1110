//! New Executions on a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kube::ResourceExt;
use pintail_api as api;
use pintail_plan::PlannedInput;

use crate::arguments::{FollowArguments, Output, Retry, Run};
use crate::cluster::Cluster;
use crate::cluster::follow::{follow, goes_on};
use crate::commands::plan::{plan_name, run_by_hand};
use crate::commands::run::{given_inputs, input_failure, new_name};
use crate::failure::CommandFailure;
use crate::interrupt::interrupts;
use crate::manifests::understand;
use crate::output::print_json;
use crate::render::report;

/// `pintail run --context … WORKFLOW`, or `plan/NAME`.
pub async fn run(cluster: &Cluster, arguments: Run) -> Result<(), CommandFailure> {
    if let [what] = arguments.what.as_slice()
        && let Some(name) = plan_name(what)
    {
        let name = name.to_owned();
        return run_plan(cluster, &name, arguments).await;
    }
    let name = workflow_name(cluster, &arguments.what)?;
    let workflow = cluster.workflow(&name).await?;
    let inputs = inputs(&workflow, &arguments.inputs)?;
    let execution = api::ExecutionSpec { inputs, ..spec(&name) };
    let execution = api::Execution::new(&arguments.name.unwrap_or_else(|| new_name(&name)), execution);
    start(cluster, &execution, arguments.dry_run, &arguments.follow, arguments.output).await
}

async fn run_plan(cluster: &Cluster, name: &str, arguments: Run) -> Result<(), CommandFailure> {
    let launch = understand(&cluster.launch_plan(name).await?)?;
    let workflow = cluster.workflow(&launch.workflow).await?;
    let mut execution = run_by_hand(&launch, cluster.namespace())?;
    let given = given_inputs(&arguments.inputs, declared(&workflow)?.iter())?;
    execution.spec.inputs.extend(given);
    check_inputs(&workflow, &execution.spec.inputs)?;
    if let Some(name) = arguments.name {
        execution.metadata.name = Some(name);
    }
    start(cluster, &execution, arguments.dry_run, &arguments.follow, arguments.output).await
}

/// `pintail retry --context … RUN`.
pub async fn retry(cluster: &Cluster, arguments: Retry) -> Result<(), CommandFailure> {
    let before = cluster.execution(&arguments.name).await?;
    let workflow = before.spec.workflow_ref.name.clone();
    let retry_of = Some(api::RetryOf { execution: before.name_any() });
    let execution = api::ExecutionSpec { inputs: before.spec.inputs, retry_of, ..spec(&workflow) };
    let execution = api::Execution::new(&new_name(&workflow), execution);
    start(cluster, &execution, false, &arguments.follow, arguments.output).await
}

fn spec(workflow: &str) -> api::ExecutionSpec {
    api::ExecutionSpec {
        workflow_ref: api::ObjectRef { name: workflow.to_owned() },
        inputs: BTreeMap::new(),
        trigger: None,
        retry_of: None,
        start_deadline: None,
        ttl_after_finished: None,
        suspend: None,
        cancel: None,
    }
}

async fn start(
    cluster: &Cluster,
    execution: &api::Execution,
    dry_run: bool,
    following: &FollowArguments,
    output: Output,
) -> Result<(), CommandFailure> {
    let interrupts = interrupts()?;
    let created = cluster.create(execution, dry_run).await?;
    let name = created.name_any();
    if dry_run || following.detach {
        match output {
            Output::Json => print_json(&created)?,
            Output::Name | Output::Pretty => println!("{name}"),
        }
        match dry_run {
            true => eprintln!("nothing was created: the cluster would accept this Execution"),
            false => eprintln!("{}", goes_on(cluster, &name)),
        }
        return Ok(());
    }
    let ended = follow(cluster, created, following.wait_timeout, interrupts).await?;
    report(&[ended], cluster.flags(), output)
}

/// Files run on this machine, names on a cluster.
fn workflow_name(cluster: &Cluster, what: &[PathBuf]) -> Result<String, CommandFailure> {
    let flags = cluster.flags();
    let files: Vec<String> = what.iter().filter(|path| is_file(path)).map(|path| path.display().to_string()).collect();
    if !files.is_empty() {
        let applied: String = files.iter().map(|file| format!(" -f {file}")).collect();
        return Err(CommandFailure::usage(format!(
            "{} is on this machine, and a cluster runs what is applied to it. First: kubectl{}{applied}\nThen:  pintail \
             run{flags} WORKFLOW",
            files.join(", "),
            kubectl_flags(flags)
        )));
    }
    match what {
        [name] => Ok(name.display().to_string()),
        several => {
            Err(CommandFailure::usage(format!("{} names: a cluster runs one Workflow at a time", several.len())))
        }
    }
}

fn kubectl_flags(flags: &str) -> String {
    format!("{} apply", flags.replace(" --cluster", ""))
}

fn is_file(path: &Path) -> bool {
    let has_manifest_ending = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    has_manifest_ending || path.components().count() > 1 || path.exists()
}

fn declared(workflow: &api::Workflow) -> Result<Vec<PlannedInput>, CommandFailure> {
    pintail_plan::compile_inputs(workflow).map_err(|problems| input_failure(&workflow.name_any(), &problems))
}

fn inputs(workflow: &api::Workflow, texts: &[String]) -> Result<BTreeMap<String, api::Binding>, CommandFailure> {
    let given = given_inputs(texts, declared(workflow)?.iter())?;
    check_inputs(workflow, &given)?;
    Ok(given)
}

/// Checked here as the operator will, so that a mistake is told before anything is created.
fn check_inputs(workflow: &api::Workflow, given: &BTreeMap<String, api::Binding>) -> Result<(), CommandFailure> {
    let name = workflow.name_any();
    let bound = pintail_plan::bind_planned(&name, &declared(workflow)?, given)
        .map_err(|problems| input_failure(&name, &problems))?;
    match pintail_plan::check_inputs_on_cluster(&bound) {
        problems if problems.is_empty() => Ok(()),
        problems => Err(input_failure(&name, &problems)),
    }
}
