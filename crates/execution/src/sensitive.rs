//! Sensitive columns that would leave: by a published dataset, an export, a load, a report, a message, a scalar output.

use std::collections::BTreeSet;

use pintail_api as api;
use pintail_plan::expression::{Expression, ScopeName, Template};
use pintail_plan::{
    BindingValue, FieldPath, InputKind, OutputValue, Plan, PlannedTask, PlannedWork, Problem, ResultKind, Rule,
};
use pintail_protocol::{ColumnLineage, LineageTarget, ResultLineage, SourceTable, Sources, plain_table};

use crate::lineage::columns_named;
use crate::run::Connections;
use crate::scope::MAIN_RESULT;

/// Columns that leave together.
struct Exit<'a> {
    path: FieldPath,
    /// As in "column `a` of …".
    what: String,
    columns: Vec<ColumnLineage>,
    releases: &'a [String],
    /// Where to say them; `None` where nothing can be released.
    releases_path: Option<FieldPath>,
}

/// Every sensitive column that would leave unmasked and is not released. `lineage` is that of [`crate::lineage::trace`].
#[must_use]
pub fn sensitive_problems(
    workflow: &api::Workflow,
    plan: &Plan,
    connections: &Connections,
    lineage: &[ResultLineage],
) -> Vec<Problem> {
    let found = Found { workflow, plan, connections, lineage };
    let mut exits = found.of_outputs();
    for (position, task) in plan.tasks.iter().enumerate() {
        let path = FieldPath::root().field("spec").field("tasks").index(position);
        exits.extend(found.of_task(task, workflow.spec.tasks.get(position), &path));
    }
    exits.iter().flat_map(|exit| found.problems(exit)).chain(unknown_releases(&exits)).collect()
}

struct Found<'a> {
    workflow: &'a api::Workflow,
    plan: &'a Plan,
    connections: &'a Connections,
    lineage: &'a [ResultLineage],
}

