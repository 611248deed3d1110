//! `pintail run`, `resume` and `retry`.

use std::collections::BTreeMap;

use kube::ResourceExt;
use pintail_api as api;
use pintail_engine::RunOutcome;
use pintail_execution::{BoundInput, BoundSource, bound_from_resolved, execution_name};
use pintail_plan::{InputValue, Plan};

use crate::arguments::{Output, Resume, Retry, Run};
use crate::commands::list::{display_status, print_outputs};
use crate::failure::{Code, CommandFailure};
use crate::local::records::Records;
use crate::local::start::{NewRun, RestoredRun, pin_inputs, reusable, sources};
use crate::manifests::Manifests;
use crate::output::print_json;

pub async fn run(arguments: Run) -> Result<(), CommandFailure> {
    let manifests = Manifests::read_right(&arguments.files)?;
    let jobs = manifests.jobs(arguments.workflow.as_deref())?;
    let mut planned = Vec::new();
    for job in jobs {
        planned.push((manifests.compile(job.workflow, manifests.config_maps().clone())?, job));
    }
    let given = given_inputs(&arguments.inputs, planned.iter().map(|(plan, _)| plan))?;
    let records = Records::open(&arguments.store.store).await?;
    let mut finished = Vec::new();
    for (plan, job) in planned {
        let mut given_here: BTreeMap<_, _> = job.inputs;
        let declared = |name: &str| plan.inputs.iter().any(|input| input.name == name);
        given_here
            .extend(given.iter().filter(|(name, _)| declared(name)).map(|(name, value)| (name.clone(), value.clone())));
        let bound =
            pintail_plan::bind_inputs(&plan, &given_here).map_err(|problems| input_failure(&plan, &problems))?;
        let inputs = pin_inputs(&records, bound).await?;
        let name = job.name.unwrap_or_else(|| execution_name(&plan.workflow, randomness()));
        let run = NewRun {
            manifests: &manifests,
            workflow: job.workflow,
            plan,
            name,
            given: given_here,
            inputs,
            retry_of: None,
            reusable: BTreeMap::new(),
        };
        let (execution, outcome) = run.drive(&records).await?;
        finished.push((execution, outcome));
        if outcome != RunOutcome::Succeeded {
            break;
        }
    }
    report(&finished, arguments.output)
}

pub async fn resume(arguments: Resume) -> Result<(), CommandFailure> {
    let records = Records::open(&arguments.store.store).await?;
    let stored = records.execution(&arguments.name).await?;
    let ended = stored.execution.status.as_ref().is_some_and(|status| status.completion_time.is_some());
    if ended {
        eprintln!("run {} has ended already; `pintail retry` makes a new one", stored.execution.name_any());
        let outcome = ended_outcome(&stored.execution);
        return report(&[(stored.execution, outcome)], arguments.output);
    }
    let finished = RestoredRun::read(&records, stored).await?.drive(&records).await?;
    report(&[finished], arguments.output)
}

pub async fn retry(arguments: Retry) -> Result<(), CommandFailure> {
    let records = Records::open(&arguments.store.store).await?;
    let before = records.execution(&arguments.name).await?.execution;
    let files = if arguments.files.is_empty() { sources(&before) } else { arguments.files };
    let manifests = Manifests::read_right(&files)?;
    let workflow = manifests.workflow(&before.spec.workflow_ref.name)?;
    let plan = manifests.compile(workflow, manifests.config_maps().clone())?;
    let inputs = retried_inputs(&records, &plan, &before).await?;
    let run = NewRun {
        manifests: &manifests,
        workflow,
        name: execution_name(&plan.workflow, randomness()),
        plan,
        given: before.spec.inputs.clone(),
        inputs,
        retry_of: Some(before.name_any()),
        reusable: reusable(&records, &before.name_any()).await?,
    };
    let finished = run.drive(&records).await?;
    report(&[finished], arguments.output)
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
    let bound = pintail_plan::bind_inputs(plan, &given).map_err(|problems| input_failure(plan, &problems))?;
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

/// `--input name=value` by the type of the input; each must be an input of at least one of the workflows.
fn given_inputs<'a>(
    texts: &[String],
    plans: impl Iterator<Item = &'a Plan> + Clone,
) -> Result<BTreeMap<String, api::Binding>, CommandFailure> {
    let mut given = BTreeMap::new();
    for text in texts {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| CommandFailure::usage(format!("--input {text}: write it as name=value")))?;
        let input = plans.clone().flat_map(|plan| &plan.inputs).find(|input| input.name == name).ok_or_else(|| {
            let names: Vec<&str> =
                plans.clone().flat_map(|plan| &plan.inputs).map(|input| input.name.as_str()).collect();
            CommandFailure::usage(format!("--input {name}: there is no such input; there are: {}", names.join(", ")))
        })?;
        let mut binding = pintail_plan::parse_input_text(&input.kind, value)
            .map_err(|message| CommandFailure::usage(format!("--input {name}: {message}")))?;
        crate::manifests::absolute_uri(&mut binding, &std::env::current_dir().unwrap_or_default());
        given.insert(name.to_owned(), binding);
    }
    Ok(given)
}

fn input_failure(plan: &Plan, problems: &[pintail_plan::Problem]) -> CommandFailure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    CommandFailure::usage(format!("workflow {} cannot be run with these inputs:\n{}", plan.workflow, lines.join("\n")))
}

fn randomness() -> [u8; 4] {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

fn ended_outcome(execution: &api::Execution) -> RunOutcome {
    match display_status(execution).as_str() {
        "Succeeded" => RunOutcome::Succeeded,
        "Cancelled" => RunOutcome::Cancelled,
        _ => RunOutcome::Failed(pintail_engine::TaskIndex(0)),
    }
}

/// Prints finished runs and gives the exit code of the last.
fn report(finished: &[(api::Execution, RunOutcome)], output: Output) -> Result<(), CommandFailure> {
    match (output, finished) {
        (Output::Json, [(execution, _)]) => print_json(execution)?,
        (Output::Json, several) => {
            let items: Vec<&api::Execution> = several.iter().map(|(execution, _)| execution).collect();
            print_json(&serde_json::json!({
                "apiVersion": api::API_VERSION, "kind": "ExecutionList", "metadata": {}, "items": items,
            }))?;
        }
        (Output::Name, several) => several.iter().for_each(|(execution, _)| println!("{}", execution.name_any())),
        (Output::Pretty, several) => several.iter().for_each(|(execution, _)| print_finished(execution)),
    }
    match finished.last() {
        Some((_, RunOutcome::Failed(_))) => Err(CommandFailure::shown(Code::Failed)),
        Some((_, RunOutcome::Cancelled)) => Err(CommandFailure::shown(Code::Interrupted)),
        _ => Ok(()),
    }
}

fn print_finished(execution: &api::Execution) {
    let status = execution.status.clone().unwrap_or_default();
    let name = execution.name_any();
    eprintln!("{name}  {}", display_status(execution));
    let failed: Vec<&api::TaskStatus> = status.task_list.iter().filter(|task| task.state == "Failed").collect();
    for task in &failed {
        if let Some(failure) = status.failures.iter().rfind(|failure| failure.task == task.name) {
            eprintln!("\ntask {}: {}\n{}", task.name, failure.reason, failure.message);
        }
    }
    if !failed.is_empty() {
        eprintln!("\nlogs:  pintail logs {name}\nagain: pintail retry {name}   (takes over what succeeded)");
    }
    eprintln!();
    print_outputs(&status.outputs);
}
