//! Where Executions and Artifacts are: in a store of this machine, or on a cluster.

use std::cmp::Reverse;

use kube::ResourceExt;
use pintail_api as api;

use crate::arguments::{PlaceArguments, StoreArguments};
use crate::cluster::Cluster;
use crate::failure::CommandFailure;
use crate::local::records::Records;

/// Stands for the newest run in every command.
pub const LATEST: &str = "@latest";

pub enum Place {
    Store(Records),
    Cluster(Cluster),
}

impl StoreArguments {
    /// The store of these arguments, of the environment, or the usual one.
    pub async fn open(&self) -> Result<Records, CommandFailure> {
        let from_environment = || std::env::var("PINTAIL_STORE").ok().filter(|place| !place.is_empty());
        let place = self.store.clone().or_else(from_environment);
        Records::open(place.as_deref().unwrap_or(".pintail")).await
    }
}

impl Place {
    /// Opens the store, or connects to the cluster where one of its arguments is given.
    pub async fn open(arguments: &PlaceArguments) -> Result<Self, CommandFailure> {
        if !arguments.cluster.any() {
            return Ok(Self::Store(arguments.store.open().await?));
        }
        if arguments.store.store.is_some() {
            return Err(CommandFailure::usage(
                "--store is for runs on this machine; on a cluster the operator knows the store",
            ));
        }
        Ok(Self::Cluster(Cluster::connect(&arguments.cluster).await?))
    }

    /// Every Execution, newest first. One that cannot be read is left out, with a line on standard error.
    pub async fn executions(&self) -> Result<Vec<api::Execution>, CommandFailure> {
        match self {
            Self::Store(records) => records.executions().await,
            Self::Cluster(cluster) => cluster.executions().await,
        }
    }

    /// Every published version, newest first.
    pub async fn artifacts(&self) -> Result<Vec<api::Artifact>, CommandFailure> {
        match self {
            Self::Store(records) => records.artifacts().await,
            Self::Cluster(cluster) => cluster.artifacts().await,
        }
    }

    /// The Execution of that name; [`LATEST`] is the newest.
    pub async fn execution(&self, name: &str) -> Result<api::Execution, CommandFailure> {
        match self {
            Self::Store(records) => Ok(records.execution(name).await?.execution),
            Self::Cluster(cluster) => cluster.execution(name).await,
        }
    }

    /// The published version of that name, if there is one.
    pub async fn artifact(&self, name: &str) -> Result<Option<api::Artifact>, CommandFailure> {
        match self {
            Self::Store(records) => {
                Ok(records.artifacts().await?.into_iter().find(|artifact| artifact.name_any() == name))
            }
            Self::Cluster(cluster) => cluster.find(name).await,
        }
    }
}

/// Orders Executions, the newest first. On a cluster the time of creation is in whole seconds; that of the start tells
/// more.
pub fn newest_first(executions: &mut [api::Execution]) {
    executions.sort_by_key(|execution| {
        let started = execution.status.as_ref().and_then(|status| status.start_time.clone());
        Reverse((execution.creation_timestamp().map(|time| time.0.as_second()), started))
    });
}

/// A run that is not there. `within` says where it was looked for: `in …`.
pub fn unknown_run(name: &str, executions: &[api::Execution], within: &str) -> CommandFailure {
    let hint = did_you_mean(name, executions.iter().map(ResourceExt::name_any));
    CommandFailure::failed(format!("there is no run {name:?} {within}{hint}"))
}

/// `; did you mean "…"?`, or nothing where no known name is near.
pub fn did_you_mean(name: &str, known: impl IntoIterator<Item = String>) -> String {
    /// Names less alike than this are not what was meant.
    const ALIKE: f64 = 0.75;
    let scored = known.into_iter().map(|known| (strsim::jaro_winkler(&known, name), known));
    let nearest = scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
    nearest.map_or_else(String::new, |(_, known)| format!("; did you mean {known:?}?"))
}
