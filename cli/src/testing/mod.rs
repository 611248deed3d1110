//! WorkflowTests in one process: the plan, the engine and the runner of a local run, with a world of their own.
//!
//! ```text
//! given ─> databases, inputs ─> Run ⇄ run_order, one after another ─> what each task gave ─> differences
//! ```

mod compare;
mod expect;
mod rehearsal;
mod render;
mod rows;
mod world;

use std::time::{Duration, Instant};

use pintail_execution::Connections;
use pintail_plan::{FieldPath, PlannedTest};
use pintail_task_runner::failure::TaskFailure;
use pintail_task_runner::fixture::TableReader;

pub use render::{as_json, as_junit, as_text, summary};

/// A test that was run.
pub struct Tested {
    pub name: String,
    pub workflow: String,
    /// Where the test stands; the line counts from 1.
    pub file: String,
    pub line: usize,
    pub took: Duration,
    /// None where it passed.
    pub failures: Vec<Failure>,
}

/// An expectation that was not met, or what kept the test from being run.
#[derive(Debug)]
pub struct Failure {
    /// The expectation, in the test's manifest.
    pub path: FieldPath,
    /// Line and column of the path, from 1; known to whoever has the manifest.
    pub place: Option<(usize, usize)>,
    pub message: String,
    pub details: Vec<Detail>,
}

/// One thing that is different.
#[derive(Debug)]
pub enum Detail {
    /// An expected row that did not come out, by its position in the manifest from 0.
    Missing {
        position: usize,
        row: rows::Row,
    },
    Unexpected {
        row: rows::Row,
    },
    /// A row that came out otherwise: what is equal, and each value that is not.
    Differs {
        position: usize,
        equal: rows::Row,
        values: Vec<Difference>,
    },
    /// A value that is none of a row, such as the subject of a message.
    Value(Difference),
}

#[derive(Debug)]
pub struct Difference {
    pub name: String,
    pub expected: rows::Shown,
    pub found: rows::Shown,
}

impl Failure {
    pub(crate) fn new(path: FieldPath, message: impl Into<String>) -> Self {
        Self { path, place: None, message: message.into(), details: Vec::new() }
    }
}

/// What tests need and one process makes once.
pub struct Bench {
    reader: TableReader,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    /// # Errors
    /// DuckDB cannot start.
    pub fn new() -> Result<Self, TaskFailure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| TaskFailure::infrastructure("EngineError", error.to_string()))?;
        Ok(Self { reader: TableReader::new()?, runtime })
    }

    /// Runs a test and compares. `connections` are those of its workflow; none of them is reached.
    pub fn run(&self, test: &PlannedTest, connections: &Connections) -> (Vec<Failure>, Duration) {
        let began = Instant::now();
        let outcome = rehearsal::rehearse(test, connections, self);
        let failures = match outcome {
            Ok(outcome) => expect::check(test, &outcome, &self.reader),
            Err(message) => vec![Failure::new(FieldPath::root().field("spec").field("given"), message)],
        };
        (failures, began.elapsed())
    }
}
