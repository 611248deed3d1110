//! Checks the SQL of a workflow before it runs: DuckDB binds it against empty tables of the known columns.
//!
//! ```text
//! request ─> per task, in graph order: views of the known columns, empty databases ─> setup ─> bind each query
//!                    ^                                                                            │
//!                    └──────────── columns of the results <── contract, types of Parquet <────────┘
//! ```
//!
//! What is not known is never wrong: a query that names such a table is parsed, its parameters are checked, and what it
//! gives is unknown too, unless its output declares its columns. No row is read and nothing outside is reached: the
//! session is locked down as a task's, and has no files at all.

mod bench;
mod bind;
mod columns;
mod compare;
mod fault;
mod lineage;
mod names;
mod seal;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use pintail_protocol::{
    CheckDatabase, CheckPlace, CheckRequest, CheckResponse, CheckRule, CheckTask, CheckedResult, Finding, TableOrigin,
    TableShape,
};

use crate::failure::TaskFailure;
use bench::Bench;
pub use seal::seal;

/// A DuckDB that checks one workflow after another.
pub struct Checker {
    bench: Bench,
}

impl Checker {
    /// # Errors
    /// DuckDB cannot start.
    pub fn new() -> Result<Self, TaskFailure> {
        Ok(Self { bench: Bench::open()? })
    }

    /// Everything that is wrong with the SQL of a workflow, and the columns of its results.
    ///
    /// # Errors
    /// `InvalidContract` for a type that DuckDB does not know; faults of the engine.
    pub fn check(&mut self, request: &CheckRequest) -> Result<CheckResponse, TaskFailure> {
        let _limit = self.bench.limit_time(request.tasks.len());
        let mut flow = Flow::new(request);
        for database in flow.databases.values_mut().filter(|database| database.tables.is_some()) {
            if self.bench.set_up(std::slice::from_ref(database), &[]).is_err() {
                // Types that DuckDB does not know are reported where they are declared.
                database.tables = None;
                self.bench.renew()?;
            }
        }
        for task in &request.tasks {
            task::check(&mut self.bench, &mut flow, task)?;
        }
        flow.response.findings.extend(flow.notes);
        Ok(flow.response)
    }
}

/// What is known so far, and what was found.
struct Flow<'a> {
    request: &'a CheckRequest,
    databases: BTreeMap<&'a str, CheckDatabase>,
    inputs: BTreeMap<&'a str, &'a Option<TableShape>>,
    /// By task and output.
    results: BTreeMap<(&'a str, &'a str), Option<TableShape>>,
    /// The table that a task loads into.
    loaded: BTreeMap<&'a str, Option<TableShape>>,
    /// Unknown things that were spoken of already.
    noted: BTreeSet<String>,
    notes: Vec<Finding>,
    response: CheckResponse,
}

impl<'a> Flow<'a> {
    fn new(request: &'a CheckRequest) -> Self {
        Self {
            request,
            databases: request.databases.iter().map(|it| (it.name.as_str(), it.clone())).collect(),
            inputs: request.inputs.iter().map(|it| (it.name.as_str(), &it.shape)).collect(),
            results: BTreeMap::new(),
            loaded: BTreeMap::new(),
            noted: BTreeSet::new(),
            notes: Vec::new(),
            response: CheckResponse::default(),
        }
    }

    /// The columns of a table that a task was given; `None` where they are not known.
    fn shape(&self, origin: &TableOrigin) -> Option<TableShape> {
        match origin {
            TableOrigin::Input(name) => self.inputs.get(name.as_str()).and_then(|shape| (*shape).clone()),
            TableOrigin::Result { task, output } => {
                self.results.get(&(task.as_str(), output.as_str())).cloned().flatten()
            }
            TableOrigin::Loaded { task } => self.loaded.get(task.as_str()).cloned().flatten(),
        }
    }

    fn tables(&self, task: &CheckTask) -> Vec<(String, Option<TableShape>)> {
        task.tables.iter().map(|table| (table.name.clone(), self.shape(&table.origin))).collect()
    }

    fn found(&mut self, task: &CheckTask, place: CheckPlace, problem: Problem) {
        let Problem { rule, message, suggestion, offset } = problem;
        self.response.findings.push(Finding { task: task.name.clone(), place, offset, rule, message, suggestion });
    }

    /// Says once of each unknown thing that what depends on it is not checked.
    fn note(&mut self, task: &CheckTask, key: &str, place: CheckPlace, problem: Problem) {
        if self.noted.insert(key.to_owned()) {
            let Problem { rule, message, suggestion, offset } = problem;
            self.notes.push(Finding { task: task.name.clone(), place, offset, rule, message, suggestion });
        }
    }

    fn result(&mut self, task: &'a str, output: &'a str, shape: Option<TableShape>) {
        self.results.insert((task, output), shape.clone());
        self.response.results.push(CheckedResult { task: task.to_owned(), output: output.to_owned(), shape });
    }
}

/// A finding without its task and place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    rule: CheckRule,
    message: String,
    suggestion: Option<String>,
    /// In the text of the place.
    offset: Option<usize>,
}

impl Problem {
    fn new(rule: CheckRule, message: impl Into<String>) -> Self {
        Self { rule, message: message.into(), suggestion: None, offset: None }
    }

    fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }

    fn at(mut self, offset: usize) -> Self {
        self.offset = Some(offset);
        self
    }
}
