//! Drives the run of a test as a local run is driven, but one attempt after another in this process, by a clock that
//! moves only where something is waited for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pintail_engine::TaskIndex;
use pintail_execution::{
    BoundInput, BoundSource, Command, CommittedReport, Connections, Reusable, Run, Seen, connection_target,
};
use pintail_plan::{InputValue, PlannedTest};
use pintail_protocol::{ConnectionTarget, Failure, FailureClass, Load, Work, WorkOrder};
use pintail_storage::{RunTask, Store};
use pintail_task_runner::fixture::fill;
use pintail_task_runner::log::Log;
use pintail_task_runner::run::run_order;
use pintail_task_runner::session::TextTable;
use pintail_task_runner::workspace::Environment;

use super::{Bench, world};

/// Rows of a result that are read; what expects more has its rows in no manifest.
pub const ROWS_READ: usize = 10_000;
/// Tells attempts' processes apart, of which there is one.
const POD_UID: &str = "test";

/// A run that has ended.
pub struct Outcome {
    pub run: Run,
    pub store: Store,
    /// The last order of each task that was run, by its name.
    pub orders: BTreeMap<String, WorkOrder>,
    /// The tables that load tasks loaded into, as they stood after the task.
    pub loaded: BTreeMap<String, Result<TextTable, String>>,
    /// Holds the store; gone with the outcome.
    _folder: tempfile::TempDir,
}

/// # Errors
/// What is given cannot be used, in words.
pub fn rehearse(test: &PlannedTest, real: &Connections, bench: &Bench) -> Result<Outcome, String> {
    let folder = tempfile::Builder::new()
        .prefix("pintail-test-")
        .tempdir_in(temporary_folder())
        .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let connections = world::connections(real, folder.path());
    let environment = Environment::of_process().with(world::secrets(&connections)).rehearsing(test.now);
    let (order, tables) = world::filling(test, &connections, folder.path());
    if !order.connections.is_empty() {
        fill(&order, &tables, &environment).map_err(|failure| failure.to_string())?;
    }
    let context = world::context(test, folder.path());
    let store = Store::connect(&context.store).map_err(|error| error.to_string())?;
    let mut plan = test.plan.clone();
    plan.graph.max_running = 1;
    let inputs = test.inputs.iter().map(|(name, value)| bound(name, value)).collect();
    let run = Run::new(plan, context, inputs, Reusable::new()).map_err(|failure| failure.message)?;
    let outcome = Outcome { run, store, orders: BTreeMap::new(), loaded: BTreeMap::new(), _folder: folder };
    Driver { test, bench, connections, environment, outcome }.drive()
}

/// In memory where the machine has such a folder and nobody chose another: a store waits for its disk at each step.
fn temporary_folder() -> PathBuf {
    let in_memory = PathBuf::from("/dev/shm");
    let is_chosen = std::env::var_os("TMPDIR").is_some();
    if !is_chosen && in_memory.is_dir() { in_memory } else { std::env::temp_dir() }
}

fn bound(name: &str, value: &InputValue) -> BoundInput {
    let source = match value {
        InputValue::Scalar(value) => BoundSource::Scalar(value.clone()),
        InputValue::Table(source) => BoundSource::Table(Box::new(source.clone())),
    };
    BoundInput { name: name.to_owned(), source }
}

struct Driver<'a> {
    test: &'a PlannedTest,
    bench: &'a Bench,
    connections: Connections,
    environment: Environment,
    outcome: Outcome,
}

impl Driver<'_> {
    fn drive(mut self) -> Result<Outcome, String> {
        let (mut now, mut seen) = (self.test.now, Vec::new());
        loop {
            let commands = self.outcome.run.step(std::mem::take(&mut seen), now, &self.connections);
            if self.outcome.run.outcome().is_some() {
                return Ok(self.outcome);
            }
            if commands.is_empty() {
                let wake = self.outcome.run.wake().filter(|wake| *wake > now);
                now = wake.ok_or("the run waits for something that never comes")?;
            }
            for command in commands {
                match command {
                    Command::Start { task, attempt, order } => {
                        seen.push(Seen::Started { task, attempt, at: now });
                        seen.push(self.attempt(task, attempt, *order, now)?);
                    }
                    // Nothing is under way when the engine is asked.
                    Command::Stop { task, attempt, .. } => seen.push(failed(task, attempt, now, None)),
                }
            }
        }
    }

    fn attempt(
        &mut self,
        task: TaskIndex,
        attempt: u32,
        order: WorkOrder,
        now: jiff::Timestamp,
    ) -> Result<Seen, String> {
        let log = Log::new(&order, &self.environment).quiet();
        let ending = run_order(&order, POD_UID, &self.environment, &self.bench.interrupt, &log);
        if self.bench.is_interrupted() {
            return Err("interrupted".to_owned());
        }
        let name = order.identity.task.clone();
        let seen = match ending.message.failure {
            Some(failure) => failed(task, attempt, now, Some(failure)),
            None => {
                if let Work::DuckDb(work) = &order.work
                    && let Some(load) = &work.load
                    && self.test.expect.iter().any(|it| it.task == name && it.rows.is_some() && it.output.is_none())
                {
                    let table = self.loaded_table(load).map_err(|failure| failure.to_string());
                    self.outcome.loaded.insert(name.clone(), table);
                }
                Seen::Committed { task, attempt, result: Box::new(self.committed(&name)?) }
            }
        };
        self.outcome.orders.insert(name, order);
        Ok(seen)
    }

    fn committed(&self, task: &str) -> Result<CommittedReport, String> {
        let context = &self.outcome.run.context;
        let read = async {
            let run_task = RunTask::new(&context.namespace, &context.uid, task, None)?;
            self.outcome.store.read_commit(&run_task).await
        };
        let committed = self.bench.runtime.block_on(read).map_err(|error| error.to_string())?;
        let (commit, report) = committed.ok_or_else(|| format!("task {task:?} has committed nothing"))?;
        Ok(CommittedReport { key: commit.report, digest: commit.digest, report })
    }

    fn loaded_table(&self, load: &Load) -> Result<TextTable, String> {
        let connection = self.connections.get(&load.connection).ok_or("the connection is gone")?;
        let target = connection_target(&load.connection, &connection.spec).map_err(|error| error.to_string())?;
        let ConnectionTarget::DuckDb { path, .. } = target else { return Err("it is no database".to_owned()) };
        let table = self.bench.reader.database_table(Path::new(&path), load.schema.as_deref(), &load.table, ROWS_READ);
        table.map_err(|failure| failure.to_string())
    }
}

fn failed(task: TaskIndex, attempt: u32, at: jiff::Timestamp, failure: Option<Failure>) -> Seen {
    let failure = failure.unwrap_or_else(|| Failure {
        class: FailureClass::Infrastructure,
        reason: "Lost".to_owned(),
        message: "it is not under way".to_owned(),
    });
    Seen::Failed { task, attempt, failure, report: None, at }
}
