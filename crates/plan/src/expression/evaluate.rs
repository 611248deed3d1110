use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::objects::{Key, Map};
use cel::{Context, ExecutionError, IdedExpr, Value};
use serde_json::Value as Json;

use super::parse::ENVIRONMENT;
use super::{Reference, Scope, ScopeName};

/// Values, and units of 64 bytes of text, that one expression may see: more belongs into SQL.
const SCOPE_UNITS_MAX: usize = 20_000;
/// Units that one evaluation may read in all. A comprehension reads its scope again at each step, and may copy what it
/// reads; this many take a tenth of a second and 128 MB, and nothing else stops it.
const READ_UNITS_MAX: usize = 2_000_000;
/// Values of a result.
const RESULT_VALUES_MAX: usize = 20_000;

pub(super) fn evaluate(tree: &IdedExpr, references: &[Reference], scope: &Scope) -> Result<Json, String> {
    let variables = Variables::new(references, scope)?;
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.set_variable_resolver(&variables);
    let value = catch_unwind(AssertUnwindSafe(|| Value::resolve(tree, &context)))
        .map_err(|_| "CEL cannot evaluate the expression".to_owned())?;
    if variables.read_units.load(Ordering::Relaxed) > READ_UNITS_MAX {
        return Err("it takes too long; compute the value in a task".to_owned());
    }
    let mut budget = RESULT_VALUES_MAX;
    to_json(&value.map_err(|error| explain(&error))?, &mut budget)
}

/// What stands behind a path.
pub(super) fn look_up(reference: &Reference, scope: &Scope) -> Result<Json, String> {
    let mut value = part(scope, reference.scope);
    for name in &reference.path {
        value = value.get(name).ok_or_else(|| format!("there is no `{name}`"))?;
    }
    Ok(value.clone())
}

fn part(scope: &Scope, name: ScopeName) -> &Json {
    match name {
        ScopeName::Inputs => &scope.inputs,
        ScopeName::Tasks => &scope.tasks,
        ScopeName::Execution => &scope.execution,
        ScopeName::Trigger => &scope.trigger,
        ScopeName::Artifact => &scope.artifact,
    }
}

/// The scopes as far as an expression reads them, and how much it has read.
struct Variables {
    values: Vec<(&'static str, Box<dyn Val>, usize)>,
    read_units: AtomicUsize,
}

impl Variables {
    fn new(references: &[Reference], scope: &Scope) -> Result<Self, String> {
        let mut values = Vec::new();
        let mut units_left = SCOPE_UNITS_MAX;
        for name in ScopeName::ALL {
            let source = part(scope, name);
            let before = units_left;
            let mut map = HashMap::new();
            let used =
                references.iter().filter(|reference| reference.scope == name).filter_map(|used| used.path.first());
            for key in used {
                if let Some(value) = source.get(key) {
                    map.insert(Key::String(Arc::new(key.clone())), to_cel(value, &mut units_left)?);
                }
            }
            let map: Box<dyn Val> = Value::Map(Map { map: Arc::new(map) })
                .try_into()
                .map_err(|_| "CEL cannot hold the values".to_owned())?;
            values.push((name.as_str(), map, 1 + before - units_left));
        }
        Ok(Self { values, read_units: AtomicUsize::new(0) })
    }
}

impl VariableResolver for Variables {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let (_, value, units) = self.values.iter().find(|(name, ..)| *name == variable)?;
        let before = self.read_units.fetch_add(*units, Ordering::Relaxed);
        (before <= READ_UNITS_MAX).then(|| CowVal::Borrowed(value.as_ref()))
    }
}

fn spend(left: &mut usize, units: usize, message: &str) -> Result<(), String> {
    *left = left.checked_sub(units).ok_or_else(|| message.to_owned())?;
    Ok(())
}

