//! A DuckDB session for one work order: extensions, secrets, attached databases, views, then the lock-down.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pintail_protocol::{ConnectionTarget, Parameter, Resources, ResultColumn, WorkOrder};
use serde_json::Value;

use crate::failure::TaskFailure;
use crate::workspace::{Environment, Workspace};
use crate::{attach, clock, limits, parameter, relation, sql};

/// An open, locked-down session. Views stand under the relations' names, databases under the connections'.
pub struct Session {
    connection: duckdb::Connection,
    /// The order's parameters, with the values of its `secrets` connections.
    parameters: Vec<Parameter>,
    workspace: Workspace,
    /// Numbers our prepared statements.
    prepared: Cell<u32>,
}

/// Rows as text, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextTable {
    pub columns: Vec<ResultColumn>,
    /// One entry a row, one value a column; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Session {
    /// Opens the session of an order: afterwards SQL reaches the order's relations and databases and nothing else.
    ///
    /// # Errors
    /// A connection that cannot be reached, a missing secret or extension, a file that breaks its contract, a locked
    /// database file.
    pub fn open(order: &WorkOrder, workspace: Workspace, environment: &Environment) -> Result<Self, TaskFailure> {
        let mut session = Self::start(&order.resources, workspace)?;
        session.parameters = all_parameters(order, environment)?;
        session.check_parameters()?;
        attach::open_connections(&session, order, environment)?;
        for relation in &order.relations {
            relation::create(&session, relation)
                .map_err(|failure| failure.on(&format!("table `{}`", relation.name)))?;
        }
        if let Some(now) = environment.rehearsal() {
            session.batch(&clock::stopped_at(now), "stop the clock")?;
        }
        session.lock()?;
        Ok(session)
    }

    /// A session with one table over Parquet files of this machine.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn over_files(table: &str, files: &[PathBuf], scratch: &Path) -> Result<Self, TaskFailure> {
        let mut workspace = Workspace::new(scratch);
        workspace.staged = files.iter().map(|path| (path.to_string_lossy().into_owned(), path.clone())).collect();
        let session = Self::start(&Resources::default(), workspace)?;
        let paths: Vec<_> =
            files.iter().map(|path| relation::glob_literal(&path.to_string_lossy()).into_owned()).collect();
        let paths = sql::text_list(paths.iter().map(String::as_str));
        let view = format!(
            "CREATE VIEW {} AS FROM read_parquet({paths}, union_by_name = true, hive_partitioning = false)",
            sql::identifier(table)
        );
        session.batch(&view, "read the files")?;
        session.lock()?;
        Ok(session)
    }

    /// A session with the limits of its resources, not yet locked down.
    pub(crate) fn start(resources: &Resources, workspace: Workspace) -> Result<Self, TaskFailure> {
        let connection = open_engine(resources, &workspace)?;
        Ok(Self { connection, parameters: Vec::new(), workspace, prepared: Cell::new(0) })
    }

    /// The raw connection, for statements without parameters.
    #[must_use]
    pub fn connection(&self) -> &duckdb::Connection {
        &self.connection
    }

    /// Folder of this attempt alone, on local disk.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.workspace.scratch
    }

    #[must_use]
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Interrupts what runs, from another thread.
    #[must_use]
    pub fn interrupt_handle(&self) -> Arc<duckdb::InterruptHandle> {
        self.connection.interrupt_handle()
    }

    /// Runs one or more statements of ours without parameters, without results.
    ///
    /// # Errors
    /// DuckDB's error by its class.
    pub fn batch(&self, sql: &str, attempt: &str) -> Result<(), TaskFailure> {
        self.connection.execute_batch(sql).map_err(|error| TaskFailure::from_duckdb(&error, attempt))
    }

    /// Runs one statement that may embed a user's query, with the parameters that it names bound by their types
    /// (`extra` before the order's). Gives the number of rows that were changed or copied.
    ///
    /// Parameters can stand in a query, COPY, INSERT, UPDATE, DELETE and CREATE TABLE AS.
    ///
    /// # Errors
    /// DuckDB's error by its class; `UnknownParameter` for a `$name` that nothing binds; `ParameterNotAllowed` in any
    /// other statement.
    pub fn execute(&self, sql: &str, extra: &[Parameter]) -> Result<u64, TaskFailure> {
        let attempt = "run the statement";
        if let Some(parts) = sql::table_from_query(sql).filter(|_| sql::may_name_parameters(sql)) {
            let columns = self.column_definitions(parts.query, extra)?;
            self.batch(&format!("{} ({columns})", parts.head), attempt)?;
            return self.execute(&format!("INSERT INTO {}\n{}", parts.name, parts.query), extra);
        }
        self.bind(sql, extra, attempt, |bound, fail| self.count(bound).map_err(fail))
    }

    /// Runs a statement and gives the rows that were changed, or the number that it returns instead: EXECUTE does that.
    fn count(&self, sql: &str) -> duckdb::Result<u64> {
        let mut statement = self.connection.prepare(sql)?;
        let changed = statement.execute([])?;
        if changed > 0 {
            return Ok(changed as u64);
        }
        let mut rows = statement.raw_query();
        Ok(rows.next()?.and_then(|row| row.get::<_, u64>(0).ok()).unwrap_or(0))
    }

    /// Parses and binds a user's query as it was written, so that an error shows its place.
    ///
    /// # Errors
    /// `ParserError`, `BinderError`, `CatalogError`, with DuckDB's text.
    pub fn check(&self, query: &str) -> Result<(), TaskFailure> {
        let prepared = self.connection.prepare(query);
        prepared.map(drop).map_err(|error| TaskFailure::from_duckdb(&error, "bind the query"))
    }

    /// Names and types of a query's columns, without running it.
    ///
    /// # Errors
    /// As of [`Session::execute`].
    pub fn describe(&self, query: &str, extra: &[Parameter]) -> Result<Vec<ResultColumn>, TaskFailure> {
        let sql = format!("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM (\n{query}\n))");
        self.bind(&sql, extra, "bind the query", |bound, fail| {
            let mut statement = self.connection.prepare(bound).map_err(&fail)?;
            let columns = statement
                .query_map([], |row| Ok(ResultColumn { name: row.get(0)?, data_type: row.get(1)? }))
                .map_err(&fail)?;
            columns.collect::<Result<_, _>>().map_err(&fail)
        })
    }

    /// Runs a query into a new temporary table and gives the number of its rows.
    ///
    /// # Errors
    /// As of [`Session::execute`].
    pub fn stage(&self, table: &str, query: &str, extra: &[Parameter]) -> Result<u64, TaskFailure> {
        let table = sql::identifier(table);
        self.execute(&format!("CREATE TEMP TABLE {table} AS\n{query}"), extra)
    }

    /// `"a" BIGINT, "b" VARCHAR` of a query.
    fn column_definitions(&self, query: &str, extra: &[Parameter]) -> Result<String, TaskFailure> {
        let columns = self.describe(query, extra)?;
        let definition = |column: &ResultColumn| format!("{} {}", sql::identifier(&column.name), column.data_type);
        Ok(columns.iter().map(definition).collect::<Vec<_>>().join(", "))
    }

    /// Runs a person's query and gives its first rows as text.
    ///
    /// # Errors
    /// `TwoStatements`, `NotAQuery`, else as of [`Session::execute`].
    pub fn text_rows(&self, text: &str, extra: &[Parameter], limit: usize) -> Result<TextTable, TaskFailure> {
        let query = sql::query(text, "the query")?;
        self.check(query)?;
        let columns = self.describe(query, extra)?;
        let sql = format!("SELECT COLUMNS(*)::VARCHAR FROM (\n{query}\n) LIMIT {limit}");
        let rows = self.bind(&sql, extra, "run the query", |bound, fail| {
            let mut statement = self.connection.prepare(bound).map_err(&fail)?;
            let rows = statement
                .query_map([], |row| (0..columns.len()).map(|column| row.get(column)).collect::<Result<_, _>>())
                .map_err(&fail)?;
            rows.collect::<Result<Vec<_>, _>>().map_err(&fail)
        })?;
        Ok(TextTable { columns, rows })
    }

    /// Calls `run` with a statement that has its parameters bound. A statement without parameters is passed as it is.
    fn bind<T>(
        &self,
        sql: &str,
        extra: &[Parameter],
        attempt: &str,
        run: impl FnOnce(&str, &dyn Fn(duckdb::Error) -> TaskFailure) -> Result<T, TaskFailure>,
    ) -> Result<T, TaskFailure> {
        let plain = |error: duckdb::Error| TaskFailure::from_duckdb(&error, attempt);
        let names = self.parameter_names(sql).map_err(plain)?;
        if names.is_empty() {
            return run(sql, &plain);
        }
        let arguments = parameter::arguments(&names, extra.iter().chain(&self.parameters))?;
        let name = format!("pintail_statement_{}", self.prepared.replace(self.prepared.get() + 1));
        if !sql::takes_parameters(sql) {
            let message = format!(
                "the statement names ${}, but parameters can stand only in queries, INSERT, UPDATE, DELETE and CREATE TABLE … AS",
                names.join(", $")
            );
            return Err(TaskFailure::permanent("ParameterNotAllowed", message));
        }
        self.batch(&format!("PREPARE {name} AS {sql}"), attempt)?;
        // DuckDB shows a piece of the EXECUTE, which holds values, as the place of an error.
        let result = run(&format!("EXECUTE {name}({arguments})"), &|error| plain(error).without_position());
        self.batch(&format!("DEALLOCATE {name}"), attempt)?;
        result
    }

    fn parameter_names(&self, sql: &str) -> duckdb::Result<Vec<String>> {
        if !sql::may_name_parameters(sql) {
            return Ok(Vec::new());
        }
        let statement = self.connection.prepare(sql)?;
        (1..=statement.parameter_count()).map(|index| statement.parameter_name(index)).collect()
    }

    /// Casts each parameter once, so that a value of the wrong type is refused by its name, not inside a query.
    fn check_parameters(&self) -> Result<(), TaskFailure> {
        for parameter in &self.parameters {
            let sql = format!("SELECT {}", parameter::literal(&parameter.data_type, &parameter.value));
            self.connection.execute_batch(&sql).map_err(|_| {
                TaskFailure::permanent(
                    "InvalidParameter",
                    format!("the value of ${} is not a {}", parameter.name, parameter.data_type),
                )
            })?;
        }
        Ok(())
    }

    fn lock(&self) -> Result<(), TaskFailure> {
        let folder = |path: &Path| format!("{}/", path.display());
        let folders = self.workspace.outputs.iter().chain([&self.workspace.scratch]);
        let folders: Vec<_> = folders.map(|path| folder(path)).collect();
        let found = self.workspace.found.values().flatten().map(|file| file.location.clone());
        let staged = self.workspace.staged.values().map(|path| path.to_string_lossy().into_owned());
        // A reader asks for the pattern that it was given, then for the file itself.
        let paths: Vec<String> = found
            .chain(staged)
            .flat_map(|path| {
                let pattern = relation::glob_literal(&path).into_owned();
                if pattern == path { vec![path] } else { vec![pattern, path] }
            })
            .collect();
        let sql = format!(
            "SET allowed_directories = {}; SET allowed_paths = {};
             SET enable_external_access = false; SET lock_configuration = true;",
            sql::text_list(folders.iter().map(String::as_str)),
            sql::text_list(paths.iter().map(String::as_str)),
        );
        self.batch(&sql, "lock the session down")
    }
}

