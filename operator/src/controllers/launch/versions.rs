//! Versions that became Ready start runs.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::ResourceExt;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_execution::launch::{is_full, runs_of_version};
use pintail_plan::{PlannedLaunch, TriggerOn};

use super::known::datasets;
use super::{check, dropped, perform};
use crate::controllers::error::ReconcileError;
use crate::controllers::event;
use crate::controllers::object::decode;
use crate::controllers::unit::Unit;

/// A version for which a plan has no room is looked at again.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The Ready versions of some datasets.
pub async fn ready_versions(unit: &Unit, namespace: &str, datasets: &BTreeSet<&str>) -> Vec<api::Artifact> {
    if datasets.is_empty() {
        return Vec::new();
    }
    unit.artifacts.wait_until_ready().await;
    let versions = unit.artifacts.within(namespace);
    let wanted = versions.iter().filter(|object| dataset(object).is_some_and(|name| datasets.contains(name)));
    wanted.filter_map(|object| decode::<api::Artifact>(object).ok()).filter(is_ready).collect()
}

/// The datasets that a plan waits for.
pub fn awaited(launch: &PlannedLaunch) -> BTreeSet<&str> {
    let datasets = launch.triggers.iter().flat_map(|trigger| match &trigger.on {
        TriggerOn::Artifacts { datasets, .. } => datasets.as_slice(),
        _ => &[],
    });
    datasets.map(|dataset| dataset.name.as_str()).collect()
}

fn dataset(version: &DynamicObject) -> Option<&str> {
    version.data.pointer("/spec/artifact")?.as_str()
}

/// Whether runs may read a version.
pub fn is_ready(artifact: &api::Artifact) -> bool {
    let conditions = artifact.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let is_ready = |condition: &api::Condition| {
        condition.condition_type == api::ConditionType::Ready && condition.status == api::ConditionStatus::True
    };
    artifact.metadata.deletion_timestamp.is_none() && conditions.iter().any(is_ready)
}

/// The plans that a version concerns.
pub async fn plans_for(
    unit: &Unit,
    artifact: &api::Artifact,
    namespace: &str,
) -> Vec<(DynamicObject, api::LaunchPlan)> {
    unit.launch_plans.wait_until_ready().await;
    let names = unit.waiting.of(namespace, &artifact.spec.artifact);
    let plans = names.iter().filter_map(|name| unit.launch_plans.find(namespace, name));
    plans.filter_map(|object| Some(((*object).clone(), decode(&object).ok()?))).collect()
}

/// Plans that wait for several datasets look at their versions themselves, whenever one changes.
pub fn enqueue_plans(unit: &Unit, artifact: &DynamicObject) {
    let namespace = artifact.namespace().unwrap_or_default();
    let Some(dataset) = dataset(artifact) else { return };
    for name in unit.waiting.of(&namespace, dataset) {
        let plan = unit.launch_plans.find(&namespace, &name);
        if plan.is_some_and(|plan| datasets(&plan).any(|awaited| awaited.count() > 1)) {
            unit.launch_plans.enqueue(&namespace, &name);
        }
    }
}

/// Creates every run that the version starts. False where a plan has no room for one: the version waits.
pub async fn dispatch(
    unit: &Unit,
    artifact: &api::Artifact,
    plans: &[(DynamicObject, api::LaunchPlan)],
    namespace: &str,
) -> Result<bool, ReconcileError> {
    let mut is_done = true;
    for (object, plan) in plans {
        let compiled = unit.launches.get(plan);
        let Ok(launch) = compiled.as_ref() else { continue };
        if check::cycle(unit, namespace, launch).is_some() {
            continue;
        }
        let status = plan.status.clone().unwrap_or_default();
        let runs = runs_of_version(launch, &status, artifact, namespace);
        if runs.is_empty() {
            continue;
        }
        if is_full(launch, unit.plan_runs.unended(namespace, &launch.name, unit.context.clock.now())) {
            is_done = false;
            continue;
        }
        for (trigger, run) in runs {
            match run {
                Ok(run) => perform::create_one(unit, namespace, &run).await?,
                Err(message) => {
                    event::record(&unit.context, object, &dropped(&trigger, &message, &artifact.name_any())).await
                }
            }
        }
    }
    Ok(is_done)
}
