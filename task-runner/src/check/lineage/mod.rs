//! Where the columns of results come from, as DuckDB's binder has it.
//!
//! ```text
//! statement ─> parameters as marked subqueries ─> json_serialize_plan ─> Walk ─> sources of each column
//! ```
//!
//! Columns of a task's tables, and parameters that come from such, are NULLs with a mark in the session, which plans show. What cannot be followed is unknown, and then comes from every column that the task has.

mod expression;
mod plan;
mod tables;
#[cfg(test)]
mod tests;

use pintail_protocol::{
    CheckTask, ColumnLineage, How, LineageTarget, ResultLineage, SourceTable, Sources, TableOrigin, TableShape,
    plain_table,
};
use serde_json::Value;

use super::Flow;
use super::bench::Bench;
use super::bind::{self, Scalar};
use super::task::{Scope, first_word, mentions};
use crate::sql;
use plan::{Columns, Lost, Origin, Walk, list, origins};
use tables::{Tables, marked_parameter, table_name};

pub(super) use tables::marked_column;

const NOT_BOUND: &str = "what the query reads or gives is known only when it runs";

/// Types that a parameter is tried with whose type only a run tells.
const UNTYPED: [&str; 3] = ["VARCHAR", "BIGINT", "TIMESTAMP"];

/// The lineage of one task's statements.
pub(super) struct Lineage<'a> {
    task: &'a CheckTask,
    masking: &'a [String],
    scalars: Vec<Scalar>,
    tables: Tables,
    /// Every column that the task has.
    everything: Sources,
    /// Tables that may have further columns.
    open: Vec<SourceTable>,
    /// Why nothing that follows can be known.
    lost: Option<Lost>,
}

/// A statement's columns and what decides on its rows.
struct Followed {
    columns: Vec<Origin>,
    rows: Sources,
}

impl<'a> Lineage<'a> {
    pub fn of(flow: &Flow<'a>, scope: &Scope<'a>) -> Self {
        let task = scope.task;
        let mut lineage = Self {
            task,
            masking: &flow.request.masking,
            scalars: scope.scalars.clone(),
            tables: Tables::default(),
            everything: Sources::default(),
            open: Vec::new(),
            lost: None,
        };
        for (table, (name, shape)) in task.tables.iter().zip(&scope.tables) {
            lineage.give(name, source_table(&table.origin), shape.as_ref());
        }
        for database in &scope.databases {
            lineage.tables.databases.push(database.name.clone());
            for table in database.tables.iter().flatten() {
                let source =
                    SourceTable::Database { connection: database.name.clone(), table: plain_table(&table.name) };
                let columns = table.columns.iter().map(|column| Sources::column(source.clone(), &column.name));
                columns.for_each(|column| lineage.everything.extend(&column));
            }
            if database.tables.is_none() {
                let source = SourceTable::Database { connection: database.name.clone(), table: "*".to_owned() };
                lineage.everything.extend(&Sources::column(source, "*"));
            }
        }
        for scalar in &scope.scalars {
            let given = task.parameters.iter().filter(|parameter| parameter.name.eq_ignore_ascii_case(&scalar.name));
            let mut sources = Sources::default();
            for (task, output, column) in given.flat_map(|parameter| &parameter.columns) {
                let table = SourceTable::Result { task: task.clone(), output: output.clone() };
                sources.extend(&Sources::column(table, column));
            }
            lineage.everything.extend(&sources);
            lineage.tables.parameters.insert(scalar.name.to_lowercase(), sources);
        }
        lineage.everything = lineage.everything.through(How::Transformation, false);
        lineage
    }

    fn give(&mut self, name: &str, source: SourceTable, shape: Option<&TableShape>) {
        let columns: Vec<String> = shape.iter().flat_map(|it| &it.columns).map(|it| it.name.clone()).collect();
        for column in &columns {
            self.everything.extend(&Sources::column(source.clone(), column));
        }
        if shape.is_none_or(|shape| shape.open) {
            self.everything.extend(&Sources::column(source.clone(), "*"));
            self.open.push(source.clone());
        }
        self.tables.given.insert(name.to_owned(), (source, columns));
    }

