//! One task: its tables, its setup, its queries.

use pintail_protocol::{
    CheckDatabase, CheckPlace, CheckQuery, CheckRule, CheckTask, CheckWork, DatabaseTable, Load, OutputKind,
    ParameterType, ResultColumn, TableShape, plain_table,
};

use super::bench::{Bench, canonical};
use super::bind::{self, Scalar};
use super::fault::{Around, Fault};
use super::lineage::Lineage;
use super::names::nearest;
use super::{Flow, Problem, columns, compare};
use crate::delivered::{delivered, delivered_columns};
use crate::failure::TaskFailure;
use crate::sql::{self, TokenKind, Tokens, identifier};

pub(super) fn check<'a>(bench: &mut Bench, flow: &mut Flow<'a>, task: &'a CheckTask) -> Result<(), TaskFailure> {
    match &task.work {
        CheckWork::Columns(named) => columns::named(flow, task, named),
        CheckWork::DuckDb { setup, queries, load } => {
            let scope = Scope::of(flow, task, load.as_deref());
            scope.check_parameters(flow, setup, queries);
            scope.note_unknown(flow, setup, queries);
            let databases: Vec<CheckDatabase> =
                scope.databases.iter().filter(|database| database.tables.is_some()).cloned().collect();
            let known: Vec<(&str, &[ResultColumn])> = scope
                .tables
                .iter()
                .filter_map(|(name, shape)| Some((name.as_str(), shape.as_ref()?.columns.as_slice())))
                .collect();
            bench.set_up(&databases, &known)?;
            let mut lineage = Lineage::of(flow, &scope);
            let is_ready = set_up(bench, flow, &scope, setup, &mut lineage);
            if !is_ready {
                flow.response.lineage.extend(lineage.not_set_up(setup));
            }
            for query in queries {
                scope.query(bench, flow, query, load.as_deref(), &lineage, is_ready)?;
            }
            if !setup.is_empty() {
                bench.renew()?;
            }
        }
    }
    Ok(())
}

/// What the SQL of a task may name.
pub(super) struct Scope<'a> {
    pub task: &'a CheckTask,
    pub tables: Vec<(String, Option<TableShape>)>,
    pub databases: Vec<CheckDatabase>,
    pub scalars: Vec<Scalar>,
}

impl<'a> Scope<'a> {
    fn of(flow: &Flow<'a>, task: &'a CheckTask, load: Option<&Load>) -> Self {
        let databases = task.databases.iter().filter_map(|(name, _)| flow.databases.get(name.as_str()).cloned());
        let mut scalars: Vec<Scalar> = task
            .parameters
            .iter()
            .map(|parameter| Scalar {
                name: parameter.name.clone(),
                data_type: match &parameter.data_type {
                    ParameterType::Known(data_type) => Some(data_type.clone()),
                    ParameterType::Column { task, output, column } => {
                        let shape = flow.results.get(&(task.as_str(), output.as_str())).cloned().flatten();
                        shape.and_then(|shape| {
                            super::names::find(&shape.columns, column).map(|column| column.data_type.clone())
                        })
                    }
                    ParameterType::Unknown => None,
                },
                example: parameter.example.clone(),
            })
            .collect();
        let bound = load.and_then(|load| load.watermark.as_ref()?.bind.clone());
        scalars.extend(bound.map(|name| Scalar { name, data_type: None, example: None }));
        Self { task, tables: flow.tables(task), databases: databases.collect(), scalars }
    }

    /// Every `$name` is given, and every scalar that is given is used.
    fn check_parameters(&self, flow: &mut Flow<'_>, setup: &[String], queries: &[CheckQuery]) {
        let mut used: Vec<String> = Vec::new();
        for (place, text) in texts(setup, queries) {
            for (name, offset) in bind::parameters(text) {
                let is_given = self.scalars.iter().any(|scalar| scalar.name.eq_ignore_ascii_case(&name));
                if !is_given && !used.contains(&name) {
                    flow.found(self.task, place.clone(), self.unknown_parameter(flow, &name).at(offset));
                }
                used.push(name);
            }
        }
        let is_used = |name: &str| used.iter().any(|used| used.eq_ignore_ascii_case(name));
        for parameter in self.task.parameters.iter().filter(|it| it.is_named && !is_used(&it.name)) {
            let message = format!("the task's SQL does not use `${}`", parameter.name);
            let problem = Problem::new(CheckRule::UnusedParameter, message);
            flow.found(self.task, CheckPlace::Binding(parameter.name.clone()), problem);
        }
        let CheckWork::DuckDb { load: Some(load), .. } = &self.task.work else { return };
        if let Some(name) = load.watermark.as_ref().and_then(|watermark| watermark.bind.as_ref())
            && !is_used(name)
        {
            let message = format!("the query does not filter by `${name}`, so that every load takes all rows");
            let problem = Problem::new(CheckRule::UnusedParameter, message);
            flow.found(self.task, CheckPlace::WatermarkBind, problem);
        }
    }