fn to_cel(value: &Json, units_left: &mut usize) -> Result<Value, String> {
    const TOO_MUCH: &str = "it reads too much data; compute the value in a task";
    spend(units_left, 1, TOO_MUCH)?;
    Ok(match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), ..) => Value::Int(value),
            (_, Some(value), _) => Value::UInt(value),
            (_, _, value) => Value::Float(value.unwrap_or(f64::NAN)),
        },
        Json::String(text) => {
            spend(units_left, text.len() / 64, TOO_MUCH)?;
            Value::String(Arc::new(text.clone()))
        }
        Json::Array(values) => {
            let values: Result<Vec<Value>, String> = values.iter().map(|value| to_cel(value, units_left)).collect();
            Value::List(Arc::new(values?))
        }
        Json::Object(fields) => {
            let mut map = HashMap::with_capacity(fields.len());
            for (key, value) in fields {
                spend(units_left, key.len() / 64, TOO_MUCH)?;
                map.insert(Key::String(Arc::new(key.clone())), to_cel(value, units_left)?);
            }
            Value::Map(Map { map: Arc::new(map) })
        }
    })
}

fn to_json(value: &Value, values_left: &mut usize) -> Result<Json, String> {
    spend(values_left, 1, "its value is too large; compute it in a task")?;
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::UInt(value) => Json::from(*value),
        Value::Float(value) => serde_json::Number::from_f64(*value)
            .map(Json::Number)
            .ok_or_else(|| "its value is no finite number".to_owned())?,
        Value::String(text) => Json::String(text.to_string()),
        Value::Bytes(bytes) => Json::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        Value::List(values) => {
            Json::Array(values.iter().map(|value| to_json(value, values_left)).collect::<Result<_, _>>()?)
        }
        Value::Map(map) => {
            // A map of CEL has no order; names in order make the result the same each time.
            let mut fields: Vec<(String, &Value)> =
                map.map.iter().map(|(key, value)| (key.to_string(), value)).collect();
            fields.sort_by(|left, right| left.0.cmp(&right.0));
            let mut object = serde_json::Map::new();
            for (key, value) in fields {
                object.insert(key, to_json(value, values_left)?);
            }
            Json::Object(object)
        }
        _ => return Err("its value has a type that JSON does not have".to_owned()),
    })
}

/// What went wrong, without the values that CEL's own text holds.
fn explain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no `{key}`"),
        ExecutionError::NoSuchOverload(overload) => {
            let types = overload.argument_types().join(" and ");
            format!("{} does not take {types}", operation(overload.function()))
        }
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            format!("{} does not take {} and {}", operation(operator), left.type_of(), right.type_of())
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("{} and {} cannot be compared", left.type_of(), right.type_of())
        }
        ExecutionError::UnexpectedType { got, want } => format!("{want} is needed, not {got}"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".to_owned(),
        ExecutionError::Overflow(operator, ..) => format!("{} overflows", operation(operator)),
        ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds".to_owned(),
        ExecutionError::FunctionError { function, .. } => format!("{function}() does not take this value"),
        ExecutionError::UndeclaredReference(name) => format!("there is no `{name}`"),
        ExecutionError::InvalidArgumentCount { expected, actual } => {
            format!("a function takes {expected} values, not {actual}")
        }
        ExecutionError::UnsupportedTargetType { target } => format!("a function does not take {}", target.type_of()),
        ExecutionError::NotSupportedAsMethod { method, target } => {
            format!("{method}() does not take {}", target.type_of())
        }
        _ => "CEL cannot evaluate it on these values".to_owned(),
    }
}

/// `_+_` is `+` to a reader.
fn operation(function: &str) -> String {
    let symbol = function.trim_matches(|char| char == '_' || char == '@');
    match function {
        "add" => "`+`".to_owned(),
        "sub" => "`-`".to_owned(),
        "mul" => "`*`".to_owned(),
        "div" => "`/`".to_owned(),
        "rem" => "`%`".to_owned(),
        "_[_]" => "an index".to_owned(),
        "_?_:_" => "a condition".to_owned(),
        _ if symbol.starts_with(|char: char| char.is_ascii_alphabetic()) && symbol != "in" => format!("{symbol}()"),
        _ => format!("`{symbol}`"),
    }
}
