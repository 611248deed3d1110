//! One attempt from its order to its commit.
//!
//! ```text
//! _commit? ─> find and stage inputs ─> session ─> work ─> store files ─> last of the log ─> report ─> _commit
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pintail_protocol::{
    CommitRecord, Destination, DuckDbWork, ExitCode, FORMAT, Failure, FailureClass, FileIdentity, FileResult, Load,
    LogTail, OutputKind, OutputTarget, PinnedInput, RelationSource, ReportOutcome, ReportWork, Results, TableResult,
    TaskReport, TerminationMessage, ValuesResult, Work, WorkOrder, encode_report,
};
use pintail_storage::{CommitOutcome, RunTask, Store, StoreError, layout};
use tokio::runtime::Runtime;

use crate::failure::TaskFailure;
use crate::interrupt::{Interrupt, Watch};
use crate::log::Log;
use crate::log_chunks::LogChunks;
use crate::session::Session;
use crate::workspace::{Environment, SourceFile, Workspace};
use crate::{copy, export, files, inputs, load, notify, query, report, sql};

/// The version of DuckDB that reports name, as `SELECT version()` gives it.
#[must_use]
pub fn engine_version() -> &'static str {
    "v1.5.5"
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub code: ExitCode,
    pub message: TerminationMessage,
}

/// Executes an order and commits its result, unless a result is committed already. Blocks; must not be called from a
/// worker of an asynchronous runtime.
#[must_use]
pub fn run_order(
    order: &WorkOrder,
    pod_uid: &str,
    environment: &Environment,
    interrupt: &Interrupt,
    log: &Log,
) -> Ending {
    let opened = files::runtime().and_then(|runtime| {
        let store = Store::connect(&order.store)?;
        Ok((runtime, store))
    });
    let (runtime, store) = match opened {
        Ok(opened) => opened,
        Err(failure) => return failed(failure, None, log),
    };
    let started_at = Timestamp::now();
    let attempt = Attempt { order, pod_uid, environment, interrupt, log, runtime, store, started_at };
    match attempt.earlier_result() {
        Ok(Some(ending)) => ending,
        Ok(None) => attempt.run(),
        Err(failure) => failed(failure, None, log),
    }
}

struct Attempt<'a> {
    order: &'a WorkOrder,
    pod_uid: &'a str,
    environment: &'a Environment,
    interrupt: &'a Interrupt,
    log: &'a Log,
    runtime: Runtime,
    store: Store,
    started_at: Timestamp,
}

/// What came of the work, before it is committed.
struct Product {
    results: Results,
    /// The files outside the store that it came of.
    inputs: Vec<PinnedInput>,
    reused_from: Option<String>,
}

type Found = BTreeMap<String, Vec<SourceFile>>;

/// Key and local path of each output that is a file, by the output's name.
type Outputs = BTreeMap<String, (String, PathBuf)>;

/// A session that can be interrupted. Fields are dropped in their order: the watch goes first.
struct Watched<'a> {
    _watch: Watch<'a>,
    session: Session,
}