    fn unknown_parameter(&self, flow: &Flow<'_>, name: &str) -> Problem {
        if name.is_empty() {
            let message = "a parameter has no name; parameters are named, as `$min_quantity`";
            return Problem::new(CheckRule::UnknownParameter, message);
        }
        let near = nearest(name, self.scalars.iter().map(|scalar| scalar.name.as_str()));
        let other = flow.request.scalars.iter().find(|scalar| scalar.eq_ignore_ascii_case(name));
        let meant = match (near, other) {
            (_, Some(other)) => Some(format!("`uses: [{other}]`")),
            (Some(near), None) => Some(format!("`${near}`")),
            (None, None) => {
                let near = nearest(name, flow.request.scalars.iter().map(String::as_str));
                near.map(|near| format!("`${near}`, with `uses: [{near}]`"))
            }
        };
        Problem::new(CheckRule::UnknownParameter, format!("nothing gives the parameter `${name}`")).suggest(meant)
    }

    /// Says of what the SQL names and nothing is known that it is not checked.
    fn note_unknown(&self, flow: &mut Flow<'_>, setup: &[String], queries: &[CheckQuery]) {
        let mentions = |name: &str| texts(setup, queries).any(|(_, text)| mentions(text, name));
        for database in self.databases.iter().filter(|database| database.tables.is_none() && mentions(&database.name)) {
            let message = format!(
                "the tables of connection `{}` are not known, so what reads them is not checked; say them under `tables`",
                database.name
            );
            let place = CheckPlace::Database(database.name.clone());
            flow.note(
                self.task,
                &format!("database {}", database.name),
                place,
                Problem::new(CheckRule::NotChecked, message),
            );
        }
        for table in &self.task.tables {
            let pintail_protocol::TableOrigin::Input(input) = &table.origin else { continue };
            if flow.shape(&table.origin).is_none() && mentions(&table.name) {
                let message = format!(
                    "the columns of input `{input}` are not known, so what reads it is not checked; say them under `columns`"
                );
                let place = CheckPlace::Binding(table.name.clone());
                flow.note(self.task, &format!("input {input}"), place, Problem::new(CheckRule::NotChecked, message));
            }
        }
    }

    fn is_known(&self, text: &str) -> bool {
        let tables = self.tables.iter().filter(|(_, shape)| shape.is_none()).map(|(name, _)| name);
        let databases = self.databases.iter().filter(|it| it.tables.is_none()).map(|it| &it.name);
        !tables.chain(databases).any(|name| mentions(text, name))
    }

    fn problem(&self, bench: &Bench, flow: &Flow<'_>, fault: &Fault, text: &str) -> Problem {
        let uses = |name: &str| self.tables.iter().any(|(table, _)| table == name);
        let inputs = flow.request.inputs.iter().map(|input| input.name.as_str());
        let unused = inputs.chain(flow.request.tasks.iter().map(|task| task.name.as_str()));
        let attached = |name: &str| self.databases.iter().any(|database| database.name == name);
        let of_databases = self.databases.iter().flat_map(|database| {
            let tables = database.tables.iter().flatten();
            tables.map(|table| (format!("{}.{}", database.name, table.name), table.columns.as_slice()))
        });
        // Only tables that the text names, unless it names none.
        let tables = self.tables.iter().filter_map(|(name, shape)| Some((name.as_str(), shape.as_ref()?)));
        let tables: Vec<(&str, &[ResultColumn])> =
            tables.map(|(name, shape)| (name, shape.columns.as_slice())).collect();
        let of_databases: Vec<(String, &[ResultColumn])> = of_databases.collect();
        let in_text = |name: &str| mentions(text, name.rsplit('.').next().unwrap_or(name));
        let is_column = fault.is_unknown_column();
        let around = Around {
            tables: tables.into_iter().filter(|(name, _)| !is_column || in_text(name)).collect(),
            database_tables: of_databases.into_iter().filter(|(name, _)| !is_column || in_text(name)).collect(),
            unused: unused.filter(|name| !uses(name)).collect(),
            functions: if fault.is_unknown_function() { bench.function_names() } else { Vec::new() },
            unattached: flow.databases.keys().copied().filter(|name| !attached(name)).collect(),
        };
        fault.problem(text, &around)
    }

