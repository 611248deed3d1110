//! One statement with its typed parameters.

use pintail_protocol::ResultColumn;
use serde_json::{Value, json};

use super::bench::Bench;
use super::fault::Fault;
use crate::parameter;
use crate::sql::{self, TokenKind, Tokens};

/// A scalar of the task; without a type where the run's value tells it.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub name: String,
    pub data_type: Option<String>,
    pub example: Option<Value>,
}

/// Each `$name` of a statement and its place; an empty name for `?` and `$1`.
pub(super) fn parameters(text: &str) -> Vec<(String, usize)> {
    let tokens: Vec<_> = Tokens::new(text).collect();
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match &text[token.start..token.end] {
            "$" => {
                let word = tokens.get(index + 1).filter(|next| next.kind == TokenKind::Word);
                let name = word.map_or("", |word| &text[word.start..word.end]);
                let name = if name.starts_with(|char: char| char.is_ascii_digit()) { "" } else { name };
                found.push((name.to_owned(), token.start));
            }
            "?" => found.push((String::new(), token.start)),
            _ => {}
        }
    }
    found
}

/// The columns of a query; `None` where they hang on values that only a run has.
///
/// # Errors
/// What is wrong with its text.
pub(super) fn columns(bench: &Bench, query: &str, scalars: &[Scalar]) -> Result<Option<Vec<ResultColumn>>, Fault> {
    // Only what is whole by itself stands in brackets of ours as it would alone.
    if !is_balanced(query) {
        bench.prepare(query)?;
    }
    // Alone it shows its faults as it was written.
    bound(bench, query, scalars).map_err(|fault| bench.prepare(query).err().unwrap_or(fault))
}

fn is_balanced(query: &str) -> bool {
    let mut depth = 0_i64;
    let mut closes_early = false;
    for token in Tokens::new(query) {
        match &query[token.start..token.end] {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        closes_early |= depth < 0;
    }
    depth == 0 && !closes_early
}

/// As [`columns`], for a text that DuckDB can parse.
pub(super) fn bound(bench: &Bench, query: &str, scalars: &[Scalar]) -> Result<Option<Vec<ResultColumn>>, Fault> {
    let named = parameters(query);
    let used: Vec<&Scalar> =
        scalars.iter().filter(|scalar| named.iter().any(|(name, _)| name.eq_ignore_ascii_case(&scalar.name))).collect();
    if used.is_empty() {
        return match bench.describe(query, "") {
            Ok(columns) => Ok(Some(columns)),
            Err(fault) if fault.is_about_text() => Err(fault),
            Err(_) => Ok(None),
        };
    }
    let mut faults = Vec::new();
    let mut shapes: Vec<Vec<ResultColumn>> = Vec::new();
    let is_typed = used.iter().all(|scalar| scalar.data_type.is_some());
    for try_number in 0..TRIES {
        match bench.describe(query, &arguments(&used, try_number)) {
            Ok(columns) if is_typed => return Ok(Some(columns)),
            Ok(columns) => shapes.push(columns),
            Err(fault) => faults.push(fault),
        }
    }
    shapes.dedup();
    match (shapes.pop(), faults.into_iter().next()) {
        // One shape whatever the type.
        (Some(columns), _) if shapes.is_empty() => Ok(Some(columns)),
        (None, Some(fault)) if fault.is_about_text() => Err(fault),
        _ => Ok(None),
    }
}

/// How many values a parameter is tried with.
pub(super) const TRIES: usize = 3;

/// The arguments of an EXECUTE: examples of the types first, then other values, since some functions take no NULL and
/// others not every text.
fn arguments(scalars: &[&Scalar], try_number: usize) -> String {
    let one = |scalar: &&Scalar| format!("{} := {}", sql::identifier(&scalar.name), literal(scalar, try_number));
    scalars.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn literal(scalar: &Scalar, try_number: usize) -> String {
    let (data_type, value) = given(scalar, try_number);
    parameter::literal(data_type, &value)
}

/// A value that a parameter may have, other than NULL.
pub(super) fn value(scalar: &Scalar, try_number: usize) -> Option<String> {
    let (data_type, value) = given(scalar, try_number);
    (!value.is_null()).then(|| format!("({})", parameter::literal(data_type, &value)))
}

fn given(scalar: &Scalar, try_number: usize) -> (&str, Value) {
    match (&scalar.data_type, try_number) {
        (Some(data_type), 0) => (data_type.as_str(), scalar.example.clone().unwrap_or(Value::Null)),
        (Some(data_type), 1) => (data_type.as_str(), sample(data_type)),
        (Some(data_type), _) => (data_type.as_str(), Value::Null),
        (None, 0) => ("\"NULL\"", Value::Null),
        (None, 1) => ("BIGINT", json!(1)),
        (None, _) => ("VARCHAR", json!("1")),
    }
}

/// A value of a type.
fn sample(data_type: &str) -> Value {
    match data_type {
        "VARCHAR" => json!("a"),
        "BOOLEAN" => json!(true),
        "TIME" => json!("00:00:00"),
        "FLOAT" | "DOUBLE" => json!(0.5),
        "INTERVAL" => json!("1 day"),
        time if time == "DATE" || time.starts_with("TIMESTAMP") => json!("2000-01-01"),
        number if super::names::is_number(number) => json!(1),
        _ => Value::Null,
    }
}