    /// Follows a statement of setup that is about to be carried out, by its position. Gives what it writes to databases.
    pub fn set_up(&mut self, bench: &Bench, statement: &str, position: usize) -> Option<ResultLineage> {
        let changes = matches!(first_word(statement).as_str(), "INSERT" | "UPDATE" | "MERGE")
            || sql::table_from_query(statement).is_some();
        let (plan, extra) = match self.plan(bench, statement) {
            Ok(planned) => planned,
            Err(lost) => {
                self.lost = self.lost.take().or(changes.then_some(lost));
                return None;
            }
        };
        let (written, names) = match plan["type"].as_str()? {
            "LOGICAL_CREATE_TABLE" => (&plan["info"], column_names(&plan["info"])),
            "LOGICAL_INSERT" | "LOGICAL_UPDATE" | "LOGICAL_MERGE_INTO" => {
                (&plan["table_info"], column_names(&plan["table_info"]))
            }
            _ => return None,
        };
        let mut walk = Walk::new(&self.tables, self.masking);
        let columns = match list(&plan["children"]) {
            [] => Ok(Columns::new()),
            _ => walk.below(&plan),
        };
        let mut columns = written_columns(&plan, &names, columns);
        columns.iter_mut().for_each(|column| column.sources.extend(&extra));
        let rows = walk.rows;
        let table = table_name(written);
        let target = self.tables.database_table(&table);
        let named: Vec<(String, Origin)> = names.into_iter().zip(columns).collect();
        let known = self.tables.made.entry(table).or_default();
        for (name, origin) in &named {
            match known.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some((_, known)) => known.extend(origin),
                None => known.push((name.clone(), origin.clone())),
            }
        }
        let Some(SourceTable::Database { connection, table }) = target else { return None };
        let columns = named.into_iter().map(|(name, origin)| self.column(name, origin)).collect();
        let target = LineageTarget::Table { connection, table, statement: position };
        Some(ResultLineage { task: self.task.name.clone(), target, columns, rows })
    }

    /// What statements of setup that could not be bound may write to databases.
    pub fn not_set_up(&self, setup: &[String]) -> Vec<ResultLineage> {
        let mut written = Vec::new();
        for (position, text) in setup.iter().enumerate() {
            for (connection, _) in self.task.databases.iter().filter(|(name, writes)| *writes && mentions(text, name)) {
                let target =
                    LineageTarget::Table { connection: connection.clone(), table: "*".to_owned(), statement: position };
                let columns = vec![self.column("*".to_owned(), Origin::unknown(NOT_BOUND))];
                written.push(ResultLineage { task: self.task.name.clone(), target, columns, rows: Sources::default() });
            }
        }
        written
    }

    /// Follows a query. `bound` are the columns that it gives, `kept` those that its result has.
    pub fn query(
        &self,
        bench: &Bench,
        output: &str,
        sql: &str,
        bound: Option<&TableShape>,
        kept: Option<&TableShape>,
    ) -> ResultLineage {
        let statement = sql::query(sql, "the query").ok().filter(|_| bound.is_some());
        let followed = match statement {
            None => Err(NOT_BOUND.to_owned()),
            Some(_) if self.lost.is_some() => Err(self.lost.clone().unwrap_or_default()),
            Some(statement) => self.follow(bench, statement),
        };
        let names: Vec<&str> =
            bound.iter().flat_map(|shape| &shape.columns).map(|column| column.name.as_str()).collect();
        let followed = followed.and_then(|it| {
            let is_whole = it.columns.len() == names.len();
            is_whole.then_some(it).ok_or_else(|| "DuckDB's plan is not understood".to_owned())
        });
        let origin = |name: &str| match &followed {
            Err(lost) => Origin::unknown(lost),
            Ok(followed) => {
                let position = names.iter().position(|it| it.eq_ignore_ascii_case(name));
                let found = position.and_then(|at| followed.columns.get(at));
                found.cloned().unwrap_or_else(|| Origin::unknown("the query does not give it"))
            }
        };
        let mut columns: Vec<ColumnLineage> = kept
            .iter()
            .flat_map(|shape| &shape.columns)
            .map(|column| self.column(column.name.clone(), origin(&column.name)))
            .collect();
        match kept {
            None => columns.push(self.column("*".to_owned(), origin("*"))),
            Some(shape) if shape.open => {
                let mut sources = Sources::default();
                self.open.iter().for_each(|table| sources.extend(&Sources::column(table.clone(), "*")));
                columns.push(ColumnLineage { name: "*".to_owned(), sources, unknown: None });
            }
            Some(_) => {}
        }
        let rows = followed.map(|followed| followed.rows).unwrap_or_default();
        let target = LineageTarget::Output(output.to_owned());
        ResultLineage { task: self.task.name.clone(), target, columns, rows }
    }

    fn follow(&self, bench: &Bench, statement: &str) -> Result<Followed, Lost> {
        if mentions(statement, "getvariable") {
            return Err("it reads a variable of the session".to_owned());
        }
        let (plan, extra) = self.plan(bench, statement)?;
        let mut walk = Walk::new(&self.tables, self.masking);
        let mut columns = origins(walk.columns(&plan)?);
        columns.iter_mut().for_each(|column| column.sources.extend(&extra));
        Ok(Followed { columns, rows: walk.rows })
    }

    /// What is unknown comes from everything.
    fn column(&self, name: String, origin: Origin) -> ColumnLineage {
        let sources = if origin.unknown.is_some() { self.everything.clone() } else { origin.sources };
        ColumnLineage { name, sources, unknown: origin.unknown }
    }

    /// The plan of a statement, and what every column of it may come from besides.
    ///
    /// A plan with open parameters cannot be written down. Each is a subquery that marks it, which is no constant: DuckDB
    /// would compute with one at once, and leave out what it is computed with. Where a constant is demanded it is a
    /// value, and any column may come from what the parameter comes from.
    fn plan(&self, bench: &Bench, statement: &str) -> Result<(Value, Sources), Lost> {
        let named = bind::parameters(statement);
        if named.is_empty() {
            return plan_of(bench, statement).map(|plan| (plan, Sources::default()));
        }
        for untyped in UNTYPED {
            let mark = |scalar: &Scalar| {
                let data_type = scalar.data_type.as_deref().unwrap_or(untyped);
                Some(marked_parameter(&scalar.name.to_lowercase(), data_type))
            };
            if let Some(Ok(plan)) = self.with_values(statement, &named, mark).map(|text| plan_of(bench, &text)) {
                return Ok((plan, Sources::default()));
            }
        }
        let mut besides = Sources::default();
        let is_named = |name: &str| named.iter().any(|(used, _)| used.eq_ignore_ascii_case(name));
        for (_, sources) in self.tables.parameters.iter().filter(|(name, _)| is_named(name)) {
            besides.extend(sources);
        }
        let besides = besides.through(How::Transformation, false);
        for try_number in 0..bind::TRIES {
            let text = self.with_values(statement, &named, |scalar| bind::value(scalar, try_number));
            if let Some(Ok(plan)) = text.map(|text| plan_of(bench, &text)) {
                return Ok((plan, besides));
            }
        }
        Err("DuckDB plans it only with the values of a run".to_owned())
    }

    /// A statement with something in the place of each parameter; `None` where one has nothing.
    fn with_values(
        &self,
        statement: &str,
        named: &[(String, usize)],
        value: impl Fn(&Scalar) -> Option<String>,
    ) -> Option<String> {
        let (mut text, mut at) = (String::new(), 0);
        for (name, start) in named {
            let scalar = self.scalars.iter().find(|scalar| scalar.name.eq_ignore_ascii_case(name))?;
            text.push_str(&statement[at..*start]);
            text.push_str(&value(scalar)?);
            at = start + 1 + scalar.name.len();
        }
        Some(text + &statement[at..])
    }
}

