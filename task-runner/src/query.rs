//! Queries and their results: a Parquet file by one COPY, or one row of values.

use std::path::Path;

use pintail_protocol::{Contract, NamedValue, ResultColumn};
use serde_json::Value;

use crate::contract;
use crate::delivered::{deliver, delivered, delivered_columns};
use crate::failure::TaskFailure;
use crate::relation::null_violation;
use crate::session::Session;
use crate::sql;

/// A Parquet file that a query was written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenTable {
    pub rows: u64,
    /// As a reader of the file sees them, see [`crate::delivered`].
    pub columns: Vec<ResultColumn>,
}

/// JSON numbers are exact up to here in every reader.
const EXACT_INTEGER: i128 = 1 << 53;

/// Runs the statements before the queries.
///
/// # Errors
/// `TwoStatements`, `NotAllowed`, or DuckDB's error by its class.
pub fn run_setup(session: &Session, statements: &[String]) -> Result<(), TaskFailure> {
    for (index, text) in statements.iter().enumerate() {
        let what = format!("setup statement {}", index + 1);
        let statement = sql::setup(text, &what)?;
        session.execute(statement, &[]).map_err(|failure| failure.on(&what))?;
    }
    Ok(())
}

/// Writes the rows of a query to a Parquet file, in the query's order.
///
/// # Errors
/// `TwoStatements`, `NotAQuery`, `ContractViolated`, or DuckDB's error by its class.
pub fn write_table(
    session: &Session,
    text: &str,
    what: &str,
    contract: Option<&Contract>,
    path: &Path,
) -> Result<WrittenTable, TaskFailure> {
    let query = sql::query(text, what)?;
    let on = |failure: TaskFailure| failure.on(what);
    session.check(query).map_err(on)?;
    let found = session.describe(query, &[]).map_err(on)?;
    let query = sql::copyable(query);
    let delivered = deliver(&query, &found);
    let contract = contract.map(|it| delivered_contract(session, it)).transpose().map_err(on)?;
    let body = delivered.as_deref().unwrap_or(&query);
    let projected =
        contract.as_ref().map(|it| by_contract(body, &delivered_columns(&found), it, what)).transpose()?.flatten();
    let is_wrapped = delivered.is_some() || projected.is_some();
    let body = projected.as_deref().unwrap_or(body);
    let file = sql::text(&path.to_string_lossy());
    let copy = format!("COPY (\n{body}\n) TO {file} (FORMAT parquet, COMPRESSION zstd)");
    let rows = session
        .execute(&copy, &[])
        .map_err(|failure| failure.in_wrapped_query(1, is_wrapped))
        .map_err(|failure| if delivered.is_some() { about_digits(failure) } else { failure })
        .map_err(on)?;
    let columns = session.describe(&format!("FROM read_parquet({file}, hive_partitioning = false)"), &[])?;
    if let Some(contract) = &contract {
        check_no_null(session, contract, &file, what)?;
    }
    Ok(WrittenTable { rows, columns })
}

/// The contract with its types as a file has them.
fn delivered_contract(session: &Session, contract: &Contract) -> Result<Contract, TaskFailure> {
    let mut contract = contract::canonical(session, contract)?;
    for column in &mut contract.columns {
        column.data_type = delivered(&column.data_type);
    }
    Ok(contract)
}

/// A HUGEINT can be longer than the longest DECIMAL.
fn about_digits(mut failure: TaskFailure) -> TaskFailure {
    if failure.reason == "ConversionError" && failure.message.contains("DECIMAL") {
        failure.message += ". Whole numbers of a result have at most 38 digits: cast the column in the query, to DOUBLE \
                            if it may be rounded or to VARCHAR if not";
    }
    failure
}

/// The query with its columns as the contract has them; `None` where they are so already.
fn by_contract(
    query: &str,
    found: &[ResultColumn],
    contract: &Contract,
    what: &str,
) -> Result<Option<String>, TaskFailure> {
    let projection = contract::project(contract, found, &format!("the result of {what}"))?;
    if projection.changes_nothing(found) {
        return Ok(None);
    }
    Ok(Some(format!("SELECT {} FROM (\n{query}\n)", projection.select_list())))
}

fn check_no_null(session: &Session, contract: &Contract, file: &str, what: &str) -> Result<(), TaskFailure> {
    for column in contract.columns.iter().filter(|column| !column.nullable) {
        let count = format!(
            "SELECT count(*) - count({}) FROM read_parquet({file}, hive_partitioning = false)",
            sql::identifier(&column.name)
        );
        let nulls: i64 = session
            .connection()
            .query_row(&count, [], |row| row.get(0))
            .map_err(|error| TaskFailure::from_duckdb(&error, "read the result back"))?;
        if nulls > 0 {
            return Err(null_violation(&column.name, &format!("the result of {what}"), nulls));
        }
    }
    Ok(())
}

/// Runs a query that must give exactly one row.
///
/// # Errors
/// `NotOneRow`, `TwoStatements`, `NotAQuery`, or DuckDB's error by its class.
pub fn read_values(session: &Session, text: &str, what: &str) -> Result<Vec<NamedValue>, TaskFailure> {
    let query = sql::query(text, what)?;
    let on = |failure: TaskFailure| failure.on(what);
    session.check(query).map_err(on)?;
    let columns = session.describe(query, &[]).map_err(on)?;
    let shown: Vec<_> = columns.iter().map(shown_as_text).collect();
    let select = format!("SELECT {} FROM (\n{query}\n)", shown.join(", "));
    let table = session.text_rows(&select, &[], 2).map_err(|failure| failure.without_position().on(what))?;
    let [row] = table.rows.as_slice() else {
        let found = if table.rows.is_empty() { "no row" } else { "more than one row" };
        return Err(TaskFailure::permanent(
            "NotOneRow",
            format!("{what} gives {found}, but `kind: Values` takes exactly one"),
        ));
    };
    let value = |(column, text): (ResultColumn, &Option<String>)| NamedValue {
        value: text.as_deref().map_or(Value::Null, |text| encode(&column.data_type, text)),
        name: column.name,
        data_type: column.data_type,
    };
    Ok(columns.into_iter().zip(row).map(value).collect())
}

fn is_nested(data_type: &str) -> bool {
    data_type.ends_with(']') || ["STRUCT(", "MAP(", "UNION("].iter().any(|start| data_type.starts_with(start))
}

fn shown_as_text(column: &ResultColumn) -> String {
    let name = sql::identifier(&column.name);
    match column.data_type.as_str() {
        "BLOB" => format!("lower(hex({name})) AS {name}"),
        nested if is_nested(nested) => format!("to_json({name}) AS {name}"),
        _ => name,
    }
}

/// A value in the JSON of parameters: text where JSON has no such type.
fn encode(data_type: &str, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    match data_type {
        "BOOLEAN" => Value::Bool(text == "true"),
        "TINYINT" | "SMALLINT" | "INTEGER" | "BIGINT" | "HUGEINT" | "UTINYINT" | "USMALLINT" | "UINTEGER"
        | "UBIGINT" | "UHUGEINT" => match text.parse::<i128>() {
            Ok(number) if number.abs() <= EXACT_INTEGER => {
                i64::try_from(number).map_or_else(|_| as_text(), Value::from)
            }
            _ => as_text(),
        },
        "FLOAT" | "DOUBLE" => {
            text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map_or_else(as_text, Value::Number)
        }
        other if other == "JSON" || is_nested(other) => serde_json::from_str(text).unwrap_or_else(|_| as_text()),
        _ => as_text(),
    }
}