/// DuckDB in memory with the limits of the order, nothing loaded.
fn open_engine(resources: &Resources, workspace: &Workspace) -> Result<duckdb::Connection, TaskFailure> {
    let fail = |error: duckdb::Error| TaskFailure::from_duckdb(&error, "start DuckDB");
    let spill = workspace.scratch.join("spill");
    let mut settings = vec![
        ("autoinstall_known_extensions", "false".to_owned()),
        ("autoload_known_extensions", "false".to_owned()),
        ("temp_directory", spill.display().to_string()),
        ("threads", limits::threads(resources).to_string()),
    ];
    if let Some(bytes) = limits::memory_bytes(resources) {
        settings.push(("memory_limit", format!("{bytes}B")));
    }
    if let Some(bytes) = limits::spill_bytes(resources, workspace.staged_bytes()) {
        settings.push(("max_temp_directory_size", format!("{bytes}B")));
    }
    let mut config = duckdb::Config::default();
    for (name, value) in settings {
        config = config.with(name, value).map_err(fail)?;
    }
    let connection = duckdb::Connection::open_in_memory_with_flags(config).map_err(fail)?;
    connection
        .execute_batch("SET allow_persistent_secrets = false; SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        .map_err(fail)?;
    Ok(connection)
}

/// The order's parameters and, as VARCHAR, the values of its `secrets` connections.
fn all_parameters(order: &WorkOrder, environment: &Environment) -> Result<Vec<Parameter>, TaskFailure> {
    let mut parameters = order.parameters.clone();
    for connection in &order.connections {
        let ConnectionTarget::Secrets(values) = &connection.target else { continue };
        for (name, variable) in values {
            let value = environment.secret(variable, &format!("connection `{}`", connection.name))?;
            let data_type = "VARCHAR".to_owned();
            parameters.push(Parameter { name: name.clone(), data_type, value: Value::String(value.to_owned()) });
        }
    }
    Ok(parameters)
}
