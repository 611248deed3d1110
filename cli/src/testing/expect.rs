//! What came of each task against what the test expects of it.

use std::path::PathBuf;

use pintail_api as api;
use pintail_engine::{Phase, TaskIndex};
use pintail_plan::{FieldPath, PlannedTest};
use pintail_protocol::{RelationSource, ReportOutcome, ResultColumn, Results, StoreLocation, StoredFile, Work};
use pintail_task_runner::fixture::TableReader;
use pintail_task_runner::session::TextTable;

use super::rehearsal::{Outcome, ROWS_READ};
use super::rows::{self, Shown};
use super::{Detail, Difference, Failure};

/// Every expectation that is not met, and every task that failed where no expectation says so.
pub fn check(test: &PlannedTest, outcome: &Outcome, reader: &TableReader) -> Vec<Failure> {
    let root = FieldPath::root().field("spec").field("expect");
    let mut failures = Vec::new();
    let mut told: Vec<&str> = Vec::new();
    for (position, expectation) in test.expect.iter().enumerate() {
        let path = root.index(position);
        let (found, index) = state(outcome, &expectation.task);
        let expected = expectation.state.unwrap_or(api::ExpectedState::Succeeded);
        if found != Some(expected) {
            told.push(&expectation.task);
            failures.push(other_state(outcome, expectation, index, path));
        } else if let Some(results) = results(outcome, index) {
            failures.extend(Expected { expectation, outcome, results, path }.check(reader));
        }
    }
    let is_expected = |name: &str| test.expect.iter().any(|it| it.task == name) || told.contains(&name);
    for task in &outcome.run.plan.tasks {
        if let (Some(api::ExpectedState::Failed), _) = state(outcome, &task.name)
            && !is_expected(&task.name)
        {
            failures.insert(0, Failure::new(root.clone(), failed_text(outcome, &task.name)));
        }
    }
    failures
}

/// How a task ended; none where it was cancelled.
fn state(outcome: &Outcome, task: &str) -> (Option<api::ExpectedState>, TaskIndex) {
    let position = outcome.run.plan.tasks.iter().position(|planned| planned.name == task);
    let index = TaskIndex(position.and_then(|position| u32::try_from(position).ok()).unwrap_or(u32::MAX));
    let state = match outcome.run.phase(index) {
        Phase::Succeeded { .. } => Some(api::ExpectedState::Succeeded),
        Phase::Skipped { .. } => Some(api::ExpectedState::Skipped),
        Phase::Failed { .. } => Some(api::ExpectedState::Failed),
        _ => None,
    };
    (state, index)
}

fn results(outcome: &Outcome, task: TaskIndex) -> Option<&Results> {
    match &outcome.run.report(task)?.outcome {
        ReportOutcome::Succeeded(results) => Some(results),
        ReportOutcome::Failed(_) => None,
    }
}

fn other_state(outcome: &Outcome, expectation: &api::Expectation, index: TaskIndex, path: FieldPath) -> Failure {
    let task = &expectation.task;
    let expected = match expectation.state {
        None | Some(api::ExpectedState::Succeeded) => "to succeed",
        Some(api::ExpectedState::Skipped) => "to be skipped",
        Some(api::ExpectedState::Failed) => "to fail",
    };
    let path = if expectation.state.is_some() { path.field("state") } else { path.field("task") };
    match outcome.run.phase(index) {
        Phase::Failed { .. } => Failure::new(path, failed_text(outcome, task)),
        phase => {
            let is = match phase {
                Phase::Succeeded { .. } => "it succeeded",
                Phase::Skipped { .. } => "it was skipped",
                _ => "it did not run, because another task failed",
            };
            Failure::new(path, format!("task `{task}` is expected {expected}, and {is}"))
        }
    }
}

fn failed_text(outcome: &Outcome, task: &str) -> String {
    let context = &outcome.run.context;
    let failures = outcome.run.status(&[], context.start_time).map(|status| status.failures).unwrap_or_default();
    match failures.iter().rfind(|failure| failure.task == task) {
        Some(failure) => format!("task `{task}` failed: {}: {}", failure.reason, failure.message),
        None => format!("task `{task}` failed"),
    }
}

/// One expectation of a task that succeeded.
struct Expected<'a> {
    expectation: &'a api::Expectation,
    outcome: &'a Outcome,
    results: &'a Results,
    path: FieldPath,
}