    fn query(
        &self,
        bench: &Bench,
        flow: &mut Flow<'a>,
        query: &'a CheckQuery,
        load: Option<&Load>,
        lineage: &Lineage<'a>,
        is_ready: bool,
    ) -> Result<(), TaskFailure> {
        let shape = if is_ready { self.shape_of(bench, flow, query) } else { None };
        let bound = shape.clone();
        let keep = |flow: &mut Flow<'a>, kept: Option<&TableShape>| {
            flow.response.lineage.push(lineage.query(bench, &query.output, &query.sql, bound.as_ref(), kept));
        };
        if let Some(load) = load.filter(|_| query.output == "result") {
            keep(flow, shape.as_ref());
            self.load(flow, load, shape.as_ref());
            return Ok(());
        }
        let contract = query.contract.as_ref().map(|contract| {
            let mut contract = contract.clone();
            for column in &mut contract.columns {
                let known = canonical(bench, &column.data_type).unwrap_or_else(|| column.data_type.clone());
                column.data_type = if query.kind == OutputKind::Table { delivered(&known) } else { known };
            }
            contract
        });
        let kept = shape.map(|shape| match query.kind {
            OutputKind::Table => TableShape { columns: delivered_columns(&shape.columns), open: shape.open },
            _ => shape,
        });
        let Some(contract) = contract else {
            keep(flow, kept.as_ref());
            flow.result(&self.task.name, &query.output, kept);
            return Ok(());
        };
        if let Some(kept) = kept.as_ref().filter(|kept| !kept.open) {
            for (place, problem) in columns::broken_contract(query, &contract, &kept.columns) {
                flow.found(self.task, place, problem);
            }
        }
        let kept = columns::under_contract(&contract, kept.as_ref());
        keep(flow, Some(&kept));
        flow.result(&self.task.name, &query.output, Some(kept));
        Ok(())
    }

    /// The columns that a query gives; reports what is wrong with it.
    fn shape_of(&self, bench: &Bench, flow: &mut Flow<'a>, query: &CheckQuery) -> Option<TableShape> {
        let place = CheckPlace::Query(query.output.clone());
        let statement = match sql::query(&query.sql, "the query") {
            Ok(statement) => statement,
            Err(failure) => {
                let problem = not_one(bench, &query.sql, &failure, "Write one query");
                flow.found(self.task, place, problem);
                return None;
            }
        };
        let before = statement.as_ptr() as usize - query.sql.as_ptr() as usize;
        if !self.is_known(statement) {
            if let Err(fault) = bench.prepare(statement)
                && fault.is_syntax()
            {
                flow.found(self.task, place, shifted(self.problem(bench, flow, &fault, statement), before));
            }
            return None;
        }
        let found = match bind::columns(bench, statement, &self.scalars) {
            Ok(found) => found,
            Err(fault) => {
                self.report(bench, flow, place, &fault, statement, before);
                return None;
            }
        };
        for problem in compare::check(bench, statement, &self.scalars) {
            flow.found(self.task, place.clone(), shifted(problem, before));
        }
        let columns = found?;
        if is_pivot(statement) && compare::tree(bench, statement).is_none() {
            let message = "the columns of a PIVOT without IN hang on the data, so what reads them is not checked; list \
                           the values, or declare the output's `columns`";
            if query.contract.is_none() {
                let problem = Problem::new(CheckRule::NotChecked, message).at(before);
                flow.note(self.task, &format!("pivot {}.{}", self.task.name, query.output), place, problem);
            }
            return None;
        }
        let is_open = self
            .tables
            .iter()
            .any(|(name, shape)| shape.as_ref().is_some_and(|shape| shape.open) && mentions(statement, name));
        let takes_all = || compare::tree(bench, statement).is_none_or(|tree| compare::has_star(&tree));
        Some(TableShape { columns, open: is_open && takes_all() })
    }

    /// Reports a fault, unless the text names a column that a table may have beyond those that are known.
    fn report(&self, bench: &Bench, flow: &mut Flow<'a>, place: CheckPlace, fault: &Fault, text: &str, before: usize) {
        let open = self
            .tables
            .iter()
            .find(|(name, shape)| shape.as_ref().is_some_and(|shape| shape.open) && mentions(text, name));
        match open {
            Some((name, _)) if fault.is_unknown_column() => {
                let message = format!(
                    "`{name}` may have further columns, so this query is not checked; say those that it needs under `columns`"
                );
                let problem = Problem::new(CheckRule::NotChecked, message).at(before + fault.offset().unwrap_or(0));
                flow.note(self.task, &format!("open {}", self.task.name), place, problem);
            }
            _ => flow.found(self.task, place, shifted(self.problem(bench, flow, fault, text), before)),
        }
    }

    /// Checks a load's columns, and makes its table known to the tasks after it.
    fn load(&self, flow: &mut Flow<'a>, load: &Load, query: Option<&TableShape>) {
        let exact = query.filter(|query| !query.open);
        if let Some(query) = exact {
            for (place, problem) in columns::load_columns(load, &query.columns) {
                flow.found(self.task, place, problem);
            }
        }
        let table_name = match &load.schema {
            Some(schema) => format!("{schema}.{}", load.table),
            None => load.table.clone(),
        };
        let database = flow.databases.get(load.connection.as_str()).cloned();
        let is_same = |table: &&DatabaseTable| plain_table(&table.name) == plain_table(&table_name);
        let there = database.as_ref().and_then(|it| it.tables.iter().flatten().find(is_same).cloned());
        if let Some(table) = there {
            if let Some(query) = exact {
                for (place, problem) in columns::load_table(load, &query.columns, &table) {
                    flow.found(self.task, place, problem);
                }
            }
            flow.loaded.insert(&self.task.name, Some(TableShape { columns: table.columns, open: false }));
            return;
        }
        let is_postgres = database.is_some_and(|it| it.kind == pintail_protocol::DatabaseKind::Postgres);
        let shape = query.map(|query| {
            let stored = |column: &ResultColumn| ResultColumn {
                name: column.name.clone(),
                data_type: if is_postgres { delivered(&column.data_type) } else { column.data_type.clone() },
            };
            let stamp =
                load.stamp.iter().map(|stamp| ResultColumn { name: stamp.clone(), data_type: "TIMESTAMP".to_owned() });
            TableShape { columns: query.columns.iter().map(stored).chain(stamp).collect(), open: query.open }
        });
        if let (Some(shape), Some(tables)) = (
            shape.as_ref().filter(|shape| !shape.open),
            flow.databases.get_mut(load.connection.as_str()).and_then(|database| database.tables.as_mut()),
        ) {
            tables.push(DatabaseTable { name: table_name, columns: shape.columns.clone() });
        }
        flow.loaded.insert(&self.task.name, shape);
    }
}