impl<'a> Found<'a> {
    fn of_outputs(&self) -> Vec<Exit<'a>> {
        let root = FieldPath::root().field("spec").field("outputs");
        let mut exits = Vec::new();
        for (position, output) in self.workflow.spec.outputs.iter().flatten().enumerate() {
            let Some(planned) = self.plan.outputs.iter().find(|it| it.name == output.name) else { continue };
            let path = root.index(position);
            let (what, columns) = match (&planned.value, &planned.publish) {
                (OutputValue::Result(task, result), Some(publish)) => {
                    (format!("dataset `{}`", publish.artifact), self.result(self.task_name(task.0), result))
                }
                (OutputValue::Scalar(expression), _) => {
                    (format!("output `{}`", output.name), self.of_expression(expression))
                }
                _ => continue,
            };
            exits.push(Exit {
                what,
                columns,
                releases: &output.releases,
                releases_path: Some(path.field("releases")),
                path: path.field("value"),
            });
        }
        exits
    }

    fn of_task(&self, task: &PlannedTask, spec: Option<&'a api::Task>, path: &FieldPath) -> Vec<Exit<'a>> {
        let Some(spec) = spec else { return Vec::new() };
        if let (PlannedWork::DuckDb { load, .. }, Some(duckdb)) = (&task.work, &spec.duckdb) {
            return self.of_duckdb(task, load.as_deref(), duckdb, &path.field("duckdb"));
        }
        let (field, releases) = match (&spec.export, &spec.notify, &spec.report) {
            (Some(export), ..) => ("export", &export.releases),
            (_, Some(notify), _) => ("notify", &notify.releases),
            (.., Some(report)) => ("report", &report.releases),
            _ => return Vec::new(),
        };
        let path = path.field(field);
        let exit = |at: FieldPath, what: String, columns: Vec<ColumnLineage>| Exit {
            path: at,
            what,
            columns,
            releases,
            releases_path: Some(path.field("releases")),
        };
        let text = |at: FieldPath, what: &str, template: &Template| {
            exit(at, what.to_owned(), template.expressions().flat_map(|it| self.of_expression(it)).collect())
        };
        match &task.work {
            PlannedWork::Export { table, connection, path: file, .. } => vec![
                exit(path.field("table"), format!("the export to `{connection}`"), self.table(task, table)),
                text(path.field("to").field("path"), "the name of the exported file", file),
            ],
            PlannedWork::Notify { to, subject, body, attach, .. } => {
                let mut exits = vec![
                    text(path.field("subject"), "the message's subject", subject),
                    text(path.field("body"), "the message", body),
                ];
                for (position, address) in to.iter().enumerate() {
                    exits.push(text(path.field("to").index(position), "the message's addresses", address));
                }
                for (position, (table, name)) in attach.iter().enumerate() {
                    let at = path.field("attach").index(position);
                    exits.push(exit(at.field("table"), format!("the attached `{table}`"), self.table(task, table)));
                    exits.push(text(at.field("as"), "the name of an attachment", name));
                }
                exits
            }
            PlannedWork::Report { title, text: below, charts, tables } => {
                let mut exits = vec![
                    text(path.field("title"), "the report's title", title),
                    text(path.field("text"), "the report's text", below),
                ];
                for (position, (chart, title)) in charts.iter().enumerate() {
                    let at = path.field("charts").index(position);
                    let drawn = |column: &ColumnLineage| column.name == "*" || is_drawn(chart, &column.name);
                    let columns = self.table(task, &chart.table).into_iter().filter(drawn).collect();
                    exits.push(exit(at.field("table"), format!("a chart of `{}`", chart.table), columns));
                    exits.push(text(at.field("title"), "a chart's title", title));
                }
                for (position, (table, title)) in tables.iter().enumerate() {
                    let at = path.field("tables").index(position);
                    let what = format!("the report's table `{}`", table.table);
                    exits.push(exit(at.field("table"), what, self.table(task, &table.table)));
                    exits.push(text(at.field("title"), "a table's title", title));
                }
                exits
            }
            PlannedWork::DuckDb { .. } | PlannedWork::Copy { .. } => Vec::new(),
        }
    }

    /// What a load and statements of setup write to databases.
    fn of_duckdb(
        &self,
        task: &PlannedTask,
        load: Option<&pintail_plan::PlannedLoad>,
        duckdb: &'a api::DuckDbTask,
        path: &FieldPath,
    ) -> Vec<Exit<'a>> {
        let mut exits = Vec::new();
        if let (Some(load), Some(spec)) = (load, &duckdb.load) {
            exits.push(Exit {
                path: path.field("load").field("into"),
                what: format!("the load into `{}.{}`", load.connection, load.table),
                columns: self.result(&task.name, MAIN_RESULT),
                releases: &spec.releases,
                releases_path: Some(path.field("load").field("releases")),
            });
        }
        for result in self.lineage.iter().filter(|result| result.task == task.name) {
            let LineageTarget::Table { connection, table, statement } = &result.target else { continue };
            exits.push(Exit {
                path: path.field("setup").index(*statement),
                what: format!("what the statement writes to `{connection}.{table}`"),
                columns: result.columns.clone(),
                releases: &[],
                releases_path: None,
            });
        }
        exits
    }

    fn task_name(&self, index: u32) -> &'a str {
        self.plan.tasks.get(index as usize).map_or("", |task| task.name.as_str())
    }

    fn result(&self, task: &str, output: &str) -> Vec<ColumnLineage> {
        let is_it = |it: &&ResultLineage| it.task == task && it.target == LineageTarget::Output(output.to_owned());
        self.lineage.iter().find(is_it).map(|it| it.columns.clone()).unwrap_or_default()
    }

    /// The columns of one of a task's tables.
    fn table(&self, task: &PlannedTask, name: &str) -> Vec<ColumnLineage> {
        match task.bindings.iter().find(|binding| binding.name == name).map(|binding| &binding.value) {
            Some(BindingValue::InputTable(input)) => self.input(input),
            Some(BindingValue::TaskTable(task, output)) => self.result(self.task_name(task.0), output),
            Some(BindingValue::LoadedTable { task, connection, table }) => {
                let mut columns = self.result(self.task_name(task.0), MAIN_RESULT);
                let declared =
                    self.connections.get(connection).into_iter().flat_map(|it| it.spec.tables.iter().flatten());
                let same = declared.filter(|declared| plain_table(&declared.name) == plain_table(table));
                for column in same.flat_map(|declared| &declared.columns) {
                    let source = SourceTable::Database { connection: connection.clone(), table: plain_table(table) };
                    columns.push(itself(source, &column.name));
                }
                columns
            }
            _ => Vec::new(),
        }
    }

    fn input(&self, name: &str) -> Vec<ColumnLineage> {
        let input = self.plan.inputs.iter().find(|input| input.name == name);
        let Some(InputKind::Table { contract: Some(contract) }) = input.map(|input| &input.kind) else {
            return Vec::new();
        };
        let column = |column: &api::Column| itself(SourceTable::Input(name.to_owned()), &column.name);
        contract.columns.iter().map(column).collect()
    }

    /// The columns of rows of values that an expression reads.
    fn of_expression(&self, expression: &Expression) -> Vec<ColumnLineage> {
        let mut columns = Vec::new();
        for (task, output, column) in values_of(self.plan, expression) {
            let result =
                self.lineage.iter().find(|it| it.task == task && it.target == LineageTarget::Output(output.clone()));
            columns.extend(result.into_iter().flat_map(|it| columns_named(it, &column)).cloned());
        }
        columns
    }

    fn is_sensitive(&self, table: &SourceTable, column: &str) -> bool {
        let is_column =
            |name: &str, sensitive: Option<bool>| sensitive.unwrap_or_default() && name.eq_ignore_ascii_case(column);
        match table {
            SourceTable::Input(name) => {
                let input = self.plan.inputs.iter().find(|input| input.name == *name);
                let Some(InputKind::Table { contract: Some(contract) }) = input.map(|input| &input.kind) else {
                    return false;
                };
                contract.columns.iter().any(|column| is_column(&column.name, column.sensitive))
            }
            SourceTable::Database { connection, table } => {
                let tables =
                    self.connections.get(connection).into_iter().flat_map(|it| it.spec.tables.iter().flatten());
                tables
                    .filter(|declared| plain_table(&declared.name) == *table)
                    .flat_map(|declared| &declared.columns)
                    .any(|column| is_column(&column.name, column.sensitive))
            }
            SourceTable::Result { .. } | SourceTable::Loaded { .. } => false,
        }
    }

    /// The sensitive columns whose values a column has.
    fn leaks(&self, sources: &Sources) -> Vec<String> {
        let leak =
            sources.iter().filter(|it| it.how.is_value() && !it.masked && self.is_sensitive(&it.table, &it.column));
        leak.map(|source| format!("`{}.{}`", table_text(&source.table), source.column)).collect()
    }

    fn problems(&self, exit: &Exit<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let is_released = |name: &str| exit.releases.iter().any(|released| released.eq_ignore_ascii_case(name));
        let mut seen: Vec<&str> = Vec::new();
        for column in exit.columns.iter().filter(|column| !is_released(&column.name)) {
            let leaks = self.leaks(&column.sources);
            if leaks.is_empty() || seen.contains(&column.name.as_str()) {
                continue;
            }
            seen.push(&column.name);
            let from = leaks.join(", ");
            let are = if leaks.len() == 1 { "which is sensitive" } else { "which are sensitive" };
            let name = if column.name == "*" { "a column".to_owned() } else { format!("column `{}`", column.name) };
            let message = match &column.unknown {
                None => format!("{name} of {} comes from {from}, {are}", exit.what),
                Some(reason) => format!(
                    "where {name} of {} comes from cannot be known ({reason}), so it counts as coming from {from}, {are}",
                    exit.what
                ),
            };
            let problem = Problem::new(Rule::SensitiveColumn, exit.path.clone(), message);
            problems.push(problem.suggest(Some(mend(exit, &column.name))));
        }
        problems
    }
}

