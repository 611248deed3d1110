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

use std::sync::Arc;
use std::time::{Duration, Instant};

use pintail_execution::Connections;
use pintail_plan::{FieldPath, PlannedTest};
use pintail_task_runner::fixture::TableReader;
use pintail_task_runner::interrupt::Interrupt;
use tokio::runtime::Runtime;

use crate::failure::CommandFailure;
use crate::interrupt::interrupts;

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
    runtime: Runtime,
    interrupt: Arc<Interrupt>,
}

impl Bench {
    /// From here on Ctrl-C ends the statement that runs, and with it the test: its folder is to go.
    ///
    /// # Errors
    /// DuckDB cannot start.
    pub fn new() -> Result<Self, CommandFailure> {
        let cannot = |error: &dyn std::fmt::Display| CommandFailure::failed(format!("tests cannot be run: {error}"));
        let interrupt = Arc::new(Interrupt::default());
        let (listening, heard) = (runtime().map_err(|error| cannot(&error))?, Arc::clone(&interrupt));
        let mut interrupts = listening.block_on(async { interrupts() })?;
        let listen = move || {
            listening.block_on(async {
                while interrupts.recv().await.is_some() {
                    heard.request();
                }
            });
        };
        std::thread::Builder::new().spawn(listen).map_err(|error| cannot(&error))?;
        let reader = TableReader::new().map_err(|failure| cannot(&failure))?;
        Ok(Self { reader, runtime: runtime().map_err(|error| cannot(&error))?, interrupt })
    }

    /// Whether someone asked for the end.
    pub fn is_interrupted(&self) -> bool {
        self.interrupt.check().is_err()
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

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
