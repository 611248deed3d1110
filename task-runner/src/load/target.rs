//! The database that is loaded into, and what each kind of it needs.

use std::fmt;

use duckdb::ToSql;
use pintail_protocol::{Load, ResultColumn};

use super::columns::{Pair, pair};
use super::fault;
use crate::failure::TaskFailure;
use crate::session::Session;
use crate::sql::{identifier, text};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    DuckDb,
    Postgres,
}

/// A table of an attached database.
pub(super) struct Target<'a> {
    pub session: &'a Session,
    pub kind: Kind,
    pub database: &'a str,
    pub schema: &'a str,
    pub table: &'a str,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.database, self.schema, self.table)
    }
}

impl<'a> Target<'a> {
    /// # Errors
    /// `InvalidLoad` for a database that cannot be loaded into.
    pub fn of(session: &'a Session, load: &'a Load) -> Result<Self, TaskFailure> {
        let sql = "SELECT type FROM duckdb_databases() WHERE database_name = ? AND NOT readonly";
        let kind = session.connection().query_row(sql, [&load.connection], |row| row.get::<_, String>(0));
        let (kind, default_schema) = match kind.as_deref() {
            Ok("duckdb") => (Kind::DuckDb, "main"),
            Ok("postgres") => (Kind::Postgres, "public"),
            _ => {
                return Err(TaskFailure::permanent(
                    "InvalidLoad",
                    format!(
                        "connection `{}` is not a DuckDB or PostgreSQL database that the task writes: name it under `writes`",
                        load.connection
                    ),
                ));
            }
        };
        let schema = load.schema.as_deref().unwrap_or(default_schema);
        Ok(Self { session, kind, database: &load.connection, schema, table: &load.table })
    }

    /// A table of the target's schema as DuckDB names it.
    pub fn path(&self, table: &str) -> String {
        format!("{}.{}", identifier(self.database), self.server_path(table))
    }

    /// A table of the target's schema as its own server names it.
    pub fn server_path(&self, table: &str) -> String {
        format!("{}.{}", identifier(self.schema), identifier(table))
    }

    fn attempt(&self) -> String {
        format!("load into {self}")
    }

    /// Runs one statement in DuckDB and gives the number of rows it changed.
    pub fn run(&self, sql: &str, values: &[&dyn ToSql]) -> Result<u64, TaskFailure> {
        let rows = self.session.connection().execute(sql, values);
        rows.map(|rows| rows as u64).map_err(|error| fault::failure(&error, &self.attempt()))
    }

    /// Runs statements in the PostgreSQL server, inside the open transaction.
    pub fn run_on_server(&self, sql: &str) -> Result<(), TaskFailure> {
        let call = format!("CALL postgres_execute({}, {})", text(self.database), text(sql));
        self.batch(&call)
    }

    fn batch(&self, sql: &str) -> Result<(), TaskFailure> {
        let done = self.session.connection().execute_batch(sql);
        done.map_err(|error| fault::failure(&error, &self.attempt()))
    }

    /// The rows of a query of ours, read by `read`.
    pub fn rows<T>(
        &self,
        sql: &str,
        values: &[&dyn ToSql],
        read: impl FnMut(&duckdb::Row<'_>) -> duckdb::Result<T>,
    ) -> Result<Vec<T>, TaskFailure> {
        let read_all = || {
            let mut statement = self.session.connection().prepare(sql)?;
            statement.query_map(values, read)?.collect::<duckdb::Result<Vec<T>>>()
        };
        read_all().map_err(|error| fault::failure(&error, &self.attempt()))
    }

    /// Columns of a table of the target's schema; `None` if it is not there.
    pub fn columns(&self, table: &str) -> Result<Option<Vec<ResultColumn>>, TaskFailure> {
        // PostgreSQL tells `Orders` from `orders`.
        let same = if self.kind == Kind::Postgres { "" } else { "lower" };
        let sql = format!(
            "SELECT column_name, data_type FROM duckdb_columns()
             WHERE database_name = ? AND {same}(schema_name) = {same}(?) AND {same}(table_name) = {same}(?)
             ORDER BY column_index"
        );
        let values: [&dyn ToSql; 3] = [&self.database, &self.schema, &table];
        let columns = self.rows(&sql, &values, |row| Ok(ResultColumn { name: row.get(0)?, data_type: row.get(1)? }))?;
        Ok(if columns.is_empty() { None } else { Some(columns) })
    }

    /// Forgets what DuckDB remembers of a server's tables: another run may have made one.
    pub fn refresh(&self) -> Result<(), TaskFailure> {
        if self.kind == Kind::Postgres { self.batch("CALL pg_clear_cache()") } else { Ok(()) }
    }

    /// All of `work` or nothing.
    pub fn transaction<T>(&self, work: impl FnOnce() -> Result<T, TaskFailure>) -> Result<T, TaskFailure> {
        self.batch("BEGIN")?;
        match work() {
            Ok(value) => self.batch("COMMIT").map(|()| value),
            Err(failure) => {
                // The failure counts; a transaction that cannot be rolled back ends with the session.
                let _ = self.batch("ROLLBACK");
                Err(failure)
            }
        }
    }

    /// Waits until no other run writes loads of this schema, up to the end of the transaction. It must come first: the
    /// transaction is REPEATABLE READ, and LOCK is the one statement that does not yet fix what it sees. A DuckDB file
    /// needs none, because it is opened by one process at a time.
    pub fn lock(&self, table: &str) -> Result<(), TaskFailure> {
        match self.kind {
            Kind::DuckDb => Ok(()),
            Kind::Postgres => {
                self.run_on_server(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", self.server_path(table)))
            }
        }
    }

    /// Creates the table from the query's types, and the stamp; says whether it did.
    pub fn create_if_absent(&self, load: &Load, query: &[ResultColumn]) -> Result<bool, TaskFailure> {
        if self.columns(self.table)?.is_some() {
            return Ok(false);
        }
        let columns = query.iter().map(|column| (column.name.as_str(), self.stored_type(&column.data_type)));
        let stamp = load.stamp.iter().map(|stamp| (stamp.as_str(), "TIMESTAMP"));
        let definitions: Vec<_> =
            columns.chain(stamp).map(|(name, data_type)| format!("{} {data_type}", identifier(name))).collect();
        self.batch(&format!("CREATE TABLE {} ({})", self.path(self.table), definitions.join(", ")))?;
        Ok(true)
    }

    /// The type of a new column for a type of the query. The extension chooses the rest; where that would not keep
    /// values, [`Target::pairs`] refuses it.
    fn stored_type<'t>(&self, data_type: &'t str) -> &'t str {
        match (self.kind, data_type) {
            // The extension would make it a float.
            (Kind::Postgres, "HUGEINT" | "UHUGEINT") => "DECIMAL(38,0)",
            (Kind::Postgres, enumeration) if enumeration.starts_with("ENUM(") => "VARCHAR",
            (_, same) => same,
        }
    }

    /// The query's columns beside those of the table, which is there.
    pub fn pairs(&self, load: &Load, query: &[ResultColumn]) -> Result<(Vec<Pair>, Vec<ResultColumn>), TaskFailure> {
        let table = self.columns(self.table)?.unwrap_or_default();
        Ok((pair(load, query, &table, &self.to_string())?, table))
    }
}