/// Runs the statements before the queries, on the empty tables; says whether the queries can be bound then.
fn set_up(bench: &Bench, flow: &mut Flow<'_>, scope: &Scope<'_>, setup: &[String], lineage: &mut Lineage<'_>) -> bool {
    for (position, text) in setup.iter().enumerate() {
        let place = CheckPlace::Setup(position);
        let statement = match sql::setup(text, "the statement") {
            Ok(statement) => statement,
            Err(failure) => {
                flow.found(scope.task, place, not_one(bench, text, &failure, "Write one entry a statement"));
                return false;
            }
        };
        let before = statement.as_ptr() as usize - text.as_ptr() as usize;
        if !scope.is_known(statement) {
            return false;
        }
        if let Some(problem) = writes_what_it_reads(scope, statement) {
            flow.found(scope.task, place, shifted(problem, before));
            return false;
        }
        flow.response.lineage.extend(lineage.set_up(bench, statement, position));
        match prepare(bench, scope, statement) {
            Ok(()) => {}
            Err(fault) if fault.is_about_text() => {
                let problem = scope.problem(bench, flow, &fault, statement);
                flow.found(scope.task, place, shifted(problem, before));
                return false;
            }
            Err(_) => return false,
        }
    }
    true
}

/// Carries a setup statement out as far as it makes something; rows are none.
fn prepare(bench: &Bench, scope: &Scope<'_>, statement: &str) -> Result<(), Fault> {
    bench.prepare(statement)?;
    if let Some(parts) = sql::table_from_query(statement) {
        let before = parts.query.as_ptr() as usize - statement.as_ptr() as usize;
        let columns = bind::bound(bench, parts.query, &scope.scalars).map_err(|fault| fault.moved_back(before))?;
        let columns: Vec<String> = columns
            .unwrap_or_default()
            .iter()
            .map(|column| format!("{} {}", identifier(&column.name), column.data_type))
            .collect();
        return bench.execute(&format!("{} ({})", parts.head, columns.join(", ")));
    }
    let word = first_word(statement);
    if matches!(word.as_str(), "CREATE" | "ALTER" | "DROP") || (word == "SET" && bind::parameters(statement).is_empty())
    {
        return bench.execute(statement);
    }
    Ok(())
}

