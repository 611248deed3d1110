//! Binding a plan's inputs to what a run gives.

use std::collections::BTreeMap;

use pintail_api as api;
use serde_json::{Value as Json, json};

use crate::Rule;
use crate::compile::{check_table_source, scalar_problem};
use crate::data_type::Type;
use crate::model::{InputKind, InputValue, Plan, PlannedInput};
use crate::problem::{FieldPath, Problem, listing, nearest};

/// Binds every input of the plan, in its order: to what is given, else to its default, else to null where it is
/// optional. Paths of problems are those of an Execution, `spec.inputs.<name>`.
///
/// # Errors
/// Every input that is missing, unknown, or does not fit its type.
pub fn bind_inputs(
    plan: &Plan,
    given: &BTreeMap<String, api::Binding>,
) -> Result<Vec<(String, InputValue)>, Vec<Problem>> {
    bind_planned(&plan.workflow, &plan.inputs, given)
}

/// As [`bind_inputs`], for the inputs of [`crate::compile_inputs`].
///
/// # Errors
/// As [`bind_inputs`].
pub fn bind_planned(
    workflow: &str,
    inputs: &[PlannedInput],
    given: &BTreeMap<String, api::Binding>,
) -> Result<Vec<(String, InputValue)>, Vec<Problem>> {
    let path = FieldPath::root().field("spec").field("inputs");
    let known = || inputs.iter().map(|input| input.name.as_str());
    let mut problems = Vec::new();
    for name in given.keys().filter(|name| !known().any(|known| known == name.as_str())) {
        let message = format!("workflow `{workflow}` has no input `{name}`; it has {}", listing(known()));
        let near = nearest(name, known()).map(|near| format!("`{near}`"));
        problems.push(Problem::new(Rule::UnknownInput, path.field(name), message).suggest(near));
    }
    let mut bound = Vec::with_capacity(inputs.len());
    let mut missing = Vec::new();
    for input in inputs {
        match bind(input, given.get(&input.name), &path.field(&input.name)) {
            Ok(Some(value)) => bound.push((input.name.clone(), value)),
            Ok(None) => missing.push(input.name.as_str()),
            Err(found) => problems.extend(found),
        }
    }
    if !missing.is_empty() {
        let message = format!("workflow `{workflow}` needs a value for {}", listing(missing.iter().copied()));
        let example = missing.first().map(|name| format!("`--input {name}=…`"));
        problems.push(Problem::new(Rule::MissingInput, path, message).suggest(example));
    }
    if problems.is_empty() { Ok(bound) } else { Err(problems) }
}

/// None where the input needs a value and has none.
pub(crate) fn bind(
    input: &PlannedInput,
    given: Option<&api::Binding>,
    path: &FieldPath,
) -> Result<Option<InputValue>, Vec<Problem>> {
    let Some(given) = given else {
        let null = input.optional.then_some(InputValue::Scalar(Json::Null));
        return Ok(input.default.clone().or(null));
    };
    match &input.kind {
        InputKind::Table { contract } => {
            check_table_source(given, contract.as_ref(), path).map(|source| Some(InputValue::Table(source)))
        }
        InputKind::Scalar(data_type) => {
            let problem = match Type::parse(&data_type.0) {
                Ok(_) if given.0.is_null() && !input.optional => {
                    let message = format!("input `{}` cannot be null: it is not `optional`", input.name);
                    Some(Problem::new(Rule::InvalidValue, path.clone(), message))
                }
                Ok(data_type) => scalar_problem(&data_type, &given.0, path),
                // A plan holds types that were read before.
                Err(error) => Some(Problem::new(Rule::InvalidType, path.clone(), error.message)),
            };
            problem.map_or_else(|| Ok(Some(InputValue::Scalar(given.0.clone()))), |problem| Err(vec![problem]))
        }
    }
}

/// Reads the text of `--input name=text` by the input's type: numbers and booleans as such, lists, structs, maps and
/// JSON as JSON, `null` as null for every type but text; a table as JSON (`{…}` a source, `[…]` rows), else as the
/// path or URL of a file. Whether the value fits is checked by [`bind_inputs`].
///
/// # Errors
/// Text that looks like JSON and is none, or no number where a number is needed; the problem's path is the root.
pub fn parse_input_text(kind: &InputKind, text: &str) -> Result<api::Binding, Problem> {
    let wrong = |message: String| Problem::new(Rule::InvalidValue, FieldPath::root(), message);
    let json = |what: &str| {
        serde_json::from_str::<Json>(text)
            .map_err(|error| wrong(format!("`{}` is no {what}: {error}", crate::problem::excerpt(text))))
    };
    let trimmed = text.trim_start();
    let data_type = match kind {
        InputKind::Table { .. } if trimmed.starts_with('{') => return json("table source in JSON").map(api::Binding),
        InputKind::Table { .. } if trimmed.starts_with('[') => {
            return json("list of rows in JSON").map(|rows| api::Binding(json!({ "rows": rows })));
        }
        InputKind::Table { .. } => return Ok(api::Binding(json!({ "uri": text }))),
        InputKind::Scalar(data_type) => Type::parse(&data_type.0).map_err(|error| wrong(error.message))?,
    };
    let value = match &data_type {
        Type::Text | Type::Enum(_) => Json::String(text.to_owned()),
        _ if text == "null" => Json::Null,
        Type::Boolean | Type::Integer { .. } | Type::Float(_) => match serde_json::from_str::<Json>(text) {
            Ok(value @ (Json::Bool(_) | Json::Number(_))) => value,
            // Whether this is a number too large for JSON or no number is found when it is bound.
            _ => Json::String(text.to_owned()),
        },
        Type::List(..) | Type::Struct(_) | Type::Map(..) | Type::Union(_) => json(&format!("{data_type} in JSON"))?,
        // Text that is no JSON is meant as a text of JSON.
        Type::Json => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_owned())),
        Type::Decimal { .. } | Type::Date | Type::Time | Type::Timestamp(_) | Type::Opaque(_) => {
            Json::String(text.to_owned())
        }
    };
    Ok(api::Binding(value))
}
