//! Tables from outside: `{ connection, path }`, `{ artifact }`, `{ uri }`, `{ rows }`.

use pintail_api as api;
use serde_json::Value as Json;

use super::names;
use crate::Rule;
use crate::data_type::Type;
use crate::manifest::read_table_source;
use crate::model::Contract;
use crate::problem::{FieldPath, Problem, listing};

/// Rows stand in the manifest and travel with every task's order.
const ROWS_MAX: usize = 1000;

/// Reads and checks a table source as far as it stands alone.
pub(crate) fn check_table_source(
    binding: &api::Binding,
    contract: Option<&Contract>,
    path: &FieldPath,
) -> Result<api::TableSource, Vec<Problem>> {
    let Json::Object(fields) = &binding.0 else {
        let message = "a table is bound to one of `{ connection: …, path: … }`, `{ artifact: … }`, `{ uri: … }` and `{ rows: … }`";
        let meant = binding.0.as_str().map(|text| format!("`{{ uri: {text:?} }}`"));
        return Err(vec![Problem::new(Rule::TableSource, path.clone(), message).suggest(meant)]);
    };
    let source = read_table_source(&binding.0, path)?;
    let mut problems = Vec::new();
    let mut report = |rule, path: FieldPath, message: String| problems.push(Problem::new(rule, path, message));
    let given: Vec<&str> =
        ["connection", "artifact", "uri", "rows"].into_iter().filter(|name| fields.contains_key(*name)).collect();
    match given.as_slice() {
        [] => report(
            Rule::TableSource,
            path.clone(),
            "the source is missing: give exactly one of `connection` with `path`, `artifact`, `uri` and `rows`"
                .to_owned(),
        ),
        [_] => {}
        several => report(
            Rule::TableSource,
            path.clone(),
            format!("a table has one source, and here are {}", listing(several.iter().copied())),
        ),
    }
    for (field, needs) in [
        ("path", &["connection"][..]),
        ("partition", &["artifact"]),
        ("version", &["artifact"]),
        ("format", &["connection", "uri"]),
        ("options", &["connection", "uri"]),
    ] {
        if fields.contains_key(field) && !needs.iter().any(|need| fields.contains_key(*need)) && !given.is_empty() {
            let message = format!("`{field}` goes with {}", listing(needs.iter().copied()));
            report(Rule::TableSource, path.field(field), message);
        }
    }
    if source.connection.is_some() && source.path.is_none() {
        report(Rule::TableSource, path.clone(), "`path` is missing: which files of the connection?".to_owned());
    }
    if source.options.is_some() && source.format.is_some_and(|format| format != api::TableFormat::Csv) {
        report(Rule::TableSource, path.field("options"), "`options` are those of CSV files".to_owned());
    }
    if source.uri.as_deref().is_some_and(super::connections::holds_credential) {
        let message = "the address holds a user or password; use a connection of kind `http`, with a Secret".to_owned();
        report(Rule::InvalidUrl, path.field("uri"), message);
    }
    if let Some(artifact) = &source.artifact {
        problems.extend(names::check(artifact, "dataset", &path.field("artifact")));
    }
    if let Some(rows) = &source.rows {
        problems.extend(check_rows(rows, contract, &path.field("rows")));
    }
    if problems.is_empty() { Ok(source) } else { Err(problems) }
}

/// Rows that stand in a manifest, against their contract.
pub(crate) fn check_rows(rows: &[api::Row], contract: Option<&Contract>, path: &FieldPath) -> Vec<Problem> {
    if rows.len() > ROWS_MAX {
        let message =
            format!("{} rows are too many to stand here, at most {ROWS_MAX}; put them into a file", rows.len());
        return vec![Problem::new(Rule::OutOfRange, path.clone(), message)];
    }
    let Some(contract) = contract else {
        let message = "rows need the types of their columns: give the input `columns`";
        return vec![Problem::new(Rule::InvalidContract, path.clone(), message)];
    };
    let types: Vec<(&api::Column, Option<Type>)> =
        contract.columns.iter().map(|column| (column, Type::parse(&column.data_type).ok())).collect();
    let mut problems = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let path = path.index(index);
        for (name, value) in row {
            let Some((column, data_type)) = types.iter().find(|(column, _)| column.name.eq_ignore_ascii_case(name))
            else {
                let near = crate::problem::nearest(name, contract.columns.iter().map(|column| column.name.as_str()));
                let message = format!("the contract has no column `{name}`");
                problems.push(
                    Problem::new(Rule::InvalidContract, path.field(name), message).suggest(near.map(super::quoted)),
                );
                continue;
            };
            if value.0.is_null() && column.nullable == Some(false) {
                let message = format!("column `{}` is not nullable", column.name);
                problems.push(Problem::new(Rule::InvalidValue, path.field(name), message));
            }
            if let Some(Err(message)) = data_type.as_ref().map(|data_type| data_type.check(&value.0)) {
                problems.push(Problem::new(Rule::InvalidValue, path.field(name), message));
            }
        }
        for (column, _) in types.iter().filter(|(column, _)| column.nullable == Some(false)) {
            if !row.keys().any(|name| column.name.eq_ignore_ascii_case(name)) {
                let message = format!("column `{}` is not nullable and has no value in this row", column.name);
                problems.push(Problem::new(Rule::InvalidValue, path.clone(), message));
            }
        }
    }
    problems
}
