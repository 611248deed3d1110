//! Tables of tests: databases are filled with what is given, and results are read as text to be compared.

use std::path::{Path, PathBuf};

use pintail_protocol::{Resources, ResultColumn, WorkOrder};
use serde_json::Value;

use crate::failure::TaskFailure;
use crate::session::{Session, TextTable};
use crate::workspace::{Environment, Workspace};
use crate::{inputs, parameter, sql};

/// Where a relation of an order goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenTable {
    pub relation: String,
    /// One of the order's, a database that it writes.
    pub connection: String,
    pub schema: Option<String>,
    pub table: String,
}

/// Makes tables of the order's databases from its relations. A database that is not there is made, also without tables.
///
/// # Errors
/// A file that is not there or breaks its contract, a value that does not fit its column.
pub fn fill(order: &WorkOrder, tables: &[GivenTable], environment: &Environment) -> Result<(), TaskFailure> {
    let scratch = scratch()?;
    let mut workspace = Workspace::new(scratch.path());
    workspace.found = inputs::find(order, environment)?;
    let session = Session::open(order, workspace, environment)?;
    for GivenTable { relation, connection, schema, table } in tables {
        let database = sql::identifier(connection);
        let mut path = database.clone();
        if let Some(schema) = schema {
            path = format!("{database}.{}", sql::identifier(schema));
            session.batch(&format!("CREATE SCHEMA IF NOT EXISTS {path}"), "make the schema")?;
        }
        let statement = format!("CREATE TABLE {path}.{} AS FROM {}", sql::identifier(table), sql::identifier(relation));
        session.batch(&statement, "fill it").map_err(|failure| failure.on(&format!("table `{relation}`")))?;
    }
    Ok(())
}

/// Reads tables and values as text, in one DuckDB for all of them.
pub struct TableReader {
    session: Session,
    _scratch: tempfile::TempDir,
}

impl TableReader {
    /// # Errors
    /// DuckDB cannot start.
    pub fn new() -> Result<Self, TaskFailure> {
        let scratch = scratch()?;
        let session = Session::start(&Resources::default(), Workspace::new(scratch.path()))?;
        Ok(Self { session, _scratch: scratch })
    }

    /// The first `limit` rows of Parquet files.
    ///
    /// # Errors
    /// DuckDB's error by its class.
    pub fn files(&self, files: &[PathBuf], limit: usize) -> Result<TextTable, TaskFailure> {
        let files: Vec<_> =
            files.iter().map(|path| crate::relation::glob_literal(&path.to_string_lossy()).into_owned()).collect();
        let files = sql::text_list(files.iter().map(String::as_str));
        self.session.text_rows(
            &format!("FROM read_parquet({files}, union_by_name = true, hive_partitioning = false)"),
            &[],
            limit,
        )
    }

    /// The first `limit` rows of a table in a DuckDB file that nobody has open.
    ///
    /// # Errors
    /// DuckDB's error by its class.
    pub fn database_table(
        &self,
        file: &Path,
        schema: Option<&str>,
        table: &str,
        limit: usize,
    ) -> Result<TextTable, TaskFailure> {
        let attach = format!("ATTACH {} AS given (READ_ONLY)", sql::text(&file.to_string_lossy()));
        self.session.batch(&attach, "open the database")?;
        let path = format!("given.{}.{}", sql::identifier(schema.unwrap_or("main")), sql::identifier(table));
        let rows = self.session.text_rows(&format!("FROM {path}"), &[], limit);
        self.session.batch("DETACH given", "close the database")?;
        rows
    }

    /// Values as DuckDB writes them in the types of their columns; `Err` where a value does not fit its type.
    #[must_use]
    pub fn values(&self, columns: &[ResultColumn], rows: &[Vec<&Value>]) -> Vec<Vec<Result<Option<String>, ()>>> {
        if let Some(texts) = self.cast(columns, rows) {
            return texts.into_iter().map(|row| row.into_iter().map(Ok).collect()).collect();
        }
        // One does not fit: each is tried by itself.
        let one = |(column, value): (&ResultColumn, &&Value)| {
            let texts = self.cast(std::slice::from_ref(column), &[vec![*value]]);
            texts.and_then(|texts| texts.into_iter().flatten().next()).ok_or(())
        };
        rows.iter().map(|row| columns.iter().zip(row).map(one).collect()).collect()
    }

    fn cast(&self, columns: &[ResultColumn], rows: &[Vec<&Value>]) -> Option<Vec<Vec<Option<String>>>> {
        if rows.is_empty() || columns.is_empty() {
            return Some(rows.iter().map(|_| Vec::new()).collect());
        }
        let row = |row: &Vec<&Value>| {
            let values = columns.iter().zip(row);
            let texts: Vec<_> = values
                .map(|(column, value)| format!("{}::VARCHAR", parameter::literal(&column.data_type, value)))
                .collect();
            format!("({})", texts.join(", "))
        };
        let lines: Vec<String> = rows.iter().map(row).collect();
        let mut statement = self.session.connection().prepare(&format!("VALUES {}", lines.join(", "))).ok()?;
        let texts = statement.query_map([], |row| (0..columns.len()).map(|at| row.get(at)).collect()).ok()?;
        texts.collect::<duckdb::Result<_>>().ok()
    }
}

fn scratch() -> Result<tempfile::TempDir, TaskFailure> {
    tempfile::tempdir().map_err(|error| TaskFailure::from_io(&error, "make a scratch folder"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_as_duckdb_writes_them_in_their_types() {
        let reader = TableReader::new().unwrap();
        let column =
            |name: &str, data_type: &str| ResultColumn { name: name.to_owned(), data_type: data_type.to_owned() };
        let columns = [
            column("price", "DECIMAL(9,2)"),
            column("mean", "DOUBLE"),
            column("at", "TIMESTAMP"),
            column("tags", "VARCHAR[]"),
        ];
        let good = [json!(1.5), json!(20), json!("2024-01-31T10:00:00Z"), json!(["a", null])];
        let bad = [json!("many"), json!(null), json!("2024-01-31"), json!([])];
        let text = |text: &str| Ok(Some(text.to_owned()));
        let good_texts = [text("1.50"), text("20.0"), text("2024-01-31 10:00:00"), text("[a, NULL]")];
        let rows = [good.iter().collect(), bad.iter().collect()];
        assert_eq!(reader.values(&columns, &rows[..1]), std::slice::from_ref(&good_texts));
        let bad_texts = [Err(()), Ok(None), text("2024-01-31 00:00:00"), text("[]")];
        assert_eq!(reader.values(&columns, &rows), [good_texts, bad_texts]);
    }
}
