//! Workflows: validated against what is around them. A run pins what it needs by itself.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_api::ConditionReason as Reason;
use pintail_execution::placed;
use pintail_plan::{
    Plan, Problem, Surroundings, check_connection, check_connection_on_cluster, check_workflow_on_cluster,
};

use super::checks::{self, Examined};
use super::connection::{invalid, said};
use super::error::ReconcileError;
use super::event;
use super::object::{
    Said, condition, conditions, decode, quarantine, ready_conditions, waiting_conditions, write_status,
};
use super::revision::{ConfigMaps, config_maps};
use super::unit::Unit;
use super::work_queue::Action;
use crate::{RunnerSettings, Unchecked};

/// ConfigMaps are not watched: the cluster has many that are no business of ours. A run reads them anew.
const CONFIG_MAPS_AGAIN: Duration = Duration::from_secs(60);

pub async fn reconcile(unit: Arc<Unit>, object: Arc<DynamicObject>) -> Result<Action, ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    let objects = unit.api(&unit.workflows, &namespace);
    let now = unit.context.clock.now();
    let workflow: api::Workflow = match decode(&object) {
        Ok(workflow) => workflow,
        Err(cause) => {
            quarantine(&objects, &object, &cause, now).await?;
            return Ok(Action::await_change());
        }
    };
    let config_maps = config_maps(&unit.context.client, &namespace, &workflow.spec).await?;
    let connections = unit.connections_of(&namespace).await;
    let surroundings = Surroundings { connections, config_maps };
    let plan = plan(&workflow, &surroundings, &unit.context.settings.runner);
    let examined = match &plan {
        Ok(plan) => checks::examine(&unit, &namespace, &workflow, plan, &surroundings.connections).await,
        Err(_) => Examined::Unasked,
    };
    let finding = finding(&workflow, plan.as_ref(), &examined, &surroundings.config_maps);
    let status = status(&workflow, plan.as_ref().ok(), &finding, &conditions(&object), now);
    if write_status(&objects, &object, &status).await?.is_some() && finding.reason == Reason::Invalid {
        event::record(&unit.context, &object, &invalid(workflow.metadata.generation, &finding.message)).await;
    }
    again(&workflow, &examined)
}

/// When to look again.
fn again(workflow: &api::Workflow, examined: &Examined) -> Result<Action, ReconcileError> {
    match examined {
        // The later the more often it was asked in vain.
        Examined::Not(Unchecked::Later(why) | Unchecked::Slow(why)) => Err(ReconcileError::NotChecked(why.clone())),
        Examined::Not(Unchecked::Never(_)) => Ok(Action::requeue(checks::NEVER_AGAIN)),
        Examined::AsBefore(_) => Ok(Action::requeue(CONFIG_MAPS_AGAIN)),
        Examined::Unasked | Examined::Judged { .. } => {
            let again = names_config_maps(&workflow.spec).then_some(CONFIG_MAPS_AGAIN);
            Ok(again.map_or_else(Action::await_change, Action::requeue))
        }
    }
}

pub fn names_config_maps(spec: &api::WorkflowSpec) -> bool {
    spec.tasks.iter().any(|task| task.duckdb.as_ref().is_some_and(|duckdb| duckdb.query_from.is_some()))
}

/// What is said of a workflow.
#[derive(Debug)]
pub struct Finding {
    /// None: not known yet.
    pub is_ready: Option<bool>,
    pub reason: Reason,
    pub message: String,
    /// Where its contracts are broken; none where that is not known.
    pub broken: Option<Vec<Problem>>,
    /// To be found right by without a checker.
    pub settled: Option<String>,
}

