//! The session in which SQL is bound: no files, no rows, everything declared as empty tables.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pintail_protocol::{CheckDatabase, DatabaseKind, Resources, ResultColumn};

use super::fault::Fault;
use super::lineage::marked_column;
use super::seal::unsealed;
use crate::failure::TaskFailure;
use crate::session::Session;
use crate::sql::{self, identifier};
use crate::workspace::Workspace;

/// Memory that a check may take. Binding takes some MiB; only a statement made to do harm takes more.
const MEMORY_BYTES: u64 = 512 << 20;
/// How long the checks of a workflow may take, and how much longer for each task.
const TIME: Duration = Duration::from_secs(10);
const TIME_OF_TASK: Duration = Duration::from_millis(50);

pub(super) struct Bench {
    session: Session,
    attached: Vec<CheckDatabase>,
    views: Vec<(String, Vec<ResultColumn>)>,
    /// Interrupts the session of the moment.
    interrupt: Arc<Mutex<Arc<duckdb::InterruptHandle>>>,
}

/// Interrupts what runs unless it is dropped in time.
pub(super) struct TimeLimit(#[allow(dead_code, reason = "dropping it ends the wait")] Sender<()>);

impl Bench {
    pub fn open() -> Result<Self, TaskFailure> {
        let resources = Resources { cpu_millis: Some(1000), memory_bytes: Some(MEMORY_BYTES), scratch_bytes: None };
        let session = unsealed(|| Session::start(&resources, Workspace::new(Path::new(""))))?;
        session.batch(
            "SET temp_directory = ''; SET allowed_directories = []; SET errors_as_json = true;
             SET enable_external_access = false; SET lock_configuration = true",
            "lock the session down",
        )?;
        let interrupt = Arc::new(Mutex::new(session.interrupt_handle()));
        Ok(Self { session, attached: Vec::new(), views: Vec::new(), interrupt })
    }

    /// Ends what takes too long, until the result is dropped.
    pub fn limit_time(&self, tasks: usize) -> TimeLimit {
        let (sender, receiver) = channel();
        let interrupt = Arc::clone(&self.interrupt);
        let limit = TIME + TIME_OF_TASK * u32::try_from(tasks).unwrap_or(u32::MAX);
        std::thread::spawn(move || {
            let mut wait = limit;
            // What was interrupted is followed by the next statement, which may take as long again.
            while receiver.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                interrupt.lock().unwrap_or_else(PoisonError::into_inner).interrupt();
                wait = Duration::from_millis(100);
            }
        });
        TimeLimit(sender)
    }

    /// Gives a task its databases and tables, and nothing of the tasks before it.
    pub fn set_up(
        &mut self,
        databases: &[CheckDatabase],
        tables: &[(&str, &[ResultColumn])],
    ) -> Result<(), TaskFailure> {
        let gone: Vec<CheckDatabase> = self.attached.extract_if(.., |it| !databases.contains(it)).collect();
        for database in gone {
            self.session.batch(&format!("DETACH {}", identifier(&database.name)), "leave a database")?;
        }
        for database in databases {
            if !self.attached.contains(database) {
                self.attach(database)?;
                self.attached.push(database.clone());
            }
        }
        // What the task before had too may stay.
        let is_wanted = |(name, columns): &(String, Vec<ResultColumn>)| {
            tables.iter().any(|(wanted, of)| wanted == name && of == columns)
        };
        let gone: Vec<_> = self.views.extract_if(.., |view| !is_wanted(view)).collect();
        for (name, _) in gone {
            self.session.batch(&format!("DROP VIEW {}", identifier(&name)), "drop a table")?;
        }
        for (name, columns) in tables {
            if !self.views.iter().any(|(there, _)| there == name) {
                self.session.batch(&view(name, columns), &format!("make table `{name}`"))?;
                self.views.push(((*name).to_owned(), columns.to_vec()));
            }
        }
        Ok(())
    }

    /// After statements of a task's own only a new session is as before.
    pub fn renew(&mut self) -> Result<(), TaskFailure> {
        let interrupt = Arc::clone(&self.interrupt);
        *self = Self { interrupt, ..Self::open()? };
        *self.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = self.session.interrupt_handle();
        Ok(())
    }

    fn attach(&self, database: &CheckDatabase) -> Result<(), TaskFailure> {
        let name = identifier(&database.name);
        let mut statements = vec![format!("ATTACH ':memory:' AS {name}")];
        if database.kind == DatabaseKind::Postgres {
            statements.push(format!("CREATE SCHEMA {name}.public"));
        }
        let mut create = |schema: &str, table: &str, columns: &[ResultColumn]| {
            let definitions: Vec<_> =
                columns.iter().map(|it| format!("{} {}", identifier(&it.name), it.data_type)).collect();
            let path = format!("{name}.{}.{}", identifier(schema), identifier(table));
            statements.push(format!("CREATE TABLE IF NOT EXISTS {path} ({})", definitions.join(", ")));
        };
        let mut schemas = Vec::new();
        for table in database.tables.iter().flatten() {
            match table.name.split_once('.') {
                Some((schema, own)) => {
                    schemas.push(format!("CREATE SCHEMA IF NOT EXISTS {name}.{}", identifier(schema)));
                    create(schema, own, &table.columns);
                    // PostgreSQL's own schema needs no name.
                    if (database.kind, schema) == (DatabaseKind::Postgres, "public") {
                        create("main", own, &table.columns);
                    }
                }
                None => {
                    create("main", &table.name, &table.columns);
                    if database.kind == DatabaseKind::Postgres {
                        create("public", &table.name, &table.columns);
                    }
                }
            }
        }
        let (attach, tables) = statements.split_at(1);
        let all = [attach, schemas.as_slice(), tables].concat().join(";");
        self.session.batch(&all, &format!("make database `{}`", database.name))
    }

    /// Parses and binds a statement as it stands.
    pub fn prepare(&self, sql: &str) -> Result<(), Fault> {
        self.session.connection().prepare(sql).map(drop).map_err(|error| Fault::of(&error))
    }

    pub fn execute(&self, sql: &str) -> Result<(), Fault> {
        self.session.connection().execute_batch(sql).map_err(|error| Fault::of(&error))
    }

    /// Columns of a query; `arguments` are those of an EXECUTE, where it names parameters.
    pub fn describe(&self, query: &str, arguments: &str) -> Result<Vec<ResultColumn>, Fault> {
        let describe = "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM (\n";
        if arguments.is_empty() {
            return self.columns(&format!("{describe}{query}\n))")).map_err(|fault| fault.moved(describe.len()));
        }
        let prepare = format!("PREPARE pintail_check AS {describe}");
        let moved = |fault: Fault| fault.moved(prepare.len());
        self.execute(&format!("{prepare}{query}\n))")).map_err(moved)?;
        let columns = self.columns(&format!("EXECUTE pintail_check({arguments})")).map_err(moved);
        let _ = self.execute("DEALLOCATE pintail_check");
        columns
    }

    fn columns(&self, sql: &str) -> Result<Vec<ResultColumn>, Fault> {
        let read = || -> duckdb::Result<Vec<ResultColumn>> {
            let mut statement = self.session.connection().prepare(sql)?;
            let rows = statement.query_map([], |row| Ok(ResultColumn { name: row.get(0)?, data_type: row.get(1)? }))?;
            rows.collect()
        };
        read().map_err(|error| Fault::of(&error))
    }

    /// Functions that SQL can call; those of windows are part of the language.
    pub fn function_names(&self) -> Vec<String> {
        const OF_WINDOWS: [&str; 11] = [
            "row_number",
            "rank",
            "dense_rank",
            "percent_rank",
            "cume_dist",
            "ntile",
            "lag",
            "lead",
            "first_value",
            "last_value",
            "nth_value",
        ];
        let read = || -> duckdb::Result<Vec<String>> {
            let sql = "SELECT DISTINCT function_name FROM duckdb_functions() ORDER BY 1";
            let mut statement = self.session.connection().prepare(sql)?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let mut names = read().unwrap_or_default();
        names.extend(OF_WINDOWS.map(str::to_owned));
        names
    }

    /// One value of a query of ours.
    pub fn value<T: duckdb::types::FromSql>(&self, sql: &str, argument: &str) -> Option<T> {
        self.session.connection().query_row(sql, [argument], |row| row.get(0)).ok()
    }
}

/// A view without rows: a table of a task is a view too, which nothing can be inserted into. Plans show its columns.
fn view(name: &str, columns: &[ResultColumn]) -> String {
    let column = |(position, column): (usize, &ResultColumn)| {
        format!("{} AS {}", marked_column(name, position, &column.data_type), identifier(&column.name))
    };
    let columns: Vec<_> = columns.iter().enumerate().map(column).collect();
    let list = if columns.is_empty() { "NULL".to_owned() } else { columns.join(", ") };
    format!("CREATE VIEW {} AS SELECT {list} WHERE false", identifier(name))
}

/// A type as DuckDB writes it.
pub(super) fn canonical(bench: &Bench, data_type: &str) -> Option<String> {
    let sql = format!("SELECT typeof(CAST(NULL AS {data_type})) WHERE {} = ?", sql::text(""));
    bench.value(&sql, "")
}
