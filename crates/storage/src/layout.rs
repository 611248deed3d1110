//! The key of every object, below the store's root.
//!
//! ```text
//! _format                                                             the store's format
//! _installation                                                       which cluster's operator works here
//! <namespace>/runs/<execution uid>/_orders/<digest>                   a work order that is too long for its pod
//! <namespace>/runs/<execution uid>/<task>[/<item>]/_commit            the one winner
//! <namespace>/runs/<execution uid>/<task>[/<item>]/a<N>/<pod uid>/…   an attempt's files: disposable
//! <namespace>/artifacts/<dataset>/<artifact id>/a<N>/<pod uid>/…      published outputs
//! <namespace>/executions/<name>.json                                  an Execution and its recorded state
//! <namespace>/executions/<name>.cancel                                asks for the end of a run of this machine
//! <namespace>/launch-plans/<name>.json                                a LaunchPlan and its status
//! <namespace>/triggers/<plan>/<trigger>/<occurrence>                  the marker of an occurrence that started a run
//! <namespace>/revisions/<revision>.json                               what an Execution runs
//! <namespace>/catalog/<dataset>/<artifact id>.json                    an Artifact
//! <namespace>/history/date=YYYY-MM-DD/<uid>.json.zst                  the record of a finished run
//! <namespace>/agents/<digest>                                         the order of an agent that is too long for its pod
//! <namespace>/triggers/<plan>/<trigger>/<occurrence>                  says that the occurrence has started a run
//! <namespace>/triggers/<plan>/<trigger>/_seen                         the objects that a trigger has dealt with
//! ```
//!
//! A part of a key is 1 to 240 of `A-Z a-z 0-9 . _ - =`, and starts with a letter or digit. So no part is `..`, hidden or
//! one of our own names.

use pintail_protocol::Identity;

use crate::{StoreError, StoreErrorClass};

/// The namespace of runs without a cluster.
pub const DEFAULT_NAMESPACE: &str = "default";

pub(crate) const FORMAT_KEY: &str = "_format";
pub(crate) const INSTALLATION_KEY: &str = "_installation";

/// File systems take 255 bytes a name; some are left for what we append.
const PART_BYTES: usize = 240;

/// A task, or an item of one, of a run: what one commit record belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTask {
    folder: String,
}

impl RunTask {
    /// # Errors
    /// Class `Invalid` where a name cannot be part of a key.
    pub fn new(namespace: &str, execution_uid: &str, task: &str, item: Option<u32>) -> Result<Self, StoreError> {
        let mut folder = format!("{}/{}", run_folder(namespace, execution_uid)?, part(task)?);
        if let Some(item) = item {
            folder.push_str(&format!("/{item}"));
        }
        Ok(Self { folder })
    }

    /// # Errors
    /// As [`RunTask::new`].
    pub fn of(identity: &Identity) -> Result<Self, StoreError> {
        Self::new(&identity.namespace, &identity.execution_uid, &identity.task, identity.item)
    }

    /// All attempts of it, to list them.
    #[must_use]
    pub fn folder(&self) -> &str {
        &self.folder
    }

    #[must_use]
    pub fn commit_key(&self) -> String {
        format!("{}/_commit", self.folder)
    }

    /// The folder of one process of one attempt: its results for [`pintail_protocol::Destination::Run`], log and report.
    ///
    /// # Errors
    /// Class `Invalid` where `pod_uid` cannot be part of a key.
    pub fn attempt_folder(&self, attempt: u32, pod_uid: &str) -> Result<String, StoreError> {
        Ok(format!("{}/a{attempt}/{}", self.folder, part(pod_uid)?))
    }
}

/// All that a run leaves behind but artifacts, to delete it.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn run_folder(namespace: &str, execution_uid: &str) -> Result<String, StoreError> {
    Ok(format!("{}/runs/{}", part(namespace)?, part(execution_uid)?))
}

/// Where a process of an attempt puts results for [`pintail_protocol::Destination::Artifact`].
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn artifact_folder(
    namespace: &str,
    dataset: &str,
    artifact_id: &str,
    attempt: u32,
    pod_uid: &str,
) -> Result<String, StoreError> {
    let (namespace, dataset, artifact_id) = (part(namespace)?, part(dataset)?, part(artifact_id)?);
    Ok(format!("{namespace}/artifacts/{dataset}/{artifact_id}/a{attempt}/{}", part(pod_uid)?))
}

/// All data of one version of a dataset, to delete it.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn artifact_version(namespace: &str, dataset: &str, artifact_id: &str) -> Result<String, StoreError> {
    Ok(format!("{}/artifacts/{}/{}", part(namespace)?, part(dataset)?, part(artifact_id)?))
}

/// Which versions of datasets a run writes, to find what it leaves behind.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn run_versions(namespace: &str, execution_uid: &str) -> Result<String, StoreError> {
    Ok(format!("{}/_versions", run_folder(namespace, execution_uid)?))
}

/// There where the versions of a run were published.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn run_published(namespace: &str, execution_uid: &str) -> Result<String, StoreError> {
    Ok(format!("{}/_published", run_folder(namespace, execution_uid)?))
}