/// What a plan and a check come to.
pub fn finding(
    workflow: &api::Workflow,
    plan: Result<&Plan, &Vec<Problem>>,
    examined: &Examined,
    config_maps: &ConfigMaps,
) -> Finding {
    let place = |problems: &[Problem]| -> Vec<Problem> {
        problems.iter().map(|problem| placed(workflow, config_maps, problem)).collect()
    };
    let found = |is_ready, reason, message: String| Finding { is_ready, reason, message, broken: None, settled: None };
    if let Err(problems) = plan {
        return found(Some(false), Reason::Invalid, said(problems).1);
    }
    match examined {
        Examined::Unasked => {
            let message = "the SQL is not checked: this installation has no checker".to_owned();
            found(Some(true), Reason::Valid, message)
        }
        Examined::AsBefore(settled) => {
            let message = "the SQL is as it was when it was found right; the checker does not answer now".to_owned();
            Finding { settled: Some(settled.clone()), ..found(Some(true), Reason::Valid, message) }
        }
        Examined::Not(Unchecked::Later(why)) => {
            found(None, Reason::NotChecked, format!("the SQL is not checked yet: the checker does not answer: {why}"))
        }
        Examined::Not(Unchecked::Slow(why)) => {
            found(None, Reason::NotChecked, format!("the SQL is not checked yet: {why}"))
        }
        Examined::Not(Unchecked::Never(why)) => {
            found(Some(false), Reason::NotChecked, format!("the SQL is not checked: {why}"))
        }
        Examined::Judged { judgement, settled } => {
            let broken = Some(judgement.broken.clone());
            if !judgement.problems.is_empty() {
                let message = said(&place(&judgement.problems)).1;
                return Finding { broken, ..found(Some(false), Reason::Invalid, message) };
            }
            let reason = if judgement.broken.is_empty() { Reason::Valid } else { Reason::ContractBroken };
            let told: Vec<Problem> = judgement.broken.iter().chain(&place(&judgement.notes)).cloned().collect();
            let message = told.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            Finding { broken, settled: Some(settled.clone()), ..found(Some(true), reason, message) }
        }
    }
}

fn status(
    workflow: &api::Workflow,
    plan: Option<&Plan>,
    finding: &Finding,
    before: &[api::Condition],
    now: jiff::Timestamp,
) -> api::WorkflowStatus {
    let generation = workflow.metadata.generation;
    let said = Said { reason: finding.reason, message: &finding.message, generation, now };
    let mut conditions = match finding.is_ready {
        Some(is_ready) => ready_conditions(before, is_ready, &said),
        None => waiting_conditions(before, &said),
    };
    if let Some(broken) = &finding.broken {
        conditions.retain(|found| found.condition_type != api::ConditionType::ContractBroken || !broken.is_empty());
        if !broken.is_empty() {
            let message = broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            let said = Said { reason: Reason::ContractBroken, message: &message, ..said };
            let broken = condition(api::ConditionType::ContractBroken, api::ConditionStatus::True, &said);
            api::set_condition(&mut conditions, broken);
        }
    }
    api::WorkflowStatus {
        observed_generation: generation,
        conditions,
        tasks: i32::try_from(workflow.spec.tasks.len()).ok(),
        revision: plan.map(|plan| plan.revision.clone()),
        checked: finding.settled.clone(),
    }
}

/// The plan of a workflow that can run on this cluster.
///
/// # Errors
/// Every problem, those of the connections that it uses among them.
pub fn plan(
    workflow: &api::Workflow,
    surroundings: &Surroundings,
    runner: &RunnerSettings,
) -> Result<Plan, Vec<Problem>> {
    let plan = pintail_plan::compile(workflow, surroundings)?;
    let mut accounts = vec![runner.service_account.as_str()];
    accounts.extend(runner.allowed_service_accounts.iter().map(String::as_str));
    let mut problems = check_workflow_on_cluster(workflow, &plan, &accounts);
    problems.extend(connection_problems(&plan, surroundings));
    if problems.is_empty() { Ok(plan) } else { Err(problems) }
}

