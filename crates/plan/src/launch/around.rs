//! A LaunchPlan among other objects: its Workflow, its Connections, the other plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pintail_api as api;
use serde_json::Value as Json;

use super::{PlannedLaunch, PlannedTrigger, TriggerOn, TriggerValue, near};
use crate::Rule;
use crate::input::bind_planned;
use crate::model::{InputKind, PlannedInput};
use crate::problem::{FieldPath, Problem, listing};

/// What a plan is checked against.
#[derive(Clone, Copy, Debug)]
pub struct LaunchSurroundings<'a> {
    /// Connections by their SQL names.
    pub connections: &'a BTreeMap<String, Arc<api::Connection>>,
    /// The inputs of the plan's Workflow; none where it is missing or wrong itself.
    pub inputs: Option<&'a [PlannedInput]>,
}

/// What is wrong with a plan among other objects. Paths are those of the LaunchPlan.
pub fn check_launch_plan(launch: &PlannedLaunch, around: &LaunchSurroundings) -> Vec<Problem> {
    let path = FieldPath::root().field("spec");
    let mut problems = Vec::new();
    for (index, trigger) in launch.triggers.iter().enumerate() {
        let path = path.field("triggers").index(index);
        problems.extend(connection_problem(&trigger.on, around, &path));
    }
    for (index, notification) in launch.notifications.iter().enumerate() {
        let path = path.field("notifications").index(index);
        let fits = |spec: &api::ConnectionSpec| {
            spec.smtp.is_some()
                || spec.webhook.as_ref().is_some_and(|hook| hook.url.is_some() || hook.url_from.is_some())
        };
        let takes = "messages go to a mail server or to the URL of a webhook";
        problems.extend(unfit(&notification.connection, around, &path.field("connection"), takes, fits));
        let is_mail = around.connections.get(&notification.connection).is_some_and(|found| found.spec.smtp.is_some());
        if is_mail && notification.to.is_empty() {
            let message = "mail needs someone to go to: `to: [name@example.com]`";
            problems.push(Problem::new(Rule::MissingField, path.field("to"), message));
        }
    }
    if let Some(inputs) = around.inputs {
        problems.extend(input_problems(launch, inputs, &path));
    }
    problems
}

fn connection_problem(on: &TriggerOn, around: &LaunchSurroundings, path: &FieldPath) -> Option<Problem> {
    match on {
        TriggerOn::Object { connection, .. } => {
            let path = path.field("object").field("connection");
            let takes = "objects arrive in a folder or a bucket";
            unfit(connection, around, &path, takes, |spec| spec.folder.is_some() || spec.s3.is_some())
        }
        TriggerOn::Event { connection, .. } => {
            let path = path.field("event").field("connection");
            let takes = "events come with the key of a webhook: `webhook: { signingKeyFrom: … }`";
            let fits = |spec: &api::ConnectionSpec| {
                spec.webhook.as_ref().is_some_and(|webhook| webhook.signing_key_from.is_some())
            };
            unfit(connection, around, &path, takes, fits)
        }
        TriggerOn::Schedule { .. } | TriggerOn::Artifacts { .. } => None,
    }
}

fn unfit(
    name: &str,
    around: &LaunchSurroundings,
    path: &FieldPath,
    takes: &str,
    fits: impl Fn(&api::ConnectionSpec) -> bool,
) -> Option<Problem> {
    match around.connections.get(name) {
        None => {
            let message = format!("there is no connection `{name}`");
            let near = near(name, around.connections.keys().map(String::as_str));
            Some(Problem::new(Rule::UnknownConnection, path.clone(), message).suggest(near))
        }
        Some(found) if !fits(&found.spec) => {
            let message = format!("`{name}` is of another kind: {takes}");
            Some(Problem::new(Rule::UnfitConnection, path.clone(), message))
        }
        Some(_) => None,
    }
}

fn input_problems(launch: &PlannedLaunch, inputs: &[PlannedInput], path: &FieldPath) -> Vec<Problem> {
    // What only a trigger gives is no problem of the plan: each is looked at with the inputs that it has.
    let mut problems: Vec<Problem> = bind_planned(&launch.workflow, inputs, &launch.inputs).err().unwrap_or_default();
    problems.retain(|problem| problem.rule != Rule::MissingInput);
    for (index, trigger) in launch.triggers.iter().enumerate() {
        let path = path.field("triggers").index(index).field("inputs");
        for (name, value) in &trigger.inputs {
            problems.extend(trigger_input_problems(&launch.workflow, inputs, name, value, &path.field(name)));
        }
        problems.extend(missing(launch, trigger, inputs, &path));
    }
    problems
}