/// A work order, by the digest of its text (`blake3:<hex>`).
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn order(namespace: &str, execution_uid: &str, digest: &str) -> Result<String, StoreError> {
    let digest = digest.strip_prefix("blake3:").unwrap_or(digest);
    Ok(format!("{}/_orders/{}", run_folder(namespace, execution_uid)?, part(digest)?))
}

/// A piece of the log of an attempt, in the attempt's folder. `number` counts from 1, in the order of writing.
#[must_use]
pub fn log_chunk(attempt_folder: &str, number: u32) -> String {
    format!("{attempt_folder}/log/{number:06}.txt")
}

/// A file in a folder, such as `result.parquet` in an attempt's.
///
/// # Errors
/// Class `Invalid` where `name` cannot be part of a key.
pub fn file(folder: &str, name: &str) -> Result<String, StoreError> {
    Ok(format!("{folder}/{}", part(name)?))
}

/// The Execution and its recorded state.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn execution(namespace: &str, name: &str) -> Result<String, StoreError> {
    Ok(format!("{}/{}.json", executions(namespace)?, part(name)?))
}

/// There where somebody asked a run of this machine to stop. Only who drives the run writes its Execution.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn cancellation(namespace: &str, name: &str) -> Result<String, StoreError> {
    Ok(format!("{}/{}.cancel", executions(namespace)?, part(name)?))
}

/// All Executions of a namespace, to list them.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn executions(namespace: &str) -> Result<String, StoreError> {
    Ok(format!("{}/executions", part(namespace)?))
}

/// A LaunchPlan and its status, of this machine.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn launch_plan(namespace: &str, name: &str) -> Result<String, StoreError> {
    Ok(format!("{}/launch-plans/{}.json", part(namespace)?, part(name)?))
}

/// What an Execution runs.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn revision(namespace: &str, revision: &str) -> Result<String, StoreError> {
    Ok(format!("{}/revisions/{}.json", part(namespace)?, part(revision)?))
}

/// The Artifact.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn catalog(namespace: &str, dataset: &str, artifact_id: &str) -> Result<String, StoreError> {
    Ok(format!("{}/{}/{}.json", catalog_folder(namespace)?, part(dataset)?, part(artifact_id)?))
}

/// All Artifacts of a namespace, to list them.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn catalog_folder(namespace: &str) -> Result<String, StoreError> {
    Ok(format!("{}/catalog", part(namespace)?))
}

/// All Artifacts of a dataset, to list them.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn catalog_dataset(namespace: &str, dataset: &str) -> Result<String, StoreError> {
    Ok(format!("{}/{}", catalog_folder(namespace)?, part(dataset)?))
}

/// The order of an agent, by the digest of its text (`blake3:<hex>`).
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn agent_order(namespace: &str, digest: &str) -> Result<String, StoreError> {
    let digest = digest.strip_prefix("blake3:").unwrap_or(digest);
    Ok(format!("{}/{}", agent_orders(namespace)?, part(digest)?))
}

/// All orders of agents of a namespace, to list them.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn agent_orders(namespace: &str) -> Result<String, StoreError> {
    Ok(format!("{}/agents", part(namespace)?))
}

/// All that is known of the occurrences of a namespace, to list it: a folder for each plan.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn triggers(namespace: &str) -> Result<String, StoreError> {
    Ok(format!("{}/triggers", part(namespace)?))
}

/// Says that an occurrence of a trigger has started a run.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn trigger_marker(namespace: &str, plan: &str, trigger: &str, occurrence: &str) -> Result<String, StoreError> {
    Ok(format!("{}/{}/{}/{}", triggers(namespace)?, part(plan)?, part(trigger)?, part(occurrence)?))
}

/// The record of a finished run. `date` is the day of its end, `YYYY-MM-DD`.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn history(namespace: &str, date: &str, execution_uid: &str) -> Result<String, StoreError> {
    Ok(format!("{}/history/{}/{}.json.zst", part(namespace)?, part(&format!("date={date}"))?, part(execution_uid)?))
}

/// The objects that a trigger of a LaunchPlan has dealt with.
///
/// # Errors
/// Class `Invalid` where a name cannot be part of a key.
pub fn seen_objects(namespace: &str, plan: &str, trigger: &str) -> Result<String, StoreError> {
    Ok(format!("{}/{}/{}/_seen", triggers(namespace)?, part(plan)?, part(trigger)?))
}

/// The last part of a key without `.json`: the name of what a listing found.
#[must_use]
pub fn name(key: &str) -> &str {
    let last = key.rsplit_once('/').map_or(key, |(_, last)| last);
    last.strip_suffix(".json").unwrap_or(last)
}

fn part(text: &str) -> Result<&str, StoreError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '=');
    let valid =
        text.len() <= PART_BYTES && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed);
    if valid {
        return Ok(text);
    }
    let shown: String = text.chars().take(60).collect();
    Err(StoreError::new(
        StoreErrorClass::Invalid,
        "use",
        format!("{shown:?} in a key of the store"),
        format!(
            "a name there has 1 to {PART_BYTES} letters, digits or `.`, `_`, `-`, `=`, and starts with a letter or digit"
        ),
    ))
}

/// Refuses a key that did not come from this module, such as one in a report that someone changed.
pub(crate) fn check_key(key: &str) -> Result<(), StoreError> {
    for text in key.split('/') {
        part(text.strip_prefix('_').unwrap_or(text))?;
    }
    Ok(())
}