/// What is wrong with the connections of a plan, said of the connection.
fn connection_problems(plan: &Plan, surroundings: &Surroundings) -> Vec<Problem> {
    let used = plan.tasks.iter().flat_map(|task| &task.connections).map(|connection| connection.name.as_str());
    let inputs = plan.inputs.iter().filter_map(|input| match &input.default {
        Some(pintail_plan::InputValue::Table(source)) => source.connection.as_deref(),
        _ => None,
    });
    let names: std::collections::BTreeSet<&str> = used.chain(inputs).collect();
    let of = |name: &str| {
        let connection = surroundings.connections.get(name);
        let found = connection.map(|connection| {
            let spec = &connection.spec;
            check_connection(spec).into_iter().chain(check_connection_on_cluster(spec)).collect::<Vec<_>>()
        });
        let name = name.replace('_', "-");
        found
            .unwrap_or_default()
            .into_iter()
            .map(move |problem| Problem { message: format!("Connection `{name}`: {}", problem.message), ..problem })
    };
    names.into_iter().flat_map(of).collect()
}

/// A plan of what was pinned, whatever has become of the connections since: those that are gone or changed are dealt with
/// by each attempt that needs them.
///
/// # Errors
/// Where not even the definition alone is right, which was found right when it was pinned.
pub fn pinned_plan(
    workflow: &api::Workflow,
    config_maps: ConfigMaps,
    connections: pintail_execution::Connections,
) -> Result<Plan, Vec<Problem>> {
    let surroundings = Surroundings { connections, config_maps };
    pintail_plan::compile(workflow, &surroundings).or_else(|_| {
        let names = connection_names(&workflow.spec);
        // Without a kind a connection fits every use.
        let unclear = |name: String| {
            let connection = api::Connection::new(&name.replace('_', "-"), api::ConnectionSpec::default());
            (name, Arc::new(connection))
        };
        let connections = names.into_iter().map(unclear).collect();
        let config_maps = surroundings.config_maps.clone();
        pintail_plan::compile(workflow, &Surroundings { connections, config_maps })
    })
}

/// Every connection that a workflow names.
pub fn connection_names(spec: &api::WorkflowSpec) -> std::collections::BTreeSet<String> {
    let mut names = std::collections::BTreeSet::new();
    for task in &spec.tasks {
        names.extend(task.reads.iter().chain(&task.writes).cloned());
        names.extend(task.export.iter().map(|export| export.to.connection.clone()));
        names.extend(task.copy.iter().flat_map(|copy| [copy.from.connection.clone(), copy.to.connection.clone()]));
        names.extend(task.notify.iter().map(|notify| notify.connection.clone()));
    }
    let sources = spec.inputs.iter().filter_map(|input| input.default.as_ref()?.0.get("connection")?.as_str());
    names.extend(sources.map(str::to_owned));
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_pinned_has_a_plan_though_its_connections_are_gone() {
        let spec = json!({
            "inputs": [{ "name": "raw", "type": "table", "default": { "connection": "files", "path": "*.csv" } }],
            "tasks": [
                { "name": "a", "uses": ["raw"], "reads": ["lake"], "duckdb": { "query": "SELECT * FROM raw" } },
                { "name": "b", "uses": ["a"], "writes": ["lake"],
                  "duckdb": { "query": "SELECT * FROM a", "load": { "into": "lake.t", "mode": "Append" } } },
                { "name": "c", "export": { "table": "a", "to": { "connection": "files", "path": "a.csv" } }, "uses": ["a"] },
                { "name": "d", "notify": { "connection": "mail", "to": ["a@example.com"], "subject": "s" }, "dependsOn": ["c"] },
            ],
        });
        let workflow = api::Workflow::new("w", serde_json::from_value(spec).expect("a workflow"));
        let plan = pinned_plan(&workflow, ConfigMaps::new(), pintail_execution::Connections::new());
        assert_eq!(plan.map(|plan| plan.tasks.len()).map_err(|problems| said(&problems).1), Ok(4));
    }
}
