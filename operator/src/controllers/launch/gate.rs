//! Whether a run that a plan started may start.

use kube::ResourceExt;
use pintail_api as api;
use pintail_api::ConditionReason as Reason;

use crate::controllers::object::decode;
use crate::controllers::unit::Unit;

pub enum Gate {
    Open,
    /// Not yet.
    Queued(String),
    /// Never.
    Closed(Reason, String),
}

/// What the plan says of its run. Only a run that the plan's status lists may start: that list is written by compare and
/// swap, so that however many look, no more start than may.
pub async fn gate(unit: &Unit, namespace: &str, execution: &api::Execution) -> Gate {
    let Some(started) = &execution.spec.trigger else { return Gate::Open };
    unit.launch_plans.wait_until_ready().await;
    let Some(plan) = unit.launch_plans.find(namespace, &started.plan) else { return without_plan(execution) };
    let Ok(plan) = decode::<api::LaunchPlan>(&plan) else {
        return Gate::Queued(format!("LaunchPlan {} cannot be read", started.plan));
    };
    let Some(concurrency) = &plan.spec.concurrency else { return Gate::Open };
    let status = plan.status.unwrap_or_default();
    let uid = execution.uid().unwrap_or_default();
    let position = |runs: &[api::RunReference]| runs.iter().position(|run| run.uid == uid);
    if position(&status.active).is_some() {
        return Gate::Open;
    }
    if position(&status.skipped).is_some() {
        let message =
            format!("LaunchPlan {} allows {} at once, and had no room", started.plan, runs(concurrency.limit));
        return Gate::Closed(Reason::Skipped, message);
    }
    let place = match position(&status.queue) {
        Some(index) => format!("place {} of {}", index + 1, status.queued),
        None => "its place is not known yet".to_owned(),
    };
    let limit = runs(concurrency.limit);
    Gate::Queued(format!("LaunchPlan {} allows {limit} at once: {place} in the queue", started.plan))
}

/// A run that its plan held, and that nobody can let go any more.
fn without_plan(execution: &api::Execution) -> Gate {
    let conditions = execution.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    if conditions.iter().any(|condition| condition.reason == Reason::Queued) {
        return Gate::Closed(Reason::Skipped, "the LaunchPlan was deleted while the run waited for room".to_owned());
    }
    Gate::Open
}

fn runs(count: i32) -> String {
    if count == 1 { "one run".to_owned() } else { format!("{count} runs") }
}
