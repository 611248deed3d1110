//! What a test expects, against what its tasks can give.

use pintail_api as api;

use super::{PlannedTest, name_of, position, unknown_task};
use crate::Rule;
use crate::data_type::Type;
use crate::model::{BindingValue, InputKind, Plan, PlannedResult, PlannedTask, PlannedWork, ResultKind};
use crate::problem::{FieldPath, Problem, listing, nearest};

/// Names and types of the columns of a result, where they are known.
pub type Columns = Vec<(String, String)>;

pub(super) fn check(
    expectation: &api::Expectation,
    plan: &Plan,
    part: &Plan,
    path: &FieldPath,
    problems: &mut Vec<Problem>,
) {
    let name = &expectation.task;
    if let Some(unknown) = unknown_task(plan, name, &path.field("task")) {
        problems.push(unknown);
        return;
    }
    let mut invalid = |path: FieldPath, message: String| problems.push(Problem::new(Rule::InvalidTest, path, message));
    let Some(task) = position(part, name).and_then(|at| part.tasks.get(at)) else {
        let message = format!("task `{name}` does not run in this test: none of `only` needs it");
        invalid(path.field("task"), message);
        return;
    };
    let given = [
        ("rows", expectation.rows.is_some()),
        ("loaded", expectation.loaded.is_some()),
        ("sent", expectation.sent.is_some()),
        ("written", expectation.written.is_some()),
        ("copied", expectation.copied.is_some()),
    ];
    let ended = expectation.state.unwrap_or(api::ExpectedState::Succeeded);
    for (field, _) in given.into_iter().filter(|(_, is_there)| *is_there) {
        if ended != api::ExpectedState::Succeeded {
            invalid(path.field(field), format!("a task that ends as {ended:?} gives nothing to compare"));
        } else if let Some(message) = unfit(field, task) {
            invalid(path.field(field), message);
        }
    }
    if expectation.rows.is_none() {
        let idle = [("inOrder", expectation.in_order.is_some()), ("output", expectation.output.is_some())];
        for (field, _) in idle.into_iter().filter(|(_, is_there)| *is_there) {
            invalid(path.field(field), format!("`{field}` is about `rows`, which are not there"));
        }
    }
    if let Some(output) = &expectation.output {
        let known = || further(task).map(|result| result.name.as_str());
        if !known().any(|known| known == output) {
            let message = format!("task `{name}` has no further output `{output}`; it has {}", listing(known()));
            let near = nearest(output, known()).map(|near| format!("`{near}`"));
            problems.push(Problem::new(Rule::UnknownName, path.field("output"), message).suggest(near));
        }
    } else if expectation.rows.is_some() && has_only_further(task) {
        let message =
            format!("say which `output` of task `{name}`: {}", listing(further(task).map(|it| it.name.as_str())));
        problems.push(Problem::new(Rule::InvalidTest, path.field("rows"), message));
    }
}

fn further(task: &PlannedTask) -> impl Iterator<Item = &PlannedResult> {
    task.results.iter().filter(|result| result.name != "result")
}

fn has_only_further(task: &PlannedTask) -> bool {
    let is_load = matches!(&task.work, PlannedWork::DuckDb { load: Some(_), .. });
    matches!(task.work, PlannedWork::DuckDb { .. }) && !is_load && !task.results.iter().any(|it| it.name == "result")
}

/// Why a task cannot give what is expected of it.
fn unfit(field: &str, task: &PlannedTask) -> Option<String> {
    let (does, fits): (&str, &[&str]) = match &task.work {
        PlannedWork::DuckDb { load: Some(_), .. } => ("loads a table", &["rows", "loaded"]),
        PlannedWork::DuckDb { .. } => ("gives rows", &["rows"]),
        PlannedWork::Export { .. } => ("writes a file", &["rows", "written"]),
        PlannedWork::Copy { .. } => ("copies files", &["copied"]),
        PlannedWork::Notify { .. } => ("sends a message", &["sent"]),
        PlannedWork::Report { .. } => ("makes a page", &[]),
    };
    let expected = if fits.is_empty() { "its `state`".to_owned() } else { listing(fits.iter().copied()) };
    (!fits.contains(&field)).then(|| format!("task `{}` {does}, so expect {expected} of it", task.name))
}

/// Checks the expected rows against the columns of the results, as `columns` knows them by task and output: each that is
/// named is there, and each value fits its type. What is not known is not checked.
pub fn check_expected_rows(test: &PlannedTest, columns: &dyn Fn(&str, &str) -> Option<Columns>) -> Vec<Problem> {
    let root = FieldPath::root().field("spec").field("expect");
    let mut problems = Vec::new();
    for (index, expectation) in test.expect.iter().enumerate() {
        let Some(rows) = &expectation.rows else { continue };
        let Some(task) = position(&test.plan, &expectation.task).and_then(|at| test.plan.tasks.get(at)) else {
            continue;
        };
        let output = expectation.output.as_deref().unwrap_or("result");
        let Some(known) = columns_of(&test.plan, task, output, columns) else { continue };
        let types: Vec<(&str, Option<Type>)> =
            known.iter().map(|(name, data_type)| (name.as_str(), Type::parse(data_type).ok())).collect();
        for (at, row) in rows.iter().enumerate() {
            let path = root.index(index).field("rows").index(at);
            problems.extend(check_row(row, &types, &expectation.task, &path));
        }
    }
    problems
}

fn check_row(row: &api::Row, types: &[(&str, Option<Type>)], task: &str, path: &FieldPath) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, value) in row {
        match types.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            None => {
                let known = || types.iter().map(|(known, _)| *known);
                let message = format!("the result of `{task}` has no column `{name}`; it has {}", listing(known()));
                let near = nearest(name, known()).map(|near| format!("`{near}`"));
                problems.push(Problem::new(Rule::UnknownColumn, path.field(name), message).suggest(near));
            }
            Some((_, Some(data_type))) => {
                if let Err(message) = data_type.check(&value.0) {
                    problems.push(Problem::new(Rule::InvalidValue, path.field(name), message));
                }
            }
            Some((_, None)) => {}
        }
    }
    problems
}

/// The columns of the rows that a task is compared by.
fn columns_of(
    plan: &Plan,
    task: &PlannedTask,
    output: &str,
    columns: &dyn Fn(&str, &str) -> Option<Columns>,
) -> Option<Columns> {
    match &task.work {
        // The table may have columns of its own beside those of the query.
        PlannedWork::DuckDb { load: Some(_), .. } if output == "result" => None,
        PlannedWork::DuckDb { .. } => {
            let kind = task.results.iter().find(|result| result.name == output)?.kind;
            matches!(kind, ResultKind::Table | ResultKind::Values).then(|| columns(&task.name, output))?
        }
        PlannedWork::Export { table, .. } => {
            let binding = task.bindings.iter().find(|binding| binding.name == *table)?;
            match &binding.value {
                BindingValue::TaskTable(task, output) => columns(name_of(plan, *task), output),
                BindingValue::InputTable(input) => {
                    let input = plan.inputs.iter().find(|planned| planned.name == *input)?;
                    let InputKind::Table { contract: Some(contract) } = &input.kind else { return None };
                    let column = |column: &api::Column| (column.name.clone(), column.data_type.clone());
                    (contract.other_columns != api::OtherColumns::Keep)
                        .then(|| contract.columns.iter().map(column).collect())
                }
                _ => None,
            }
        }
        _ => None,
    }
}
