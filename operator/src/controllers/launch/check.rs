//! What is wrong with a plan, alone and among other objects.

use std::collections::BTreeSet;

use pintail_api as api;
use pintail_plan::{
    FieldPath, LaunchSurroundings, PlannedLaunch, Problem, Rule, TriggerOn, check_connection_on_cluster,
    check_launch_plan, compile_inputs, is_started_by, trigger_cycle,
};

use crate::controllers::object::decode;
use crate::controllers::unit::Unit;

pub async fn problems(unit: &Unit, namespace: &str, compiled: &Result<PlannedLaunch, Vec<Problem>>) -> Vec<Problem> {
    let launch = match compiled {
        Ok(launch) => launch,
        Err(problems) => return problems.clone(),
    };
    let connections = unit.connections_of(namespace).await;
    let workflow = unit.workflows.find(namespace, &launch.workflow);
    let workflow = workflow.as_deref().map(decode::<api::Workflow>);
    let inputs = workflow.as_ref().and_then(|found| found.as_ref().ok()).map(compile_inputs);
    let inputs = inputs.as_ref().and_then(|inputs| inputs.as_deref().ok());
    let mut problems = check_launch_plan(launch, &LaunchSurroundings { connections: &connections, inputs });
    let reference = FieldPath::root().field("spec").field("workflowRef").field("name");
    if workflow.is_none() {
        let message = format!("there is no Workflow `{}`: runs wait for it", launch.workflow);
        problems.push(Problem::new(Rule::UnknownName, reference, message));
    }
    problems.extend(used_connections(launch).into_iter().flat_map(|name| {
        let found = connections.get(name).map(|connection| check_connection_on_cluster(&connection.spec));
        found.unwrap_or_default()
    }));
    problems.extend(cycle(unit, namespace, launch));
    problems
}

fn used_connections(launch: &PlannedLaunch) -> BTreeSet<&str> {
    let triggers = launch.triggers.iter().filter_map(|trigger| match &trigger.on {
        TriggerOn::Object { connection, .. } | TriggerOn::Event { connection, .. } => Some(connection.as_str()),
        TriggerOn::Schedule { .. } | TriggerOn::Artifacts { .. } => None,
    });
    triggers.chain(launch.notifications.iter().map(|told| told.connection.as_str())).collect()
}

pub fn is_cycle(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.rule == Rule::TriggerCycle)
}

/// Only the plans that this one starts are looked at, and those that they start.
pub fn cycle(unit: &Unit, namespace: &str, launch: &PlannedLaunch) -> Option<Problem> {
    if !launch.triggers.iter().any(|trigger| matches!(trigger.on, TriggerOn::Artifacts { .. })) {
        return None;
    }
    let next = |workflow: &str| {
        let workflow = unit.workflows.find(namespace, workflow);
        let workflow = workflow.and_then(|object| decode::<api::Workflow>(&object).ok());
        let published = workflow.as_ref().map(published).unwrap_or_default();
        let waiting: BTreeSet<_> = published.iter().flat_map(|dataset| unit.waiting.of(namespace, dataset)).collect();
        let plans = waiting.iter().filter_map(|name| unit.launch_plans.find(namespace, name));
        let compiled = plans.filter_map(|object| Some(unit.launches.get(&decode(&object).ok()?)));
        let started = compiled.filter_map(|compiled| {
            let plan = compiled.as_ref().as_ref().ok().filter(|plan| is_started_by(plan, &published))?;
            Some((plan.name.clone(), plan.workflow.clone()))
        });
        started.collect()
    };
    let circle = trigger_cycle(launch, next)?;
    let message = format!("plans start each other in a circle: {}; nothing is started", circle.join(" -> "));
    let path = FieldPath::root().field("spec").field("triggers");
    Some(Problem::new(Rule::TriggerCycle, path, message))
}

/// The datasets that a Workflow publishes.
fn published(workflow: &api::Workflow) -> BTreeSet<String> {
    let outputs = workflow.spec.outputs.as_deref().unwrap_or_default();
    outputs.iter().filter_map(|output| output.publish.as_ref()).map(|publish| publish.artifact.clone()).collect()
}

/// What is said of a plan whose agent does not do all its work: with the fields that need it.
pub fn without_agent(launch: &PlannedLaunch, trouble: &str) -> String {
    let path = FieldPath::root().field("spec").field("triggers");
    let fields = launch.triggers.iter().enumerate().filter_map(|(index, trigger)| {
        let kind = match trigger.on {
            TriggerOn::Object { .. } => "object",
            TriggerOn::Event { .. } => "event",
            TriggerOn::Schedule { .. } | TriggerOn::Artifacts { .. } => return None,
        };
        Some(path.index(index).field(kind).to_string())
    });
    format!("{}: may start nothing: {trouble}", fields.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_without_its_agent_says_which_of_its_fields_need_it() {
        let plan = json!({
            "metadata": { "name": "p" },
            "spec": { "workflowRef": { "name": "w" }, "triggers": [
                { "name": "a", "object": { "connection": "raw", "path": "*.csv" } },
                { "name": "b", "schedule": { "cron": "0 2 * * *" } },
                { "name": "c", "event": { "type": "t", "connection": "hook" } },
            ] },
        });
        let launch = pintail_plan::compile_launch_plan(&serde_json::from_value(plan).unwrap()).unwrap();
        let said = without_agent(&launch, "the pod a waits");
        assert_eq!(said, "spec.triggers[0].object, spec.triggers[2].event: may start nothing: the pod a waits");
    }
}
