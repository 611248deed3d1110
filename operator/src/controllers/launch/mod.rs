//! LaunchPlans: what happens starts runs, each exactly once. What is to be done is decided by
//! [`pintail_execution::launch`]; here it is read and written.
//!
//! ```text
//! plan, its runs, versions ─ advance_plan ─> create runs ─> write status ─> cancel, prune
//! ```

pub mod check;
pub mod gate;
pub mod known;
pub mod marker;
pub mod perform;
pub mod sweep;
pub mod versions;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_api::ConditionReason as Reason;
use pintail_execution::launch::{PlanDecision, PlanFacts, advance_plan};
use pintail_plan::PlannedLaunch;

use super::agent::needs_agent;
use super::connection::said;
use super::error::ReconcileError;
use super::event::{self, Happened};
use super::object::{Said, conditions, decode, quarantine, ready_conditions, write_status};
use super::unit::Unit;
use crate::controllers::work_queue::Action;

pub async fn reconcile(unit: Arc<Unit>, object: Arc<DynamicObject>) -> Result<Action, ReconcileError> {
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = object.namespace().unwrap_or_default();
    let objects = unit.api(&unit.launch_plans, &namespace);
    let now = unit.context.clock.now();
    let plan: api::LaunchPlan = match decode(&object) {
        Ok(plan) => plan,
        Err(cause) => {
            quarantine(&objects, &object, &cause, now).await?;
            return Ok(Action::await_change());
        }
    };
    // Who may run is decided over all runs: a part of the list would let too many start.
    unit.executions.wait_until_ready().await;
    let compiled = unit.launches.get(&plan);
    let problems = check::problems(&unit, &namespace, compiled.as_ref()).await;
    let decision = match compiled.as_ref() {
        Ok(launch) if !check::is_cycle(&problems) => decide(&unit, &namespace, &plan, launch).await,
        _ => PlanDecision { status: plan.status.clone().unwrap_or_default(), ..PlanDecision::default() },
    };
    perform::create(&unit, &namespace, &decision.create).await?;
    let agents_part = compiled.as_ref().as_ref().ok().filter(|launch| needs_agent(launch));
    let trouble = agents_part.zip(unit.agents.trouble(&namespace));
    let (reason, message) = match trouble.as_ref().filter(|_| problems.is_empty()) {
        Some((launch, trouble)) => (Reason::AgentUnavailable, check::without_agent(launch, trouble)),
        None => said(&problems),
    };
    let generation = plan.metadata.generation;
    let said = Said { reason, message: &message, generation, now };
    let mut status = decision.status.clone();
    status.observed_generation = generation;
    status.conditions = ready_conditions(&conditions(&object), problems.is_empty() && trouble.is_none(), &said);
    let is_written = write_status(&objects, &object, &status).await?.is_some();
    if is_written && !problems.is_empty() {
        event::record(&unit.context, &object, &super::connection::invalid(generation, &message)).await;
    }
    perform::afterwards(&unit, &object, &namespace, &decision).await?;
    let wake = decision.wake.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    Ok(wake.map_or_else(Action::await_change, |wait| Action::requeue(wait.max(Duration::from_millis(1)))))
}

async fn decide(unit: &Unit, namespace: &str, plan: &api::LaunchPlan, launch: &PlannedLaunch) -> PlanDecision {
    let artifacts = versions::ready_versions(unit, namespace, &versions::awaited(launch)).await;
    let runs = unit.plan_runs.of(namespace, &launch.name);
    let status = plan.status.clone().unwrap_or_default();
    let created_at = plan.metadata.creation_timestamp.as_ref().map_or_else(|| unit.context.clock.now(), |time| time.0);
    let facts = PlanFacts { launch, namespace, created_at, status: &status, runs: &runs, artifacts: &artifacts };
    advance_plan(&facts, unit.context.clock.now())
}

/// What a plan did not start, for people.
pub fn dropped(trigger: &str, message: &str, occurrence: &str) -> Happened {
    Happened {
        reason: "OccurrenceDropped",
        action: "Launch",
        warning: true,
        note: format!("trigger {trigger} started no run: {message}"),
        key: format!("{trigger}/{occurrence}"),
    }
}
