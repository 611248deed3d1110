//! Versions of datasets that start runs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pintail_api as api;
use pintail_plan::expression::Scope;
use pintail_plan::{PlannedDataset, PlannedLaunch, PlannedTrigger, TriggerOn};

use super::occurrence::{of_versions, scope_of_version, started_run};
use super::recorded;

/// Tuples that are remembered of a trigger with `matchOn`: a status is small.
const TUPLES: usize = 100;

/// The runs that a version starts that has become Ready: one for each trigger that waits for its dataset alone. A trigger
/// that is not recorded yet is left out: its plan looks at all versions when it is first looked at.
pub fn runs_of_version(
    launch: &PlannedLaunch,
    status: &api::LaunchPlanStatus,
    artifact: &api::Artifact,
    namespace: &str,
) -> Vec<(String, Result<api::Execution, String>)> {
    if launch.suspended {
        return Vec::new();
    }
    let fires = |trigger: &&PlannedTrigger| {
        recorded(status, trigger)
            .and_then(|found| found.since.parse().ok())
            .is_some_and(|since| is_for(trigger, artifact, since))
    };
    launch
        .triggers
        .iter()
        .filter(fires)
        .map(|trigger| (trigger.name.clone(), run_of(launch, trigger, &[artifact], namespace)))
        .collect()
}

pub(super) fn run_of(
    launch: &PlannedLaunch,
    trigger: &PlannedTrigger,
    versions: &[&api::Artifact],
    namespace: &str,
) -> Result<api::Execution, String> {
    started_run(launch, Some(trigger), &of_versions(versions), namespace)
}

/// Whether a trigger waits for this version alone.
#[must_use]
pub fn is_for(trigger: &PlannedTrigger, artifact: &api::Artifact, since: Timestamp) -> bool {
    match &trigger.on {
        TriggerOn::Artifacts { datasets, .. } => match datasets.as_slice() {
            [dataset] => holds(dataset, artifact) && happened_at(artifact) >= since,
            _ => false,
        },
        _ => false,
    }
}

/// When the version was made known: data that an outside producer describes may be old. An API server tells whole seconds.
fn happened_at(artifact: &api::Artifact) -> Timestamp {
    let committed = artifact.spec.created_at.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let second = std::time::Duration::from_millis(999);
    let created = artifact.metadata.creation_timestamp.as_ref().map(|time| time.0);
    created.and_then(|created| created.checked_add(second).ok()).map_or(committed, |created| created.max(committed))
}

/// Whether the version is of the dataset and its condition holds. One that fails on a version does not hold.
fn holds(dataset: &PlannedDataset, artifact: &api::Artifact) -> bool {
    if dataset.name != artifact.spec.artifact {
        return false;
    }
    let Some(condition) = &dataset.condition else { return true };
    let scope = Scope { artifact: scope_of_version(artifact), ..Scope::default() };
    condition.evaluate(&scope).is_ok_and(|value| value == serde_json::Value::Bool(true))
}

/// Chooses the next versions for a trigger that waits for several datasets. What is chosen is written down, `pending`, before
/// its run is created: with another choice after a crash two runs could read the same version.
pub(super) fn choose_tuples(trigger: &PlannedTrigger, status: &mut api::TriggerStatus, artifacts: &[api::Artifact]) {
    let TriggerOn::Artifacts { datasets, match_on } = &trigger.on else { return };
    if datasets.len() < 2 {
        return;
    }
    let since: Timestamp = status.since.parse().unwrap_or(Timestamp::MIN);
    let mut groups: BTreeMap<BTreeMap<String, String>, Vec<Option<&api::Artifact>>> = BTreeMap::new();
    for (index, dataset) in datasets.iter().enumerate() {
        for artifact in artifacts.iter().filter(|artifact| holds(dataset, artifact) && happened_at(artifact) >= since) {
            let Some(matched) = matched(match_on, artifact) else { continue };
            let group = groups.entry(matched).or_insert_with(|| vec![None; datasets.len()]);
            if let Some(newest) = group.get_mut(index)
                && newest.is_none_or(|newest| order(newest) < order(artifact))
            {
                *newest = Some(artifact);
            }
        }
    }
    for (matched, newest) in groups {
        let Some(newest) = newest.into_iter().collect::<Option<Vec<_>>>() else { continue };
        choose(status, matched, &newest);
    }
    forget(status);
}

fn choose(status: &mut api::TriggerStatus, matched: BTreeMap<String, String>, newest: &[&api::Artifact]) {
    let before = status.tuples.iter().position(|tuple| tuple.matched == matched);
    let is_new = |artifact: &&api::Artifact| match before.and_then(|index| status.tuples.get(index)) {
        Some(tuple) => {
            let read = tuple.versions.iter().find(|version| version.dataset == artifact.spec.artifact);
            read.is_none_or(|read| (read.created_at.as_str(), read.artifact.as_str()) < order(artifact))
        }
        None => {
            status.forgotten_through.as_deref().is_none_or(|forgotten| artifact.spec.created_at.as_str() > forgotten)
        }
    };
    let waits = before.and_then(|index| status.tuples.get(index)).is_some_and(|tuple| tuple.pending);
    if waits || !newest.iter().all(is_new) {
        return;
    }
    let versions = newest.iter().map(|artifact| api::TupleVersion {
        dataset: artifact.spec.artifact.clone(),
        created_at: artifact.spec.created_at.clone(),
        artifact: artifact.metadata.name.clone().unwrap_or_default(),
    });
    let tuple = api::TriggerTuple { matched, versions: versions.collect(), pending: true };
    match before.and_then(|index| status.tuples.get_mut(index)) {
        Some(before) => *before = tuple,
        None => status.tuples.push(tuple),
    }
}

/// Keeps the newest tuples, and remembers how new what goes was.
fn forget(status: &mut api::TriggerStatus) {
    let newest = |tuple: &api::TriggerTuple| tuple.versions.iter().map(|version| version.created_at.clone()).max();
    while status.tuples.len() > TUPLES {
        let oldest = status.tuples.iter().enumerate().filter(|(_, tuple)| !tuple.pending);
        let Some((index, _)) = oldest.min_by_key(|(_, tuple)| newest(tuple)) else { return };
        let gone = newest(&status.tuples.remove(index));
        status.forgotten_through = status.forgotten_through.take().max(gone);
    }
}

/// The values of the keys that versions must share; none where the version lacks one.
fn matched(match_on: &[String], artifact: &api::Artifact) -> Option<BTreeMap<String, String>> {
    match_on.iter().map(|key| Some((key.clone(), artifact.spec.partition.get(key)?.clone()))).collect()
}

fn order(artifact: &api::Artifact) -> (&str, &str) {
    (artifact.spec.created_at.as_str(), artifact.metadata.name.as_deref().unwrap_or_default())
}
