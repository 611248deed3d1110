//! What is right on one machine and not on a cluster: pods share no folder with whoever wrote the manifest.

use std::collections::BTreeMap;

use pintail_api as api;

use crate::Rule;
use crate::model::{InputValue, Plan};
use crate::problem::{FieldPath, Problem, excerpt, listing};

/// What of a Connection cannot be on a cluster.
pub fn check_connection_on_cluster(spec: &api::ConnectionSpec) -> Vec<Problem> {
    let path = FieldPath::root().field("spec");
    let mut problems = Vec::new();
    if let Some(folder) = &spec.folder {
        let message = format!(
            "`{}` is a folder of one machine, and pods run on any; use a connection of kind `s3`",
            excerpt(&folder.path)
        );
        problems.push(Problem::new(Rule::ClusterPath, path.field("folder"), message));
    }
    if let Some(duckdb) = spec.duckdb.as_ref().filter(|duckdb| duckdb.volume_claim.is_none()) {
        let message = format!(
            "`{}` is a file of one machine, and pods run on any; name the PersistentVolumeClaim that holds it by \
             `volumeClaim`",
            excerpt(&duckdb.path)
        );
        problems.push(Problem::new(Rule::ClusterPath, path.field("duckdb").field("path"), message));
    }
    problems
}

/// What of a Workflow cannot be on a cluster whose installation allows these ServiceAccounts.
pub fn check_workflow_on_cluster(workflow: &api::Workflow, plan: &Plan, service_accounts: &[&str]) -> Vec<Problem> {
    let spec = FieldPath::root().field("spec");
    let mut problems = Vec::new();
    for (index, input) in workflow.spec.inputs.iter().enumerate() {
        let planned = plan.inputs.iter().find(|planned| planned.name == input.name);
        let path = spec.field("inputs").index(index).field("default");
        problems
            .extend(planned.and_then(|planned| planned.default.as_ref()).and_then(|value| uri_problem(value, &path)));
    }
    for (index, task) in plan.tasks.iter().enumerate() {
        let Some(account) = &task.pod.service_account_name else { continue };
        if !service_accounts.contains(&account.as_str()) {
            let message = format!(
                "ServiceAccount `{account}` is not one of those that this installation allows: {}",
                listing(service_accounts.iter().copied())
            );
            let path = spec.field("tasks").index(index).field("pod").field("serviceAccountName");
            problems.push(Problem::new(Rule::PodOptions, path, message));
        }
    }
    problems
}

/// What of a run's bound inputs cannot be on a cluster.
pub fn check_inputs_on_cluster(bound: &[(String, InputValue)]) -> Vec<Problem> {
    let path = FieldPath::root().field("spec").field("inputs");
    bound.iter().filter_map(|(name, value)| uri_problem(value, &path.field(name))).collect()
}

fn uri_problem(value: &InputValue, path: &FieldPath) -> Option<Problem> {
    let InputValue::Table(source) = value else { return None };
    let uri = source.uri.as_deref()?;
    if uri.contains("://") && !uri.starts_with("file://") {
        return None;
    }
    let message = format!(
        "`{}` is a path on one machine, and pods run on any; use `{{ connection: …, path: … }}` or a URL",
        excerpt(uri)
    );
    Some(Problem::new(Rule::ClusterPath, path.field("uri"), message))
}

/// What of an Execution its schema cannot say.
pub fn check_execution(spec: &api::ExecutionSpec) -> Vec<Problem> {
    let path = FieldPath::root().field("spec");
    let durations =
        BTreeMap::from([("startDeadline", &spec.start_deadline), ("ttlAfterFinished", &spec.ttl_after_finished)]);
    let problem = |(field, text): (&str, &Option<String>)| {
        let message = crate::quantity::duration(text.as_deref()?).err()?;
        Some(Problem::new(Rule::InvalidDuration, path.field(field), message))
    };
    durations.into_iter().filter_map(problem).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::compile::tests::{surroundings, workflow};

    fn connection(spec: serde_json::Value) -> Vec<String> {
        let spec: api::ConnectionSpec = serde_json::from_value(spec).expect("a connection");
        check_connection_on_cluster(&spec).iter().map(|problem| problem.path.to_string()).collect()
    }

    #[test]
    fn files_of_a_machine_are_none_of_a_cluster() {
        assert_eq!(connection(json!({ "folder": { "path": "data" } })), ["spec.folder"]);
        assert_eq!(connection(json!({ "duckdb": { "path": "/data/a.duckdb" } })), ["spec.duckdb.path"]);
        assert!(connection(json!({ "duckdb": { "path": "a.duckdb", "volumeClaim": "lake" } })).is_empty());
        assert!(connection(json!({ "s3": { "bucket": "raw" } })).is_empty());
    }

    #[test]
    fn a_default_on_a_machine_and_an_account_that_is_not_allowed_are_refused() {
        let workflow = workflow(json!({
            "inputs": [
                { "name": "here", "type": "table", "default": { "uri": "data/x.csv" } },
                { "name": "there", "type": "table", "default": { "uri": "https://example.com/x.csv" } },
            ],
            "tasks": [{ "name": "a", "uses": ["here", "there"], "duckdb": { "query": "SELECT 1" },
                "pod": { "serviceAccountName": "admin" } }],
        }));
        let plan = crate::compile(&workflow, &surroundings()).expect("a plan");
        let problems = check_workflow_on_cluster(&workflow, &plan, &["pintail-runner"]);
        let paths: Vec<String> = problems.iter().map(|problem| problem.path.to_string()).collect();
        assert_eq!(paths, ["spec.inputs[0].default.uri", "spec.tasks[0].pod.serviceAccountName"]);
    }

    #[test]
    fn the_durations_of_an_execution_are_checked() {
        let spec = json!({ "workflowRef": { "name": "w" }, "startDeadline": "10 m", "ttlAfterFinished": "7d" });
        let spec: api::ExecutionSpec = serde_json::from_value(spec).expect("an execution");
        assert_eq!(check_execution(&spec).len(), 1);
    }
}