/// How to keep a column in, or let it out.
fn mend(exit: &Exit<'_>, column: &str) -> String {
    if column == "*" {
        return "`columns` of the query's output, so that each can be masked or released".to_owned();
    }
    let masked = format!("`sha256({column})` in the query");
    match &exit.releases_path {
        Some(path) => format!("{masked}; or `releases: [{column}]` at {}, if it may leave", parent(path)),
        None => format!("{masked}; or a `load`, which can say what it releases"),
    }
}

/// `spec.outputs[0]` of `spec.outputs[0].releases`.
fn parent(path: &FieldPath) -> String {
    let text = path.to_string();
    text.strip_suffix(".releases").map_or_else(|| text.clone(), str::to_owned)
}

/// Names under `releases` that nothing which leaves there has.
fn unknown_releases(exits: &[Exit<'_>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen: Vec<&FieldPath> = Vec::new();
    for exit in exits {
        let Some(path) = exit.releases_path.as_ref().filter(|path| !seen.contains(path)) else { continue };
        seen.push(path);
        let together = exits.iter().filter(|other| other.releases_path.as_ref() == Some(path));
        let names: BTreeSet<&str> = together.flat_map(|it| &it.columns).map(|column| column.name.as_str()).collect();
        if names.contains("*") {
            continue;
        }
        for (position, released) in exit.releases.iter().enumerate() {
            if !names.iter().any(|name| name.eq_ignore_ascii_case(released)) {
                let names: Vec<&str> = names.iter().copied().collect();
                let message = format!("no column `{released}` leaves here; there are {}", names.join(", "));
                problems.push(Problem::new(Rule::UnknownColumn, path.index(position), message));
            }
        }
    }
    problems
}

fn is_drawn(chart: &api::Chart, column: &str) -> bool {
    let drawn = std::iter::once(&chart.x_column).chain(&chart.y_columns).chain(&chart.color_column);
    drawn.into_iter().any(|it| it.eq_ignore_ascii_case(column))
}

fn itself(table: SourceTable, column: &str) -> ColumnLineage {
    ColumnLineage { name: column.to_owned(), sources: Sources::column(table, column), unknown: None }
}

/// As a message names it.
#[must_use]
pub fn table_text(table: &SourceTable) -> String {
    match table {
        SourceTable::Input(name) => name.clone(),
        SourceTable::Result { task, output } if output == MAIN_RESULT => task.clone(),
        SourceTable::Result { task, output } => format!("{task}.{output}"),
        SourceTable::Loaded { task } => task.clone(),
        SourceTable::Database { connection, table } => format!("{connection}.{table}"),
    }
}

/// The columns of rows of values that an expression reads: task, output and column; `*` for a whole row.
pub(crate) fn values_of(plan: &Plan, expression: &Expression) -> Vec<(String, String, String)> {
    let mut columns = Vec::new();
    for reference in expression.references().iter().filter(|it| it.scope == ScopeName::Tasks) {
        let path: Vec<&str> = reference.path.iter().map(String::as_str).collect();
        let Some(task) = path.first().and_then(|name| plan.tasks.iter().find(|task| task.name == **name)) else {
            continue;
        };
        let is_values =
            |name: &str| task.results.iter().any(|result| result.name == name && result.kind == ResultKind::Values);
        let (output, column) = match path.as_slice() {
            [_, output, rest @ ..] if is_values(output) => (*output, rest.first()),
            [_, rest @ ..] if is_values(MAIN_RESULT) => (MAIN_RESULT, rest.first()),
            _ => continue,
        };
        columns.push((task.name.clone(), output.to_owned(), column.map_or("*", |it| *it).to_owned()));
    }
    columns
}
