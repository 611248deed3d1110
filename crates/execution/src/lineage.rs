//! Where the columns of a workflow's results come from in the end: table inputs, and tables of databases.

use std::collections::{BTreeMap, BTreeSet};

use pintail_api as api;
use pintail_plan::{BindingValue, Plan, PlannedWork};
use pintail_protocol::{ColumnLineage, ColumnSource, LineageTarget, ResultLineage, SourceTable, Sources, plain_table};

use crate::run::Connections;
use crate::scope::MAIN_RESULT;

/// The functions that mask where an installation does not say which.
pub const MASKING: [&str; 2] = ["md5", "sha256"];

/// The lineage of every result, followed through the tasks before it.
///
/// `steps` is what a checker found of each result, a step back. A table of a database comes from what the workflow loads
/// into it, and from itself where it holds other rows too.
#[must_use]
pub fn trace(plan: &Plan, connections: &Connections, steps: &[ResultLineage]) -> Vec<ResultLineage> {
    let written = Written::of(plan, connections, steps);
    let mut traced: Vec<ResultLineage> = Vec::new();
    // A task may read a table that it or a later one loads. Each round follows one more of such circles.
    for _ in 0..=steps.len() {
        let next: Vec<ResultLineage> = steps.iter().map(|step| traced_one(plan, &written, &traced, step)).collect();
        if next == traced {
            break;
        }
        traced = next;
    }
    traced
}

/// Connection and table.
type DatabaseTable = (String, String);

/// What the workflow writes to databases.
struct Written {
    /// Tables, and the results that go there.
    tables: BTreeMap<DatabaseTable, Vec<(String, LineageTarget)>>,
    /// Of these, those that hold other rows too.
    kept: BTreeSet<DatabaseTable>,
    /// By task, the table that it loads into.
    loads: BTreeMap<String, DatabaseTable>,
}

impl Written {
    fn of(plan: &Plan, connections: &Connections, steps: &[ResultLineage]) -> Self {
        let mut written = Self { tables: BTreeMap::new(), kept: BTreeSet::new(), loads: BTreeMap::new() };
        for task in &plan.tasks {
            let PlannedWork::DuckDb { load: Some(load), .. } = &task.work else { continue };
            let name = load.schema.as_ref().map_or_else(|| load.table.clone(), |it| format!("{it}.{}", load.table));
            let table = (load.connection.clone(), plain_table(&name));
            let target = (task.name.clone(), LineageTarget::Output(MAIN_RESULT.to_owned()));
            written.tables.entry(table.clone()).or_default().push(target);
            written.loads.insert(task.name.clone(), table.clone());
            if load.mode != api::LoadMode::Replace && is_declared(connections, &table) {
                written.kept.insert(table);
            }
        }
        for step in steps {
            let LineageTarget::Table { connection, table, .. } = &step.target else { continue };
            let table = (connection.clone(), table.clone());
            written.tables.entry(table.clone()).or_default().push((step.task.clone(), step.target.clone()));
            written.kept.insert(table);
        }
        written
    }
}

fn is_declared(connections: &Connections, (connection, table): &DatabaseTable) -> bool {
    let tables = connections.get(connection).and_then(|connection| connection.spec.tables.as_ref());
    tables.into_iter().flatten().any(|declared| plain_table(&declared.name) == *table)
}

fn traced_one(plan: &Plan, written: &Written, traced: &[ResultLineage], step: &ResultLineage) -> ResultLineage {
    let columns = step.columns.iter().map(|column| {
        let mut unknown = column.unknown.clone();
        let mut sources = Sources::default();
        for source in column.sources.iter() {
            let found = behind(written, traced, &source);
            if source.how.is_value() {
                unknown = unknown.or(found.unknown);
            }
            sources.extend(&found.sources.through(source.how, source.masked));
        }
        ColumnLineage { name: column.name.clone(), sources, unknown }
    });
    let columns = columns.collect();
    let mut rows = Sources::default();
    for source in step.rows.iter() {
        rows.extend(&behind(written, traced, &source).sources.through(source.how, source.masked));
    }
    for (task, target) in results_used(plan, &step.task) {
        let used = traced.iter().find(|it| it.task == task && it.target == target);
        used.iter().for_each(|used| rows.extend(&used.rows));
    }
    ResultLineage { columns, rows, ..step.clone() }
}

/// The results that a task reads: what decides on their rows decides on its own.
fn results_used(plan: &Plan, task: &str) -> Vec<(String, LineageTarget)> {
    let bindings = plan.tasks.iter().filter(|it| it.name == task).flat_map(|task| &task.bindings);
    let used = bindings.filter_map(|binding| match &binding.value {
        BindingValue::TaskTable(task, output) => Some((task, output.as_str())),
        BindingValue::LoadedTable { task, .. } => Some((task, MAIN_RESULT)),
        _ => None,
    });
    used.filter_map(|(task, output)| {
        Some((plan.tasks.get(task.0 as usize)?.name.clone(), LineageTarget::Output(output.to_owned())))
    })
    .collect()
}

/// What a source comes from itself.
fn behind(written: &Written, traced: &[ResultLineage], source: &ColumnSource) -> ColumnLineage {
    let mut all = ColumnLineage { name: source.column.clone(), sources: Sources::default(), unknown: None };
    let mut add = |task: &str, target: &LineageTarget| {
        let result = traced.iter().find(|it| it.task == task && it.target == *target);
        for column in result.into_iter().flat_map(|result| columns_named(result, &source.column)) {
            all.sources.extend(&column.sources);
            all.unknown = all.unknown.take().or_else(|| column.unknown.clone());
        }
    };
    let table = match &source.table {
        SourceTable::Input(_) => {
            all.sources.extend(&Sources::column(source.table.clone(), &source.column));
            return all;
        }
        SourceTable::Result { task, output } => {
            add(task, &LineageTarget::Output(output.clone()));
            return all;
        }
        SourceTable::Loaded { task } => written.loads.get(task).cloned(),
        SourceTable::Database { connection, table } => Some((connection.clone(), table.clone())),
    };
    let Some(table) = table else { return all };
    let everywhere = (table.0.clone(), "*".to_owned());
    let writers = [&table, &everywhere].into_iter().filter_map(|table| written.tables.get(table)).flatten();
    writers.for_each(|(task, target)| add(task, target));
    if written.kept.contains(&table) || !written.tables.contains_key(&table) {
        let (connection, table) = table;
        all.sources.extend(&Sources::column(SourceTable::Database { connection, table }, &source.column));
    }
    all
}

/// The columns of a result that a name stands for: `*` for all, and `*` of the result for those that are not known.
pub(crate) fn columns_named<'a>(result: &'a ResultLineage, name: &str) -> Vec<&'a ColumnLineage> {
    let same: Vec<&ColumnLineage> =
        result.columns.iter().filter(|column| name == "*" || column.name.eq_ignore_ascii_case(name)).collect();
    if !same.is_empty() {
        return same;
    }
    result.columns.iter().filter(|column| column.name == "*").collect()
}
