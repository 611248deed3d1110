//! What a run is given by the plan and by what started it.

use std::collections::BTreeMap;

use pintail_api as api;
use serde_json::{Map, Value as Json, json};

use super::{PlannedLaunch, PlannedTrigger, TriggerOn, TriggerValue};
use crate::expression::{EvaluateError, Expression, Scope};

/// The inputs of the run that a trigger starts, or a person (`None`), who may give further ones: those of the plan, and
/// those of the trigger in their place.
///
/// # Errors
/// Where an expression fails on what happened.
pub fn inputs_of(
    launch: &PlannedLaunch,
    trigger: Option<&PlannedTrigger>,
    scope: &Scope,
) -> Result<BTreeMap<String, api::Binding>, EvaluateError> {
    let mut inputs = launch.inputs.clone();
    let Some(trigger) = trigger else { return Ok(inputs) };
    for (name, value) in &trigger.inputs {
        inputs.insert(name.clone(), api::Binding(evaluate(value, &trigger.on, scope)?));
    }
    Ok(inputs)
}

fn evaluate(value: &TriggerValue, on: &TriggerOn, scope: &Scope) -> Result<Json, EvaluateError> {
    Ok(match value {
        TriggerValue::Literal(literal) => literal.clone(),
        TriggerValue::Text(template) => match template.sole_expression().and_then(|sole| table(sole, on, scope)) {
            Some(source) => source,
            None => template.evaluate(scope)?,
        },
        TriggerValue::List(values) => {
            Json::Array(values.iter().map(|value| evaluate(value, on, scope)).collect::<Result<_, _>>()?)
        }
        TriggerValue::Fields(fields) => {
            let mut object = Map::new();
            for (name, value) in fields {
                object.insert(name.clone(), evaluate(value, on, scope)?);
            }
            Json::Object(object)
        }
    })
}

/// The table source that `$(trigger.artifacts.x)` and `$(trigger.object)` stand for.
fn table(expression: &Expression, on: &TriggerOn, scope: &Scope) -> Option<Json> {
    let path: Vec<&str> = expression.as_reference()?.path.iter().map(String::as_str).collect();
    match (on, path.as_slice()) {
        (TriggerOn::Artifacts { .. }, ["artifacts", dataset]) => {
            let version = scope.trigger.get("artifacts")?.get(dataset)?.get("name")?;
            Some(json!({ "artifact": dataset, "version": version }))
        }
        (TriggerOn::Object { connection, .. }, ["object"]) => {
            let path = scope.trigger.get("object")?.get("path")?.as_str()?;
            Some(json!({ "connection": connection, "path": literal_pattern(path) }))
        }
        _ => None,
    }
}

/// The pattern that matches this path only; and a text in which nothing is an expression.
fn literal_pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for letter in path.chars() {
        match letter {
            '*' | '?' | '[' | ']' | '{' | '}' => pattern.extend(['[', letter, ']']),
            letter => pattern.push(letter),
        }
    }
    pattern.replace("$(", "$$(")
}
