//! WorkflowTests: what is given against what the workflow reads, what is expected against what its tasks can give.

mod expectation;
mod given;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::Timestamp;
use pintail_api as api;
use pintail_engine::TaskIndex;

pub use expectation::check_expected_rows;

use crate::Rule;
use crate::compile;
use crate::model::{Contract, InputValue, Plan, Surroundings};
use crate::problem::{FieldPath, Problem, nearest};

/// A test never depends on the day it is run.
const DEFAULT_NOW: Timestamp = Timestamp::constant(946_684_800, 0);

/// A test that was found right, with the part of its workflow that it runs.
#[derive(Clone, Debug)]
pub struct PlannedTest {
    /// Of the test's own manifest.
    pub name: String,
    /// With the tasks that run, and the inputs that these read.
    pub plan: Plan,
    /// Every input of the plan, in its order.
    pub inputs: Vec<(String, InputValue)>,
    pub tables: Vec<PlannedTable>,
    pub now: Timestamp,
    /// As in the manifest.
    pub expect: Vec<api::Expectation>,
}

/// A table of an attached database, as it stands before the run.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTable {
    /// SQL name of the connection.
    pub connection: String,
    pub schema: Option<String>,
    pub table: String,
    /// Rows or a file.
    pub source: api::TableSource,
    /// There is one where there are rows.
    pub contract: Option<Contract>,
}

/// Checks a test against its workflow, which has no problem itself: `plan` is what it was compiled to.
///
/// # Errors
/// Every problem of the test, in the order of its parts.
pub fn compile_test(
    test: &api::WorkflowTest,
    workflow: &api::Workflow,
    plan: &Plan,
    surroundings: &Surroundings,
) -> Result<PlannedTest, Vec<Problem>> {
    let spec = &test.spec;
    let root = FieldPath::root().field("spec");
    let mut problems = Vec::new();
    let now = now(spec.now.as_deref(), &root.field("now")).unwrap_or_else(|problem| {
        problems.push(problem);
        DEFAULT_NOW
    });
    for (position, name) in spec.only.iter().enumerate() {
        problems.extend(unknown_task(plan, name, &root.field("only").index(position)));
    }
    let mut part = part(workflow, plan, &spec.only, surroundings)?;
    part.inputs.retain(|input| is_read(&part.tasks, input));
    let given = root.field("given");
    let inputs = given::inputs(spec, plan, &part, &given.field("inputs"), &mut problems);
    let tables = given::tables(spec, workflow, plan, surroundings, &given.field("tables"), &mut problems);
    for (position, expectation) in spec.expect.iter().enumerate() {
        expectation::check(expectation, plan, &part, &root.field("expect").index(position), &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let name = test.metadata.name.clone().unwrap_or_default();
    Ok(PlannedTest { name, plan: part, inputs, tables, now, expect: spec.expect.clone() })
}

fn now(text: Option<&str>, path: &FieldPath) -> Result<Timestamp, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_NOW) };
    text.parse().map_err(|_| {
        let message = format!("`{}` is no point in time", crate::problem::excerpt(text));
        Problem::new(Rule::InvalidValue, path.clone(), message).suggest(Some("`\"2024-01-31T13:45:00Z\"`"))
    })
}

fn unknown_task(plan: &Plan, name: &str, path: &FieldPath) -> Option<Problem> {
    let known = || plan.tasks.iter().map(|task| task.name.as_str());
    if known().any(|known| known == name) {
        return None;
    }
    let message = format!("workflow `{}` has no task `{}`", plan.workflow, crate::problem::excerpt(name));
    let near = nearest(name, known()).map(|near| format!("`{near}`"));
    Some(Problem::new(Rule::UnknownName, path.clone(), message).suggest(near))
}

/// The plan of the tasks that are wanted and of those that they need.
fn part(
    workflow: &api::Workflow,
    plan: &Plan,
    only: &[String],
    surroundings: &Surroundings,
) -> Result<Plan, Vec<Problem>> {
    if only.is_empty() {
        return Ok(plan.clone());
    }
    let mut wanted: BTreeSet<usize> = (0..plan.tasks.len()).filter(|at| only.contains(&plan.tasks[*at].name)).collect();
    let mut waiting: Vec<usize> = wanted.iter().copied().collect();
    while let Some(task) = waiting.pop() {
        let needs = plan.graph.tasks.get(task).map(|node| node.needs.as_slice()).unwrap_or_default();
        waiting.extend(needs.iter().map(|need| need.task.0 as usize).filter(|need| wanted.insert(*need)));
    }
    if wanted.is_empty() {
        // Named by tasks that are not there, which is reported.
        return Ok(plan.clone());
    }
    let mut smaller = workflow.clone();
    smaller.spec.tasks = wanted.iter().filter_map(|task| workflow.spec.tasks.get(*task).cloned()).collect();
    // Outputs may be those of tasks that do not run; a test looks at tasks.
    smaller.spec.outputs = Some(Vec::new());
    compile(&smaller, surroundings)
}

/// Whether an input is a value, or a table that one of the tasks reads.
fn is_read(tasks: &[crate::PlannedTask], input: &crate::PlannedInput) -> bool {
    use crate::{BindingValue, InputKind};
    let reads = |binding: &crate::PlannedBinding| matches!(&binding.value, BindingValue::InputTable(name) if *name == input.name);
    matches!(input.kind, InputKind::Scalar(_)) || tasks.iter().any(|task| task.bindings.iter().any(reads))
}

fn position(plan: &Plan, task: &str) -> Option<usize> {
    plan.tasks.iter().position(|planned| planned.name == task)
}

/// Name of a task, for messages.
fn name_of(plan: &Plan, task: TaskIndex) -> &str {
    plan.tasks.get(task.0 as usize).map_or("?", |task| &task.name)
}