impl Attempt<'_> {
    fn earlier_result(&self) -> Result<Option<Ending>, TaskFailure> {
        let run = RunTask::of(&self.order.identity)?;
        let Some((record, report)) = self.runtime.block_on(self.store.read_commit(&run))? else { return Ok(None) };
        let ours = record.pod_uid == self.pod_uid && record.attempt == self.order.identity.attempt;
        let code = if ours { ExitCode::Committed } else { ExitCode::Superseded };
        self.log.info(&format!("a result is committed already, by attempt {}", record.attempt));
        Ok(Some(committed(code, record, &report)))
    }

    fn run(&self) -> Ending {
        let identity = &self.order.identity;
        self.log.info(&format!("task {}, attempt {} of run {}", identity.task, identity.attempt, identity.execution));
        let mut found = Found::new();
        let chunks = match RunTask::of(identity).and_then(|run| run.attempt_folder(identity.attempt, self.pod_uid)) {
            Ok(folder) => LogChunks::new(self.log, folder),
            Err(error) => return failed(error.into(), None, self.log),
        };
        let work = || self.work(&mut found).and_then(|product| self.commit(product, &chunks));
        match chunks.during(&self.store, work) {
            Ok(ending) => ending,
            Err(failure) => self.report_failure(failure, &found, &chunks),
        }
    }

    fn work(&self, found: &mut Found) -> Result<Product, TaskFailure> {
        *found = inputs::find(self.order, self.environment)?;
        self.interrupt.check()?;
        let pins = inputs::pins(found);
        if let Some(product) = self.reuse(&pins) {
            return Ok(product);
        }
        let scratch = tempfile::Builder::new()
            .prefix("pintail-")
            .tempdir()
            .map_err(|error| TaskFailure::from_io(&error, "make a scratch folder"))?;
        let staged = inputs::stage(self.order, &self.store, &self.runtime, scratch.path())?;
        let mut workspace =
            Workspace { scratch: scratch.path().to_owned(), staged, found: found.clone(), outputs: Vec::new() };
        let outputs = self.output_paths(scratch.path())?;
        workspace.outputs.extend(outputs.values().filter_map(|(_, path)| Some(path.parent()?.to_owned())));
        self.interrupt.check()?;
        let results = match &self.order.work {
            Work::Copy(work) => {
                let written = copy::copy(work, self.order, self.environment, scratch.path())?;
                self.log.info(&format!("{} files copied", written.len()));
                Results { written, ..Results::default() }
            }
            Work::DuckDb(work) => return self.duckdb(&self.session(workspace)?.session, work, &outputs, pins),
            Work::Report(work) => self.page(&self.session(workspace)?.session, work, &outputs)?,
            Work::Export(work) => {
                let file = export::export(&self.session(workspace)?.session, work, self.order, self.environment)?;
                self.log.info(&format!("{} bytes written to {}", file.bytes, file.uri));
                Results { written: vec![file], ..Results::default() }
            }
            Work::Notify(work) => {
                let work = notify::with_log(work, |tail| self.log_of(tail), |text| self.log.redact(text));
                notify::notify(&self.session(workspace)?.session, &work, self.order, self.environment)?;
                let done = if self.environment.rehearsal().is_some() { "would be" } else { "is" };
                self.log.info(&format!("the message {} {done} sent", work.message_id));
                Results::default()
            }
        };
        // A page can be made again; what was sent or copied is done.
        if matches!(self.order.work, Work::Report(_)) {
            self.unchanged(&pins)?;
        }
        Ok(Product { results, inputs: pins, reused_from: None })
    }

    fn log_of(&self, tail: &LogTail) -> Result<Vec<u8>, StoreError> {
        let identity = &self.order.identity;
        self.runtime.block_on(self.store.read_log(&identity.namespace, &identity.execution_uid, &tail.task))
    }

    /// Refuses results of files that were changed while they were read. Further files may have come meanwhile.
    fn unchanged(&self, pins: &[PinnedInput]) -> Result<(), TaskFailure> {
        if pins.is_empty() {
            return Ok(());
        }
        let mut order = self.order.clone();
        for relation in &mut order.relations {
            if let RelationSource::Files { pinned, .. } | RelationSource::Uri { pinned, .. } = &mut relation.source {
                *pinned = None;
            }
        }
        let now = inputs::find(&order, self.environment)?;
        for pin in pins {
            let files = now.get(&pin.relation).into_iter().flatten().map(|file| &file.identity);
            let files: BTreeMap<&str, &FileIdentity> = files.map(|file| (file.path.as_str(), file)).collect();
            if let Some(file) = pin.files.iter().find(|file| files.get(file.path.as_str()) != Some(file)) {
                let message = format!("{} was changed or removed while it was read: start a new run", file.path);
                let failure = TaskFailure::permanent("InputChanged", message);
                return Err(failure.on(&format!("table `{}`", pin.relation)));
            }
        }
        Ok(())
    }

    fn session(&self, workspace: Workspace) -> Result<Watched<'_>, TaskFailure> {
        let session = Session::open(self.order, workspace, self.environment)?;
        let watch = self.interrupt.watch(&session)?;
        self.log.info("the session is open");
        Ok(Watched { _watch: watch, session })
    }

    /// The results of another run's equal work, where it read the same files.
    fn reuse(&self, pins: &[PinnedInput]) -> Option<Product> {
        let candidate = self.order.reuse.as_ref()?;
        let report = match self.runtime.block_on(self.store.read_report(&candidate.report, &candidate.digest)) {
            Ok(report) => report,
            Err(error) => {
                self.log.info(&format!("nothing is reused: {error}"));
                return None;
            }
        };
        let ReportOutcome::Succeeded(results) = report.outcome else { return None };
        // A place that gives files no version cannot say that they are the same.
        let told_apart = pins.iter().flat_map(|pin| &pin.files).all(|file| !file.version.is_empty());
        if report.reuse_key != self.order.reuse_key || report.inputs != pins || !told_apart {
            self.log.info("nothing is reused: the files that are read have changed");
            return None;
        }
        self.log.info(&format!("reusing the results of run {}", report.identity.execution));
        let origin = report.reused_from.unwrap_or(report.identity.execution);
        Some(Product { results, inputs: pins.to_vec(), reused_from: Some(origin) })
    }

    fn output_paths(&self, scratch: &Path) -> Result<Outputs, TaskFailure> {
        let identity = &self.order.identity;
        let run = RunTask::of(identity)?;
        let mut paths = BTreeMap::new();
        for output in &self.order.outputs {
            let extension = match output.kind {
                OutputKind::Table => "parquet",
                OutputKind::File => "html",
                OutputKind::Values => continue,
            };
            let folder = match &output.destination {
                Destination::Run => run.attempt_folder(identity.attempt, self.pod_uid)?,
                Destination::Artifact { dataset, artifact_id } => {
                    layout::artifact_folder(&identity.namespace, dataset, artifact_id, identity.attempt, self.pod_uid)?
                }
            };
            let key = layout::file(&folder, &format!("{}.{extension}", output.name))?;
            let path = self.runtime.block_on(self.store.output_path(&key, scratch))?;
            paths.insert(output.name.clone(), (key, path));
        }
        Ok(paths)
    }

    fn duckdb(
        &self,
        session: &Session,
        work: &DuckDbWork,
        outputs: &Outputs,
        pins: Vec<PinnedInput>,
    ) -> Result<Product, TaskFailure> {
        query::run_setup(session, &work.setup)?;
        let mut results = Results::default();
        let loaded = |name: &str| work.load.is_some() && name == "result";
        for named in work.queries.iter().filter(|named| !loaded(&named.output)) {
            self.interrupt.check()?;
            let what = format!("query `{}`", named.output);
            let target = self.order.outputs.iter().find(|output| output.name == named.output);
            match target {
                Some(OutputTarget { kind: OutputKind::Values, .. }) => {
                    let values = query::read_values(session, &named.sql, &what)?;
                    results.values.push(ValuesResult { name: named.output.clone(), values });
                }
                Some(OutputTarget { kind: OutputKind::Table, contract, .. }) => {
                    let (key, path) = outputs.get(&named.output).ok_or_else(|| without_target(&what))?;
                    let written = query::write_table(session, &named.sql, &what, contract.as_ref(), path)?;
                    results.tables.push(self.store_table(&named.output, written, key, path)?);
                }
                Some(_) | None => return Err(without_target(&what)),
            }
        }
        // Last, so that nothing is loaded where another result fails.
        if let (Some(wanted), Some(named)) = (&work.load, work.queries.iter().find(|named| loaded(&named.output))) {
            return self.load(session, wanted, &named.sql, results, pins);
        }
        self.unchanged(&pins)?;
        Ok(Product { results, inputs: pins, reused_from: None })
    }

    fn load(
        &self,
        session: &Session,
        wanted: &Load,
        query: &str,
        mut results: Results,
        pins: Vec<PinnedInput>,
    ) -> Result<Product, TaskFailure> {
        self.interrupt.check()?;
        let text = sql::query(query, "query `result`")?;
        session.check(text).map_err(|failure| failure.on("query `result`"))?;
        let unchanged = || self.unchanged(&pins);
        let loaded = load::load(session, &self.order.identity, wanted, text, self.environment.now(), &unchanged)?;
        if loaded.inputs != pins && !results.tables.is_empty() {
            let message = "an earlier attempt loaded other files than this one found, and further results would not \
                           belong to them: start a new run to use what is there now";
            return Err(TaskFailure::permanent("InputChanged", message));
        }
        let done = &loaded.result;
        self.log.info(&format!("loaded into {}: {} inserted, {} updated", wanted.table, done.inserted, done.updated));
        results.load = Some(loaded.result);
        Ok(Product { results, inputs: loaded.inputs, reused_from: None })
    }

    fn page(&self, session: &Session, work: &ReportWork, outputs: &Outputs) -> Result<Results, TaskFailure> {
        let page = report::page(session, work, &self.order.identity)?;
        let (key, path) = outputs.get("result").ok_or_else(|| without_target("the page"))?;
        std::fs::write(path, page).map_err(|error| TaskFailure::from_io(&error, "write the page"))?;
        let file = self.runtime.block_on(self.store.store_file(path, key))?;
        self.log.info(&format!("page: {} bytes", file.bytes));
        let page = FileResult { name: "result".to_owned(), media_type: "text/html".to_owned(), file };
        Ok(Results { files: vec![page], ..Results::default() })
    }

    fn store_table(
        &self,
        name: &str,
        written: query::WrittenTable,
        key: &str,
        path: &Path,
    ) -> Result<TableResult, TaskFailure> {
        let file = self.runtime.block_on(self.store.store_file(path, key))?;
        self.log.info(&format!("result `{name}`: {} rows, {} bytes", written.rows, file.bytes));
        let (rows, bytes, columns) = (written.rows, file.bytes, written.columns);
        Ok(TableResult { name: name.to_owned(), files: vec![file], rows, bytes, columns })
    }

    /// What is done is committed, also where it was told to stop meanwhile: a mail or a load cannot be taken back.
    fn commit(&self, product: Product, chunks: &LogChunks) -> Result<Ending, TaskFailure> {
        chunks.write(&self.store, &self.runtime)?;
        let mut report = self.report(ReportOutcome::Succeeded(product.results), product.inputs);
        report.reused_from = product.reused_from;
        let (code, record) = match self.runtime.block_on(self.store.commit(&report))? {
            CommitOutcome::Committed(record) | CommitOutcome::AlreadyOurs(record) => (ExitCode::Committed, record),
            CommitOutcome::Superseded(record) => (ExitCode::Superseded, record),
        };
        Ok(committed(code, record, &report))
    }

    fn report(&self, outcome: ReportOutcome, inputs: Vec<PinnedInput>) -> TaskReport {
        TaskReport {
            format: FORMAT,
            identity: self.order.identity.clone(),
            pod_uid: self.pod_uid.to_owned(),
            reuse_key: self.order.reuse_key.clone(),
            started_at: self.started_at,
            ended_at: Timestamp::now(),
            engine: engine_version().to_owned(),
            inputs,
            reused_from: None,
            outcome,
        }
    }

    /// A failure that cannot be reported is told all the same, by exit code and termination message.
    fn report_failure(&self, failure: TaskFailure, found: &Found, chunks: &LogChunks) -> Ending {
        let mut shown: Failure = failure.clone().into();
        shown.message = self.log.redact(&shown.message);
        let report = self.report(ReportOutcome::Failed(shown), inputs::pins(found));
        let mut ending = failed(failure, None, self.log);
        let logged = chunks.write(&self.store, &self.runtime);
        match logged.and_then(|()| self.runtime.block_on(self.store.put_report(&report))) {
            Ok((key, digest)) => (ending.message.report, ending.message.digest) = (Some(key), Some(digest)),
            Err(error) => self.log.error(&format!("the failure could not be reported: {error}")),
        }
        ending
    }
}

fn without_target(what: &str) -> TaskFailure {
    TaskFailure::infrastructure("InvalidOrder", format!("{what} has no output that takes its result"))
}

/// The ending where a result is committed: with `report` where that is the one.
fn committed(code: ExitCode, record: CommitRecord, report: &TaskReport) -> Ending {
    let content = encode_report(report).filter(|_| code == ExitCode::Committed);
    let (report, digest) = (Some(record.report), Some(record.digest));
    Ending { code, message: TerminationMessage { format: FORMAT, failure: None, report, digest, content } }
}

/// The ending of a failure, which is logged.
fn failed(failure: TaskFailure, report: Option<String>, log: &Log) -> Ending {
    let class: FailureClass = failure.class;
    log.error(&failure.to_string());
    let mut failure: Failure = failure.into();
    failure.message = log.redact(&failure.message);
    let message = TerminationMessage { format: FORMAT, failure: Some(failure), report, digest: None, content: None };
    Ending { code: class.into(), message }
}
