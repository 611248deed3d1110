//! From a typed Workflow to a [`Plan`], or to every problem that it has.
//!
//! ```text
//! inputs ─> index of names ─> tasks (bindings, connections, work) ─> outputs ─> order (cycles, locks) ─> Plan
//! ```
//!
//! Each step reports what it finds and goes on with what is right, so that one run of the checks shows every mistake.

mod connections;
mod inputs;
mod load;
pub(crate) mod names;
mod order;
mod outputs;
mod pod;
mod policy;
mod references;
mod revision;
mod source;
mod task;
#[cfg(test)]
pub(crate) mod tests;
mod work;

use std::collections::HashMap;

use pintail_api as api;
use pintail_engine::{Graph, OnFailure, TaskIndex};

use crate::Rule;
use crate::data_type::Type;
use crate::expression::on_large_stack;
use crate::model::{Plan, PlannedInput, Surroundings};
use crate::problem::{FieldPath, MAX_PROBLEMS, Problem, nearest};

pub use connections::check_connection;
pub(crate) use inputs::scalar_problem;
pub(crate) use names::object_name_problem;
pub(crate) use source::{check_rows, check_table_source};

/// More are no workflow that a person can follow; the schema has the same limit.
const TASKS_MAX: usize = 1000;
/// A revision is kept whole in the cluster's store, which takes 1.5 MiB an object at most.
const DEFINITION_BYTES_MAX: usize = 512 << 10;
/// Whoever drives a run knows its machine or its quota and sets a lower number.
const RUNNING_MAX: usize = 256;

/// Checks a workflow against what is around it, and resolves all its names.
///
/// Paths of DuckDB files in `surroundings` are compared as they are written; callers make relative ones absolute
/// first. The workflow should have passed the checks of its structure, see [`crate::manifest`].
///
/// # Errors
/// Every problem, in the order of the manifest's parts.
pub fn compile(workflow: &api::Workflow, surroundings: &Surroundings) -> Result<Plan, Vec<Problem>> {
    on_large_stack(|| Compiler::new(workflow, surroundings).run())
        .unwrap_or_else(|message| Err(vec![Problem::new(Rule::PlanLimit, FieldPath::root(), message)]))
}

/// The inputs of a workflow alone, for whoever binds them without seeing what is around it, such as connections.
///
/// # Errors
/// What is wrong with its inputs by themselves.
pub fn compile_inputs(workflow: &api::Workflow) -> Result<Vec<PlannedInput>, Vec<Problem>> {
    let surroundings = Surroundings::default();
    let mut compiler = Compiler::new(workflow, &surroundings);
    let inputs = compiler.compile_inputs();
    compiler.problems.retain(|problem| problem.rule != Rule::UnknownConnection);
    if compiler.problems.is_empty() { Ok(inputs) } else { Err(compiler.problems) }
}

/// The columns of a table that stands beside a workflow, with their types as DuckDB writes them.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn check_columns(
    columns: &[api::Column],
    workflow: &api::Workflow,
    surroundings: &Surroundings,
    path: &FieldPath,
) -> Result<Vec<api::Column>, Vec<Problem>> {
    let mut compiler = Compiler::new(workflow, surroundings);
    let contract = compiler.contract(Some(columns), None, path, false);
    if compiler.problems.is_empty() {
        Ok(contract.map(|contract| contract.columns).unwrap_or_default())
    } else {
        Err(compiler.problems)
    }
}

/// What names stand for, and what was found so far.
struct Compiler<'a> {
    workflow: &'a api::Workflow,
    surroundings: &'a Surroundings,
    /// By name; of two with one name the first.
    inputs: HashMap<&'a str, InputShape>,
    tasks: HashMap<&'a str, TaskShape<'a>>,
    problems: Vec<Problem>,
}

/// What an input is to those that use it.
struct InputShape {
    /// None for a table, and for a type that could not be read.
    data_type: Option<Type>,
    is_table: bool,
}

