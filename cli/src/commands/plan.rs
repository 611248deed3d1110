//! `pintail run plan/NAME`: one run of a LaunchPlan, asked for by a person.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use pintail_api as api;
use pintail_execution::launch::started_run;
use pintail_plan::PlannedLaunch;
use pintail_storage::layout::DEFAULT_NAMESPACE;

use crate::arguments::Run;
use crate::check::read_runnable;
use crate::commands::run::{given_inputs, input_failure};
use crate::failure::CommandFailure;
use crate::local::by_hand;
use crate::local::records::Records;
use crate::manifests::absolute_uri;
use crate::render::report;

/// The name in `plan/NAME`. What is there as a file or folder is that.
pub fn plan_name(what: &Path) -> Option<&str> {
    let name = what.to_str()?.strip_prefix("plan/")?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    (is_name && !what.exists()).then_some(name)
}

/// The run that a person asks for, with the inputs of the plan.
pub fn run_by_hand(launch: &PlannedLaunch, namespace: &str) -> Result<api::Execution, CommandFailure> {
    let nonce = uuid::Uuid::new_v4().to_string();
    let occurrence = pintail_execution::launch::by_hand(&nonce, Timestamp::now());
    started_run(launch, None, &occurrence, namespace).map_err(CommandFailure::failed)
}

pub async fn run_here(records: &Records, name: &str, files: &[PathBuf], arguments: &Run) -> Result<(), CommandFailure> {
    if files.is_empty() {
        return Err(CommandFailure::usage(format!(
            "give the manifests of LaunchPlan {name} and its Workflow: pintail run plan/{name} FILE…"
        )));
    }
    let manifests = Arc::new(read_runnable(files)?);
    let (plan, launch) = manifests.launch(name)?;
    let workflow = manifests.compile(manifests.workflow(&launch.workflow)?, manifests.config_maps().clone())?;
    let mut given = given_inputs(&arguments.inputs, workflow.inputs.iter())?;
    let here = std::env::current_dir().unwrap_or_default();
    given.values_mut().for_each(|binding| absolute_uri(binding, &here));
    let mut run = run_by_hand(&launch, DEFAULT_NAMESPACE)?;
    run.spec.inputs.extend(given);
    pintail_plan::bind_inputs(&workflow, &run.spec.inputs)
        .map_err(|problems| input_failure(&launch.workflow, &problems))?;
    match by_hand::start(records, &manifests, plan, &launch, run).await? {
        Ok(finished) => report(&[finished], "", arguments.output),
        Err(name) => Err(CommandFailure::failed(format!("there is a run {name} already"))),
    }
}
