//! `pintail list` and `pintail get`: what a store or a cluster holds.

use kube::ResourceExt;

use crate::arguments::{Get, List, ListKind, Output};
use crate::failure::CommandFailure;
use crate::output::print_json;
use crate::place::Place;
use crate::render::{print_artifact, print_artifacts, print_execution, print_executions, print_list};

pub async fn list(arguments: List) -> Result<(), CommandFailure> {
    let place = Place::open(&arguments.place).await?;
    match arguments.kind {
        ListKind::Runs => {
            let executions = place.executions().await?;
            match arguments.output {
                Output::Pretty => print_executions(&executions),
                Output::Json => print_list("ExecutionList", &executions)?,
                Output::Name => executions.iter().for_each(|execution| println!("{}", execution.name_any())),
            }
        }
        ListKind::Artifacts => {
            let artifacts = place.artifacts().await?;
            match arguments.output {
                Output::Pretty => print_artifacts(&artifacts),
                Output::Json => print_list("ArtifactList", &artifacts)?,
                Output::Name => artifacts.iter().for_each(|artifact| println!("{}", artifact.name_any())),
            }
        }
    }
    Ok(())
}

pub async fn get(arguments: Get) -> Result<(), CommandFailure> {
    let place = Place::open(&arguments.place).await?;
    if let Some(artifact) = place.artifact(&arguments.name).await? {
        match arguments.output {
            Output::Pretty => print_artifact(&artifact),
            Output::Json => print_json(&artifact)?,
            Output::Name => println!("{}", arguments.name),
        }
        return Ok(());
    }
    let execution = place.execution(&arguments.name).await?;
    match arguments.output {
        Output::Pretty => print_execution(&execution),
        Output::Json => print_json(&execution)?,
        Output::Name => println!("{}", execution.name_any()),
    }
    Ok(())
}
