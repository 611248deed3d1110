//! Versions that became Ready start runs.

use std::time::Duration;

use kube::ResourceExt;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_execution::launch::{is_full, runs_of_version};

use super::{check, dropped, perform};
use crate::controllers::error::ReconcileError;
use crate::controllers::event;
use crate::controllers::object::decode;
use crate::controllers::unit::Unit;

/// A version for which a plan has no room is looked at again.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The Ready versions of a namespace.
pub async fn ready_versions(unit: &Unit, namespace: &str) -> Vec<api::Artifact> {
    unit.artifacts.wait_until_ready().await;
    let versions = unit.artifacts.within(namespace);
    let versions = versions.iter().filter_map(|object| decode::<api::Artifact>(object).ok());
    versions.filter(is_ready).collect()
}

fn is_ready(artifact: &api::Artifact) -> bool {
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
    let plans = unit.launch_plans.within(namespace);
    let concerned = plans.iter().filter(|object| waits_for(object, &artifact.spec.artifact, 1));
    concerned.filter_map(|object| Some(((**object).clone(), decode(object).ok()?))).collect()
}

/// Whether one of the plan's triggers waits for the dataset, among `at_least` datasets.
fn waits_for(plan: &DynamicObject, dataset: &str, at_least: usize) -> bool {
    let triggers = plan.data.pointer("/spec/triggers").and_then(|triggers| triggers.as_array());
    let lists = triggers.into_iter().flatten().filter_map(|trigger| trigger.get("artifacts")?.as_array());
    let mut lists = lists.filter(|datasets| datasets.len() >= at_least);
    lists.any(|datasets| datasets.iter().any(|found| found.get("name").and_then(|name| name.as_str()) == Some(dataset)))
}

/// Plans that wait for several datasets look at their versions themselves, whenever one changes.
pub fn enqueue_plans(unit: &Unit, artifact: &DynamicObject) {
    let namespace = artifact.namespace().unwrap_or_default();
    let Some(dataset) = artifact.data.pointer("/spec/artifact").and_then(|name| name.as_str()) else { return };
    for plan in unit.launch_plans.within(&namespace) {
        if waits_for(&plan, dataset, 2) {
            unit.launch_plans.enqueue(&namespace, &plan.name_any());
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
