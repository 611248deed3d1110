use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pintail_api as api;
use serde_json::{Value, json};

use super::{LaunchSurroundings, PlannedLaunch, check_launch_plan, compile_launch_plan, is_started_by, trigger_cycle};
use crate::compile::tests::workflow;

fn plan(name: &str, spec: Value) -> api::LaunchPlan {
    let mut spec = spec;
    spec["workflowRef"] = json!({ "name": "w" });
    api::LaunchPlan::new(name, serde_json::from_value(spec).expect("a plan"))
}

/// Path and rule of each problem of a plan that stands alone.
fn alone(spec: Value) -> Vec<String> {
    let problems = compile_launch_plan(&plan("p", spec)).err().unwrap_or_default();
    problems.iter().map(|problem| format!("{} {}", problem.path, problem.rule.id())).collect()
}

fn trigger(on: Value) -> Value {
    let mut trigger = on;
    trigger["name"] = json!("t");
    json!({ "triggers": [trigger] })
}

#[test]
fn a_schedule_that_never_comes_or_has_no_such_zone_is_refused() {
    let schedule = |cron: &str, zone: &str| alone(trigger(json!({ "schedule": { "cron": cron, "timeZone": zone } })));
    assert!(schedule("0 2 * * *", "Europe/Paris").is_empty());
    assert_eq!(schedule("0 0 30 2 *", "UTC"), ["spec.triggers[0].schedule.cron invalid-schedule"]);
    assert_eq!(schedule("61 * * * *", "UTC"), ["spec.triggers[0].schedule.cron invalid-schedule"]);
    assert_eq!(schedule("0 2 * * *", "Europe/Pariss"), ["spec.triggers[0].schedule.timeZone invalid-schedule"]);
}

#[test]
fn expressions_read_what_their_trigger_has() {
    let with = |on: Value, value: &str| {
        let mut on = on;
        on["inputs"] = json!({ "given": value });
        alone(trigger(on))
    };
    let schedule = json!({ "schedule": { "cron": "0 2 * * *" } });
    let artifacts = json!({ "artifacts": [{ "name": "sales" }] });
    let object = json!({ "object": { "connection": "raw", "path": "in/*.csv" } });
    for (on, value) in [
        (&schedule, "$(trigger.interval.start)"),
        (&schedule, "day $(trigger.time) of $(trigger.plan)"),
        (&artifacts, "$(trigger.artifacts.sales)"),
        (&artifacts, "$(trigger.artifacts.sales.partition.region)"),
        (&object, "$(trigger.object)"),
        (&object, "$(trigger.object.bytes > 10)"),
    ] {
        assert_eq!(with(on.clone(), value), Vec::<String>::new(), "{value}");
    }
    for (on, value, rule) in [
        (&schedule, "$(trigger.intervall.start)", "unknown-reference"),
        (&schedule, "$(trigger.object)", "unknown-reference"),
        (&schedule, "$(inputs.day)", "scope-not-allowed"),
        (&artifacts, "$(trigger.artifacts.sale)", "unknown-reference"),
        (&artifacts, "all of $(trigger.artifacts.sales)", "expression-type"),
        (&object, "$(trigger.object.size)", "unknown-reference"),
        (&object, "$(trigger.object.bytes + \"a\")", "expression-type"),
    ] {
        assert_eq!(with(on.clone(), value), [format!("spec.triggers[0].inputs.given {rule}")], "{value}");
    }
}

#[test]
fn where_is_a_condition_over_one_version() {
    let condition = |text: &str| alone(trigger(json!({ "artifacts": [{ "name": "sales", "where": text }] })));
    assert!(condition("$(artifact.partition.region == \"eu\")").is_empty());
    assert_eq!(condition("artifact.rows > 0"), ["spec.triggers[0].artifacts[0].where expression-type"]);
    assert_eq!(condition("$(artifact.rows)"), ["spec.triggers[0].artifacts[0].where expression-type"]);
    assert_eq!(condition("$(artifact.row > 0)"), ["spec.triggers[0].artifacts[0].where unknown-reference"]);
    assert_eq!(condition("$(inputs.rows > 0)"), ["spec.triggers[0].artifacts[0].where scope-not-allowed"]);
}

#[test]
fn two_triggers_of_one_name_and_inputs_that_depend_on_nothing_are_refused() {
    let schedule = json!({ "cron": "0 2 * * *" });
    let twice = json!({ "triggers": [{ "name": "t", "schedule": schedule }, { "name": "t", "schedule": schedule }] });
    assert_eq!(alone(twice), ["spec.triggers[1].name duplicate-name"]);
    assert_eq!(alone(json!({ "inputs": { "day": "$(trigger.time)" } })), ["spec.inputs.day scope-not-allowed"]);
}