/// What a task is to those that use it.
struct TaskShape<'a> {
    index: TaskIndex,
    main: MainResult<'a>,
    outputs: &'a [api::QueryOutput],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum MainResult<'a> {
    Table,
    /// With the contract, where there is one.
    Values(Option<&'a [api::Column]>),
    Load,
    Report,
    Export,
    Copy,
    Notify,
    /// A DuckDB task of further outputs only.
    None,
}

impl<'a> Compiler<'a> {
    fn new(workflow: &'a api::Workflow, surroundings: &'a Surroundings) -> Self {
        let spec = &workflow.spec;
        let mut inputs = HashMap::new();
        for input in &spec.inputs {
            let is_table = input.data_type == "table";
            let shape = InputShape { is_table, data_type: Type::parse(&input.data_type).ok().filter(|_| !is_table) };
            inputs.entry(input.name.as_str()).or_insert(shape);
        }
        let mut tasks = HashMap::new();
        for (index, task) in (0..).map(TaskIndex).zip(&spec.tasks) {
            let outputs = task.duckdb.as_ref().map_or(&[][..], |duckdb| &duckdb.outputs);
            tasks.entry(task.name.as_str()).or_insert(TaskShape { index, main: main_result(task), outputs });
        }
        Self { workflow, surroundings, inputs, tasks, problems: Vec::new() }
    }

    fn run(mut self) -> Result<Plan, Vec<Problem>> {
        let spec = &self.workflow.spec;
        self.check_limits();
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let inputs = self.compile_inputs();
        self.check_names();
        let mut planned = Vec::with_capacity(spec.tasks.len());
        let mut nodes = Vec::with_capacity(spec.tasks.len());
        for (position, task) in spec.tasks.iter().enumerate() {
            let (task, node) = self.compile_task(position, task);
            planned.push(task);
            nodes.push(node);
        }
        let outputs = self.compile_outputs(&mut planned);
        self.check_order(&nodes);
        let revision = self.revision();
        if !self.problems.is_empty() {
            self.problems.truncate(MAX_PROBLEMS);
            return Err(self.problems);
        }
        let on_failure = match spec.on_failure.unwrap_or_default() {
            api::OnFailure::Finish => OnFailure::Finish,
            api::OnFailure::Stop => OnFailure::Stop,
        };
        Ok(Plan {
            workflow: self.workflow.metadata.name.clone().unwrap_or_default(),
            revision,
            graph: Graph { tasks: nodes, on_failure, max_running: RUNNING_MAX, held: false },
            inputs,
            tasks: planned,
            outputs,
        })
    }

    fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn problem(&mut self, rule: Rule, path: &FieldPath, message: impl Into<String>) {
        self.report(Problem::new(rule, path.clone(), message));
    }

    fn check_limits(&mut self) {
        let spec = &self.workflow.spec;
        let path = FieldPath::root().field("spec").field("tasks");
        if spec.tasks.is_empty() {
            self.problem(Rule::OutOfRange, &path, "a workflow has at least one task");
        } else if spec.tasks.len() > TASKS_MAX {
            let message = format!("the workflow has {} tasks, more than {TASKS_MAX}", spec.tasks.len());
            self.problem(Rule::PlanLimit, &path, message);
        }
    }

    /// One name space of inputs, tasks and the connections that tasks name.
    fn check_names(&mut self) {
        let spec = &self.workflow.spec;
        let mut seen: HashMap<&str, &str> = HashMap::new();
        let root = FieldPath::root().field("spec");
        let inputs = spec.inputs.iter().map(|input| ("input", "inputs", input.name.as_str())).enumerate();
        let tasks = spec.tasks.iter().map(|task| ("task", "tasks", task.name.as_str())).enumerate();
        for (position, (what, list, name)) in inputs.chain(tasks) {
            let path = root.field(list).index(position).field("name");
            self.problems.extend(names::check(name, what, &path));
            if let Some(other) = seen.insert(name, what) {
                let message = format!("`{name}` is the name of an earlier {other} already");
                self.problem(Rule::DuplicateName, &path, message);
            }
        }
        for (position, task) in spec.tasks.iter().enumerate() {
            let path = root.field("tasks").index(position);
            for (list, connections) in [("reads", &task.reads), ("writes", &task.writes)] {
                for (index, name) in connections.iter().enumerate() {
                    if let Some(other) = seen.get(name.as_str()) {
                        let message = format!(
                            "`{name}` is the name of a connection here, and of {other} `{name}`; in SQL both would be `{name}`"
                        );
                        self.problem(Rule::DuplicateName, &path.field(list).index(index), message);
                    }
                }
            }
        }
    }

    /// The nearest of all inputs and tasks.
    fn nearest_name(&self, name: &str) -> Option<String> {
        let spec = &self.workflow.spec;
        let inputs = spec.inputs.iter().map(|input| input.name.as_str());
        nearest(name, inputs.chain(spec.tasks.iter().map(|task| task.name.as_str()))).map(quoted)
    }
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}

fn main_result(task: &api::Task) -> MainResult<'_> {
    match task {
        api::Task { duckdb: Some(duckdb), .. } => {
            let has_query = duckdb.query.is_some() || duckdb.query_from.is_some();
            match duckdb.kind.unwrap_or_default() {
                _ if duckdb.load.is_some() => MainResult::Load,
                _ if !has_query => MainResult::None,
                api::ResultKind::Values => MainResult::Values(duckdb.columns.as_deref()),
                api::ResultKind::Table => MainResult::Table,
            }
        }
        api::Task { export: Some(_), .. } => MainResult::Export,
        api::Task { copy: Some(_), .. } => MainResult::Copy,
        api::Task { notify: Some(_), .. } => MainResult::Notify,
        api::Task { report: Some(_), .. } => MainResult::Report,
        _ => MainResult::None,
    }
}