pub(super) fn first_word(statement: &str) -> String {
    let mut words = Tokens::new(statement).filter(|token| token.kind == TokenKind::Word);
    words.next().map(|token| statement[token.start..token.end].to_ascii_uppercase()).unwrap_or_default()
}

/// A statement that changes a database which is attached read-only.
fn writes_what_it_reads(scope: &Scope<'_>, statement: &str) -> Option<Problem> {
    const TARGET_WORDS: [&str; 6] = ["INTO", "UPDATE", "TABLE", "VIEW", "SCHEMA", "SEQUENCE"];
    let visible: Vec<_> = Tokens::new(statement).filter(|token| token.kind != TokenKind::Blank).collect();
    let word = |index: usize| visible.get(index).map_or("", |token| &statement[token.start..token.end]);
    let first = first_word(statement);
    if !["INSERT", "UPDATE", "DELETE", "MERGE", "CREATE", "ALTER", "DROP", "TRUNCATE"].contains(&first.as_str()) {
        return None;
    }
    let is_target = |index: &usize| {
        let word = word(*index).to_ascii_uppercase();
        TARGET_WORDS.contains(&word.as_str()) || (first == "DELETE" && word == "FROM")
    };
    let mut at = (0..visible.len()).find(is_target)? + 1;
    while ["IF", "NOT", "EXISTS"].contains(&word(at).to_ascii_uppercase().as_str()) {
        at += 1;
    }
    let name = word(at).trim_matches('"');
    let (_, writes) = scope.task.databases.iter().find(|(database, _)| word(at + 1) == "." && database == name)?;
    if *writes {
        return None;
    }
    let message = format!("the task only reads the connection `{name}`");
    let problem = Problem::new(CheckRule::UndeclaredDatabase, message).suggest(Some(format!("`writes: [{name}]`")));
    Some(problem.at(visible[at].start))
}

/// Several statements, none, or one that a task may not run; or text that is no SQL.
fn not_one(bench: &Bench, text: &str, failure: &TaskFailure, advice: &str) -> Problem {
    let statements = sql::statements(text);
    let offset = |statement: &str| statement.as_ptr() as usize - text.as_ptr() as usize;
    match statements.as_slice() {
        [] => Problem::new(CheckRule::OneStatement, "there is no statement here"),
        [one] => match bench.prepare(one) {
            Err(fault) if fault.is_syntax() => shifted(fault.problem(one, &Around::default()), offset(one)),
            _ => Problem::new(CheckRule::StatementNotAllowed, failure.message.clone()).at(offset(one)),
        },
        [_, second, ..] => {
            let message = format!(
                "there are {} statements here. {advice}; what runs before the query goes to `setup`",
                statements.len()
            );
            Problem::new(CheckRule::OneStatement, message).at(offset(second))
        }
    }
}

fn shifted(problem: Problem, before: usize) -> Problem {
    let offset = problem.offset.map_or(before, |offset| offset + before);
    problem.at(offset)
}

/// The texts of a task, in the order in which they run.
fn texts<'t>(setup: &'t [String], queries: &'t [CheckQuery]) -> impl Iterator<Item = (CheckPlace, &'t str)> {
    let setup = setup.iter().enumerate().map(|(position, text)| (CheckPlace::Setup(position), text.as_str()));
    setup.chain(queries.iter().map(|query| (CheckPlace::Query(query.output.clone()), query.sql.as_str())))
}

/// Whether a text names something, quoted or not.
pub(super) fn mentions(text: &str, name: &str) -> bool {
    Tokens::new(text)
        .filter(|token| token.kind != TokenKind::Blank)
        .any(|token| text[token.start..token.end].trim_matches('"').eq_ignore_ascii_case(name))
}

fn is_pivot(statement: &str) -> bool {
    mentions(statement, "PIVOT")
}