fn launch(name: &str, spec: Value) -> PlannedLaunch {
    compile_launch_plan(&plan(name, spec)).expect("a right plan")
}

#[test]
fn a_plan_fits_its_workflow_and_its_connections() {
    let workflow = workflow(json!({
        "inputs": [
            { "name": "recent", "type": "table", "columns": [{ "name": "a", "type": "BIGINT" }] },
            { "name": "least", "type": "BIGINT", "default": 1 },
        ],
        "tasks": [{ "name": "a", "uses": ["recent", "least"], "duckdb": { "query": "SELECT 1" } }],
    }));
    let inputs = crate::compile_inputs(&workflow).expect("inputs");
    let connection =
        |spec: Value| Arc::new(api::Connection::new("c", serde_json::from_value(spec).expect("a connection")));
    let key = json!({ "secretKeyRef": { "name": "s", "key": "k" } });
    let connections = BTreeMap::from([
        ("raw".to_owned(), connection(json!({ "s3": { "bucket": "raw" } }))),
        ("hook".to_owned(), connection(json!({ "webhook": { "signingKeyFrom": key } }))),
        ("mail".to_owned(), connection(json!({ "smtp": { "host": "h", "from": "a@example.com" } }))),
    ]);
    let check = |spec: Value| {
        let around = LaunchSurroundings { connections: &connections, inputs: Some(&inputs) };
        let problems = check_launch_plan(&launch("p", spec), &around);
        problems.iter().map(|problem| format!("{} {}", problem.path, problem.rule.id())).collect::<Vec<_>>()
    };
    let object = |connection: &str, inputs: Value| {
        trigger(json!({ "object": { "connection": connection, "path": "*.csv" }, "inputs": inputs }))
    };
    assert!(check(object("raw", json!({ "recent": "$(trigger.object)", "least": 2 }))).is_empty());
    let at = "spec.triggers[0]";
    assert_eq!(check(object("raw", json!({}))), [format!("{at}.inputs missing-input")]);
    assert_eq!(
        check(object("row", json!({ "recent": "$(trigger.object)" }))),
        [format!("{at}.object.connection unknown-connection")]
    );
    assert_eq!(
        check(object("mail", json!({ "recent": "$(trigger.object)" }))),
        [format!("{at}.object.connection unfit-connection")]
    );
    let more = |name: &str, value: Value| check(object("raw", json!({ "recent": "$(trigger.object)", name: value })));
    assert_eq!(more("lest", json!(1)), [format!("{at}.inputs.lest unknown-input")]);
    assert_eq!(more("least", json!("many")), [format!("{at}.inputs.least invalid-value")]);
    assert_eq!(more("least", json!("$(trigger.object)")), [format!("{at}.inputs.least invalid-value")]);
    assert_eq!(more("recent", json!("$(trigger.object.uri)")), [format!("{at}.inputs.recent invalid-value")]);
    let told = json!({ "inputs": { "recent": { "artifact": "sales" } }, "notifications": [{ "phases": ["Failed"], "connection": "mail" }] });
    assert_eq!(check(told), ["spec.notifications[0].to missing-field"]);
    let told = json!({ "notifications": [{ "phases": ["Failed"], "connection": "hook" }] });
    assert_eq!(check(told), ["spec.notifications[0].connection unfit-connection"]);
    assert_eq!(check(json!({ "inputs": { "least": "x" } })), ["spec.inputs.least invalid-value"]);
}

#[test]
fn plans_that_start_each_other_are_found() {
    let waits = |name: &str, dataset: Value| launch(name, trigger(json!({ "artifacts": dataset })));
    let (mut a, mut b, mut c) = (
        waits("a", json!([{ "name": "three" }])),
        waits("b", json!([{ "name": "one" }])),
        waits("c", json!([{ "name": "two" }])),
    );
    // Each Workflow publishes the dataset of its name.
    (a.workflow, b.workflow, c.workflow) = ("one".to_owned(), "two".to_owned(), "three".to_owned());
    let circle = |plans: &[&PlannedLaunch]| {
        let next = |workflow: &str| {
            let published = BTreeSet::from([workflow.to_owned()]);
            let started = plans.iter().filter(|plan| is_started_by(plan, &published));
            started.map(|plan| (plan.name.clone(), plan.workflow.clone())).collect()
        };
        trigger_cycle(&a, next).map(|path| path.join(" "))
    };
    assert_eq!(circle(&[&a, &b, &c]).as_deref(), Some("a b c a"));
    let mut conditioned = waits("c", json!([{ "name": "two", "where": "$(artifact.rows > 0)" }]));
    conditioned.workflow = "three".to_owned();
    assert_eq!(circle(&[&a, &b, &conditioned]), None);
}
