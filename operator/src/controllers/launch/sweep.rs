//! Markers that have refused their occurrence for long enough.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::launch::{run_of_marker, trigger_of};
use pintail_plan::{PlannedLaunch, REFUSE_AGAIN_FOR};
use pintail_storage::{Listed, layout};

use crate::controllers::error::ReconcileError;
use crate::controllers::object::decode;
use crate::controllers::sweep::list;
use crate::controllers::unit::Unit;

/// Deletes what is old of a namespace.
pub async fn sweep(unit: &Unit, namespace: &str) -> Result<(), ReconcileError> {
    let store = &unit.context.store;
    let folder = layout::triggers(namespace)?;
    let plans = store.folders(&folder).await?;
    if plans.is_empty() {
        return Ok(());
    }
    unit.launch_plans.wait_until_ready().await;
    let now = unit.context.clock.now();
    // A namespace has hundreds of runs and may have a million markers, of which few are old.
    let mut runs = None;
    for plan in plans {
        let object = unit.launch_plans.find(namespace, &plan);
        let compiled = match object.map(|object| decode::<api::LaunchPlan>(&object)) {
            None => None,
            Some(Ok(plan)) => Some(unit.launches.get(&plan)),
            // How long it refuses cannot be told.
            Some(Err(_)) => continue,
        };
        let launch = match compiled.as_deref() {
            None => None,
            Some(Ok(launch)) => Some(launch),
            Some(Err(_)) => continue,
        };
        let mut old = old(store.list_dated(&format!("{folder}/{plan}")).await?, launch, now);
        if old.is_empty() {
            continue;
        }
        if runs.is_none() {
            runs = Some(run_names(unit, namespace).await?);
        }
        old.retain(|key| is_over(key, &plan, launch, runs.as_ref().unwrap_or(&BTreeSet::new())));
        store.delete(&old).await?;
        if !old.is_empty() {
            tracing::info!(namespace, plan, count = old.len(), "deleted markers of occurrences of long ago");
        }
    }
    Ok(())
}

async fn run_names(unit: &Unit, namespace: &str) -> Result<BTreeSet<String>, ReconcileError> {
    let executions = list(unit.api(&unit.executions, namespace), namespace).await?;
    Ok(executions.iter().map(ResourceExt::name_any).collect())
}

/// The keys of what is older than its plan refuses; none: the plan is gone.
fn old(listed: Vec<Listed>, launch: Option<&PlannedLaunch>, now: Timestamp) -> Vec<String> {
    let refuse_for = launch.map_or(REFUSE_AGAIN_FOR, |launch| launch.history.refuse_again_for);
    let is_old = |listed: &Listed| listed.modified_at.checked_add(refuse_for).is_ok_and(|until| until <= now);
    listed.into_iter().filter(is_old).map(|listed| listed.key).collect()
}

/// Whether what is old may go: the marker of a run that is gone, the seen objects of a trigger that is gone.
fn is_over(key: &str, plan: &str, launch: Option<&PlannedLaunch>, runs: &BTreeSet<String>) -> bool {
    let mut parts = key.rsplit('/');
    let (name, trigger) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if name.starts_with('_') {
        return launch.and_then(|launch| trigger_of(launch, trigger)).is_none();
    }
    !runs.contains(&run_of_marker(plan, name))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use pintail_execution::launch::{marker_name, of_happened, started_run};
    use pintail_plan::compile_launch_plan;
    use pintail_protocol::{Happened, ReceivedEvent};
    use serde_json::json;

    use super::*;

    fn launch(refuse_again_for: Option<&str>) -> PlannedLaunch {
        let plan = json!({
            "metadata": { "name": "orders" },
            "spec": {
                "workflowRef": { "name": "w" }, "history": { "refuseAgainFor": refuse_again_for },
                "triggers": [{ "name": "hook", "event": { "type": "t", "connection": "c" } }],
            },
        });
        compile_launch_plan(&serde_json::from_value(plan).unwrap()).unwrap()
    }

    #[test]
    fn a_plan_says_how_long_its_markers_refuse_and_ninety_days_otherwise() {
        let now = Timestamp::now();
        let aged =
            |days: i64| Listed { key: format!("{days}"), modified_at: now - SignedDuration::from_hours(24 * days) };
        let listed = || [1, 8, 89, 90].map(aged).to_vec();
        assert_eq!(old(listed(), Some(&launch(Some("7d"))), now), ["8", "89", "90"]);
        assert_eq!(old(listed(), Some(&launch(None)), now), ["90"]);
        assert_eq!(old(listed(), None, now), ["90"]);
    }

    #[test]
    fn a_marker_stays_for_as_long_as_its_run_and_seen_objects_for_as_long_as_their_trigger() {
        let launch = launch(None);
        let event = ReceivedEvent {
            id: "1".to_owned(),
            source: "/s".to_owned(),
            event_type: "t".to_owned(),
            subject: None,
            time: Timestamp::UNIX_EPOCH,
            data: json!({}),
        };
        let run = started_run(&launch, launch.triggers.first(), &of_happened(&Happened::Event(event)), "data").unwrap();
        let marker = marker_name(run.spec.trigger.as_ref().unwrap());
        let key = layout::trigger_marker("data", "orders", "hook", &marker).unwrap();
        assert!(!is_over(&key, "orders", Some(&launch), &[run.name_any()].into()));
        assert!(is_over(&key, "orders", Some(&launch), &["orders-other".to_owned()].into()));
        let seen = |trigger: &str| layout::seen_objects("data", "orders", trigger).unwrap();
        assert!(!is_over(&seen("hook"), "orders", Some(&launch), &BTreeSet::new()));
        assert!(is_over(&seen("gone"), "orders", Some(&launch), &BTreeSet::new()));
        assert!(is_over(&seen("hook"), "orders", None, &BTreeSet::new()));
    }
}
