//! What a plan's decision comes to on the cluster.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use pintail_api as api;
use pintail_execution::launch::{PlanDecision, PlanRun};
use serde_json::json;

use super::{dropped, marker};
use crate::controllers::error::{Attempted, ReconcileError};
use crate::controllers::event;
use crate::controllers::unit::Unit;

/// Creates runs. One that is there already, or was and is gone, is not created again: repeating this does no harm.
pub async fn create(unit: &Unit, namespace: &str, runs: &[api::Execution]) -> Result<(), ReconcileError> {
    for run in runs {
        create_one(unit, namespace, run).await?;
    }
    Ok(())
}

pub async fn create_one(unit: &Unit, namespace: &str, run: &api::Execution) -> Result<(), ReconcileError> {
    let Some(started) = &run.spec.trigger else { return Ok(()) };
    if marker::exists(&unit.context.store, namespace, started).await? {
        return Ok(());
    }
    create_unmarked(unit, namespace, run).await
}

/// As [`create_one`], where there is no marker.
pub async fn create_unmarked(unit: &Unit, namespace: &str, run: &api::Execution) -> Result<(), ReconcileError> {
    let name = run.name_any();
    let Some(started) = &run.spec.trigger else { return Ok(()) };
    let executions: Api<api::Execution> = Api::namespaced(unit.context.client.clone(), namespace);
    match executions.create(&PostParams::default(), run).await {
        Ok(_) => {
            let now = unit.context.clock.now();
            unit.plan_runs.created(namespace, &started.plan, &name, now);
            let kind = trigger_kind(unit, namespace, started);
            let lag = started.time.parse().ok().map(|at| now.duration_since(at));
            unit.context.metrics.launched(kind, lag.and_then(|lag| std::time::Duration::try_from(lag).ok()));
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let found = executions.get_opt(&name).await.attempted(|| format!("read Execution {name}"))?;
            let is_other =
                |trigger: &api::StartedBy| (&trigger.plan, &trigger.occurrence) != (&started.plan, &started.occurrence);
            if found.is_some_and(|found| found.spec.trigger.as_ref().is_none_or(is_other)) {
                tracing::warn!(
                    name,
                    plan = started.plan,
                    "an Execution that no trigger made has the name of an occurrence"
                );
            }
            Ok(())
        }
        Err(error) => Err(error).attempted(|| format!("create Execution {name}")),
    }
}

fn trigger_kind(unit: &Unit, namespace: &str, started: &api::StartedBy) -> &'static str {
    let Some(object) = unit.launch_plans.find(namespace, &started.plan) else { return "other" };
    let triggers = object.data.pointer("/spec/triggers").and_then(|triggers| triggers.as_array());
    let trigger = triggers
        .into_iter()
        .flatten()
        .find(|trigger| trigger.get("name").and_then(|name| name.as_str()) == started.name.as_deref());
    let kinds = ["schedule", "artifacts", "object", "event"];
    kinds.into_iter().find(|kind| trigger.is_some_and(|trigger| trigger.get(kind).is_some())).unwrap_or("other")
}

/// What follows once the status is written: it names whom it replaces, and what was dropped.
pub async fn afterwards(
    unit: &Unit,
    plan: &DynamicObject,
    namespace: &str,
    decision: &PlanDecision,
) -> Result<(), ReconcileError> {
    for (trigger, message) in &decision.dropped {
        let count =
            decision.status.triggers.iter().find(|found| found.name == *trigger).map_or(0, |found| found.dropped);
        tracing::warn!(trigger, "no run was started: {message}");
        event::record(&unit.context, plan, &dropped(trigger, message, &count.to_string())).await;
    }
    for name in &decision.cancel {
        cancel(unit, namespace, name).await?;
    }
    for run in &decision.prune {
        prune(unit, namespace, &plan.name_any(), run).await?;
    }
    Ok(())
}

async fn cancel(unit: &Unit, namespace: &str, name: &str) -> Result<(), ReconcileError> {
    let patch = json!({ "spec": { "cancel": true } });
    match unit.api(&unit.executions, namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error).attempted(|| format!("cancel Execution {name}")),
    }
}

/// The marker first: nothing that fired is forgotten with its run.
async fn prune(unit: &Unit, namespace: &str, plan: &str, run: &PlanRun) -> Result<(), ReconcileError> {
    let started = api::StartedBy {
        plan: plan.to_owned(),
        name: run.trigger.clone(),
        occurrence: run.occurrence.clone(),
        ..api::StartedBy::default()
    };
    marker::renew(&unit.context.store, namespace, &started, &run.name, &run.uid).await?;
    let preconditions = Preconditions { uid: Some(run.uid.clone()), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match unit.api(&unit.executions, namespace).delete(&run.name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 409 => Ok(()),
        Err(error) => Err(error).attempted(|| format!("delete Execution {}", run.name)),
    }
}