fn plan_of(bench: &Bench, statement: &str) -> Result<Value, Lost> {
    let json: Option<String> = bench.value("SELECT json_serialize_plan(?::VARCHAR)::VARCHAR", statement);
    let json = json.ok_or("DuckDB cannot write its plan down")?;
    let mut tree: Value =
        serde_json::from_str(&json).map_err(|_| "its plan cannot be read; most often it is nested too deep")?;
    match (tree["error"] == false, tree["plans"].as_array_mut().map(Vec::as_mut_slice)) {
        (true, Some([only])) if !only.is_null() => Ok(only.take()),
        _ => Err("DuckDB cannot write its plan down".to_owned()),
    }
}

/// The origins of a table's columns after a statement that writes it.
fn written_columns(plan: &Value, names: &[String], given: Result<Columns, Lost>) -> Vec<Origin> {
    let unknown = |lost: &str| vec![Origin::unknown(lost); names.len()];
    let given = match given {
        Ok(given) => origins(given),
        Err(lost) => return unknown(&lost),
    };
    match plan["type"].as_str() {
        Some("LOGICAL_CREATE_TABLE") if given.is_empty() => vec![Origin::default(); names.len()],
        Some("LOGICAL_CREATE_TABLE") if given.len() == names.len() => given,
        Some("LOGICAL_INSERT") => {
            let map = list(&plan["column_index_map"]["internal_vector"]);
            let at = |position: usize| match map.get(position) {
                None if map.is_empty() => given.get(position).cloned(),
                found => found.and_then(|at| given.get(usize::try_from(at.as_u64()?).ok()?).cloned()),
            };
            (0..names.len()).map(|position| at(position).unwrap_or_default()).collect()
        }
        _ => unknown("a statement of `setup` changes its table in a way that is not followed"),
    }
}

fn column_names(table: &Value) -> Vec<String> {
    let columns = list(&table["columns"]["columns"]);
    columns.iter().filter_map(|column| column["name"].as_str().map(str::to_owned)).collect()
}

fn source_table(origin: &TableOrigin) -> SourceTable {
    match origin {
        TableOrigin::Input(name) => SourceTable::Input(name.clone()),
        TableOrigin::Result { task, output } => SourceTable::Result { task: task.clone(), output: output.clone() },
        TableOrigin::Loaded { task } => SourceTable::Loaded { task: task.clone() },
    }
}