impl Expected<'_> {
    fn check(&self, reader: &TableReader) -> Vec<Failure> {
        let mut failures = Vec::new();
        if self.expectation.rows.is_some() {
            match self.table(reader) {
                Ok(table) => failures.extend(rows::difference(self.expectation, &table, &self.path, reader)),
                Err(message) => failures.push(Failure::new(self.path.field("rows"), message)),
            }
        }
        failures.extend(self.expectation.loaded.as_ref().and_then(|expected| self.loaded(expected)));
        let order = self.outcome.orders.get(&self.expectation.task);
        let work = order.map(|order| &order.work);
        failures.extend(self.expectation.sent.as_ref().and_then(|expected| self.sent(expected, work)));
        if let (Some(expected), Some(Work::Export(work))) = (&self.expectation.written, work) {
            let values = place("", expected, &work.to);
            failures.extend(self.values("written", "writes another file", values));
        }
        if let (Some(expected), Some(Work::Copy(work))) = (&self.expectation.copied, work) {
            let mut values = expected.from.as_ref().map(|from| place("from.", from, &work.from)).unwrap_or_default();
            values.extend(expected.to.as_ref().map(|to| place("to.", to, &work.to)).unwrap_or_default());
            failures.extend(self.values("copied", "copies something else", values));
        }
        failures
    }

    /// The table whose rows are compared.
    fn table(&self, reader: &TableReader) -> Result<TextTable, String> {
        let task = &self.expectation.task;
        let output = self.expectation.output.as_deref().unwrap_or("result");
        let nothing = || format!("task `{task}` has no table `{output}`");
        let order = self.outcome.orders.get(task).ok_or_else(nothing)?;
        if let Some(loaded) = self.outcome.loaded.get(task).filter(|_| self.expectation.output.is_none()) {
            return loaded.clone();
        }
        if let Work::Export(work) = &order.work {
            let relation = order.relations.iter().find(|relation| relation.name == work.relation);
            return match relation.map(|relation| &relation.source) {
                Some(RelationSource::Committed { files }) => self.files(files, reader),
                _ => Err(format!("task `{task}` writes a table from outside; expect `written` of it")),
            };
        }
        if let Some(table) = self.results.tables.iter().find(|table| table.name == output) {
            return self.files(&table.files, reader);
        }
        let values = &self.results.values.iter().find(|values| values.name == output).ok_or_else(nothing)?.values;
        let columns: Vec<ResultColumn> = values
            .iter()
            .map(|value| ResultColumn { name: value.name.clone(), data_type: value.data_type.clone() })
            .collect();
        let row = reader.values(&columns, &[values.iter().map(|value| &value.value).collect()]);
        let row = row.into_iter().flatten().map(Result::ok).collect::<Option<Vec<_>>>().ok_or_else(nothing)?;
        Ok(TextTable { columns, rows: vec![row] })
    }

    fn files(&self, files: &[StoredFile], reader: &TableReader) -> Result<TextTable, String> {
        let StoreLocation::Folder { path } = self.outcome.store.location() else {
            return Err("the store of a test is a folder".to_owned());
        };
        let paths: Vec<PathBuf> = files.iter().map(|file| PathBuf::from(path).join(&file.key)).collect();
        reader.files(&paths, ROWS_READ).map_err(|failure| failure.to_string())
    }

    fn loaded(&self, expected: &api::ExpectedLoad) -> Option<Failure> {
        let done = self.results.load.as_ref()?;
        let count = |name, expected: Option<i64>, found: u64| {
            let expected = expected.filter(|expected| u64::try_from(*expected) != Ok(found))?;
            Some(value(name, Shown::bare(expected), Shown::bare(found)))
        };
        let watermark = expected.watermark.as_ref().filter(|expected| done.watermark.as_ref() != Some(expected));
        let watermark = watermark.map(|expected| {
            let found = Shown { text: done.watermark.clone(), is_bare: false };
            value("watermark", Shown::text(expected), found)
        });
        let values = [
            count("inserted", expected.inserted, done.inserted),
            count("updated", expected.updated, done.updated),
            watermark,
        ];
        self.values("loaded", "loads something else", values.into_iter().flatten().collect())
    }

    fn sent(&self, expected: &api::ExpectedMessage, work: Option<&Work>) -> Option<Failure> {
        let Some(Work::Notify(work)) = work else { return None };
        let mut values = Vec::new();
        let list = |texts: &[String]| Shown::bare(format!("[{}]", texts.join(", ")));
        if let Some(to) = expected.to.as_ref().filter(|to| **to != work.to) {
            values.push(value("to", list(to), list(&work.to)));
        }
        if let Some(subject) = expected.subject.as_ref().filter(|subject| **subject != work.subject) {
            values.push(value("subject", Shown::text(subject), Shown::text(&work.subject)));
        }
        if let Some(body) = expected.body.as_ref().filter(|body| body.trim_end() != work.body.trim_end()) {
            values.push(value("body", Shown::text(body.trim_end()), Shown::text(work.body.trim_end())));
        }
        let attached: Vec<String> = work.attachments.iter().map(|attachment| attachment.file_name.clone()).collect();
        if let Some(names) = expected.attached.as_ref().filter(|names| **names != attached) {
            values.push(value("attached", list(names), list(&attached)));
        }
        self.values("sent", "sends another message", values)
    }

    fn values(&self, field: &str, does: &str, values: Vec<Difference>) -> Option<Failure> {
        if values.is_empty() {
            return None;
        }
        let mut failure = Failure::new(self.path.field(field), format!("task `{}` {does}", self.expectation.task));
        failure.details = values.into_iter().map(Detail::Value).collect();
        Some(failure)
    }
}

fn value(name: &str, expected: Shown, found: Shown) -> Difference {
    Difference { name: name.to_owned(), expected, found }
}

fn place(before: &str, expected: &api::ExpectedFile, found: &pintail_protocol::FileTarget) -> Vec<Difference> {
    let parts = [("connection", &expected.connection, &found.connection), ("path", &expected.path, &found.path)];
    let differing = |(name, expected, found): (&str, &Option<String>, &String)| {
        let expected = expected.as_ref().filter(|expected| *expected != found)?;
        Some(value(&format!("{before}{name}"), Shown::text(expected), Shown::text(found)))
    };
    parts.into_iter().filter_map(differing).collect()
}
