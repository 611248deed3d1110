//! The tables of a database, for the Connection that names it.

use std::collections::BTreeMap;

use pintail_protocol::{AccessMode, Connection, ConnectionTarget, DatabaseTable, Resources, ResultColumn};

use crate::attach::attach_database;
use crate::failure::TaskFailure;
use crate::session::Session;
use crate::workspace::{Environment, Workspace};

/// Every table and view of a database with its columns, in the order of their names. Those of the database itself and of
/// the loader are left out; `main` of DuckDB and `public` of PostgreSQL stand in no name.
///
/// # Errors
/// A database that cannot be reached, a missing secret or extension, a file that is not there or locked.
pub fn database_tables(
    name: &str,
    target: ConnectionTarget,
    secrets: BTreeMap<String, String>,
) -> Result<Vec<DatabaseTable>, TaskFailure> {
    let scratch = tempfile::tempdir().map_err(|error| TaskFailure::from_io(&error, "make a scratch folder"))?;
    let session = Session::start(&Resources::default(), Workspace::new(scratch.path()))?;
    let connection = Connection { name: name.to_owned(), mode: AccessMode::Read, target };
    attach_database(&session, &connection, &Environment::of_process().with(secrets))?;
    let own_schema = match &connection.target {
        ConnectionTarget::Postgres { .. } => "public",
        _ => "main",
    };
    let sql = "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns()
               WHERE database_name = ? AND NOT internal AND table_name <> '_pintail_loads'
                 AND schema_name NOT IN ('information_schema', 'pg_catalog')
               ORDER BY schema_name, table_name, column_index";
    let read = || -> duckdb::Result<Vec<(String, String, ResultColumn)>> {
        let mut statement = session.connection().prepare(sql)?;
        let row = |row: &duckdb::Row<'_>| {
            Ok((row.get(0)?, row.get(1)?, ResultColumn { name: row.get(2)?, data_type: row.get(3)? }))
        };
        statement.query_map([name], row)?.collect()
    };
    let rows = read().map_err(|error| TaskFailure::from_duckdb(&error, "list the tables"))?;
    let mut tables: Vec<DatabaseTable> = Vec::new();
    for (schema, table, mut column) in rows {
        let name = if schema == own_schema { table } else { format!("{schema}.{table}") };
        // A database's own enumeration is text to SQL that is checked.
        if column.data_type.starts_with("ENUM(") {
            column.data_type = "VARCHAR".to_owned();
        }
        match tables.last_mut().filter(|last| last.name == name) {
            Some(last) => last.columns.push(column),
            None => tables.push(DatabaseTable { name, columns: vec![column] }),
        }
    }
    Ok(tables)
}