fn trigger_input_problems(
    workflow: &str,
    inputs: &[PlannedInput],
    name: &str,
    value: &TriggerValue,
    path: &FieldPath,
) -> Vec<Problem> {
    let Some(input) = inputs.iter().find(|input| input.name == name) else {
        let known = || inputs.iter().map(|input| input.name.as_str());
        let message = format!("workflow `{workflow}` has no input `{name}`; it has {}", listing(known()));
        return vec![Problem::new(Rule::UnknownInput, path.clone(), message).suggest(near(name, known()))];
    };
    let wrong = |message: &str| vec![Problem::new(Rule::InvalidValue, path.clone(), message)];
    match (&input.kind, gives_table(value), literal(value)) {
        // Only what it comes to when something happens tells more.
        (InputKind::Table { .. }, Some(false), _) => wrong(
            "the input is a table, and this is a value: `$(trigger.object)`, `$(trigger.artifacts.<dataset>)` or a table source",
        ),
        (InputKind::Scalar(data_type), Some(true), _) => {
            wrong(&format!("the input is a {}, and this is a table: read a field of it, such as `.uri`", data_type.0))
        }
        (_, _, Some(literal)) => {
            let given = BTreeMap::from([(name.to_owned(), api::Binding(literal))]);
            let found = bind_planned(workflow, std::slice::from_ref(input), &given).err().unwrap_or_default();
            let placed = |problem: Problem| Problem { path: path.clone(), ..problem };
            found.into_iter().map(placed).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether the value is a table; `None` where that is seen only when it is evaluated, or by its literal.
fn gives_table(value: &TriggerValue) -> Option<bool> {
    let TriggerValue::Text(template) = value else { return None };
    let sole = template.sole_expression();
    let path = sole.and_then(|sole| sole.as_reference()).map(|reference| reference.path.iter().map(String::as_str));
    let path: Vec<&str> = path.into_iter().flatten().collect();
    Some(matches!(path.as_slice(), ["artifacts", _] | ["object"]))
}

/// The value, where nothing of it is an expression.
fn literal(value: &TriggerValue) -> Option<Json> {
    match value {
        TriggerValue::Literal(literal) => Some(literal.clone()),
        TriggerValue::Text(_) => None,
        TriggerValue::List(values) => values.iter().map(literal).collect::<Option<Vec<_>>>().map(Json::Array),
        TriggerValue::Fields(fields) => {
            let fields = fields.iter().map(|(name, value)| Some((name.clone(), literal(value)?)));
            fields.collect::<Option<serde_json::Map<_, _>>>().map(Json::Object)
        }
    }
}

/// Inputs that a run of the trigger would lack.
fn missing(
    launch: &PlannedLaunch,
    trigger: &PlannedTrigger,
    inputs: &[PlannedInput],
    path: &FieldPath,
) -> Option<Problem> {
    let lacks = |input: &&PlannedInput| {
        input.default.is_none()
            && !input.optional
            && !launch.inputs.contains_key(&input.name)
            && !trigger.inputs.contains_key(&input.name)
    };
    let names: Vec<&str> = inputs.iter().filter(lacks).map(|input| input.name.as_str()).collect();
    let message = || format!("workflow `{}` needs a value for {}", launch.workflow, listing(names.iter().copied()));
    (!names.is_empty()).then(|| Problem::new(Rule::MissingInput, path.clone(), message()))
}

/// Whether versions of these datasets start the plan. Conditions and further datasets may break a circle, so these count
/// as no link: the limit of depth stops what cannot be seen.
pub fn is_started_by(launch: &PlannedLaunch, published: &BTreeSet<String>) -> bool {
    launch.triggers.iter().any(|trigger| match &trigger.on {
        TriggerOn::Artifacts { datasets, .. } => {
            datasets.iter().all(|dataset| dataset.condition.is_none() && published.contains(&dataset.name))
        }
        _ => false,
    })
}

/// A circle of plans of which each publishes what starts the next, beginning with `first`. `next` gives the plans that the
/// datasets of a Workflow start, each by its name and that of its Workflow.
pub fn trigger_cycle(first: &PlannedLaunch, next: impl Fn(&str) -> Vec<(String, String)>) -> Option<Vec<String>> {
    let mut paths = vec![(vec![first.name.clone()], first.workflow.clone())];
    let mut seen = BTreeSet::new();
    while let Some((path, workflow)) = paths.pop() {
        for (plan, workflow) in next(&workflow) {
            let mut path = path.clone();
            path.push(plan.clone());
            if plan == first.name {
                return Some(path);
            }
            if seen.insert(plan) {
                paths.push((path, workflow));
            }
        }
    }
    None
}
