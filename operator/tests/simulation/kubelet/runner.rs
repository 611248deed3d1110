//! A task runner that does no work, but all the rest: it reads `_commit` first, and commits a plausible report.

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::Timestamp;
use pintail_protocol::{
    Destination, ExitCode, FORMAT, Failure, FailureClass, FileIdentity, FileResult, LoadResult, NamedValue, OutputKind,
    OutputTarget, PinnedInput, RelationSource, ReportOutcome, ResultColumn, Results, StoredFile, TableResult,
    TaskReport, TerminationMessage, ValuesResult, Work, WorkOrder, WrittenFile, encode_report,
};
use pintail_storage::{CommitOutcome, RunTask, Store, StoreError, digest, layout};
use serde_json::json;

use crate::server::objects;

/// How the container ended.
#[derive(Clone, Debug)]
pub struct Ending {
    pub code: ExitCode,
    pub message: TerminationMessage,
}

/// One process of an attempt.
pub struct Runner<'a> {
    pub order: &'a WorkOrder,
    pub pod_uid: &'a str,
    pub store: &'a Store,
    pub started_at: Timestamp,
    /// Columns of its row of values.
    pub values: BTreeSet<String>,
}

impl Runner<'_> {
    /// What is committed already.
    pub async fn earlier_result(&self) -> Option<Ending> {
        let run = RunTask::of(&self.order.identity).unwrap();
        let (record, _) = self.store.read_commit(&run).await.unwrap()?;
        let ours = record.pod_uid == self.pod_uid && record.attempt == self.order.identity.attempt;
        let code = if ours { ExitCode::Committed } else { ExitCode::Superseded };
        Some(committed(code, record.report, record.digest))
    }

    pub async fn commit(&self, ended_at: Timestamp) -> Result<Ending, StoreError> {
        let results = self.results().await?;
        let report = self.report(ended_at, ReportOutcome::Succeeded(results));
        let (code, record) = match self.store.commit(&report).await? {
            CommitOutcome::Committed(record) | CommitOutcome::AlreadyOurs(record) => (ExitCode::Committed, record),
            CommitOutcome::Superseded(record) => (ExitCode::Superseded, record),
        };
        let mut ending = committed(code, record.report, record.digest);
        ending.message.content = encode_report(&report).filter(|_| code == ExitCode::Committed);
        Ok(ending)
    }

    pub async fn fail(&self, ended_at: Timestamp, class: FailureClass) -> Ending {
        let reason = match class {
            FailureClass::Permanent => "BinderError",
            FailureClass::Transient => "ConnectionRefused",
            FailureClass::Infrastructure => "StoreUnreachable",
            FailureClass::Busy => "DatabaseLocked",
            FailureClass::Interrupted => "Interrupted",
        };
        let failure = Failure { class, reason: reason.to_owned(), message: "as the script has it".to_owned() };
        let report = self.report(ended_at, ReportOutcome::Failed(failure.clone()));
        let (key, digest) = self.store.put_report(&report).await.unwrap();
        let message = TerminationMessage {
            format: FORMAT,
            failure: Some(failure),
            report: Some(key),
            digest: Some(digest),
            content: None,
        };
        Ending { code: class.into(), message }
    }

    fn report(&self, ended_at: Timestamp, outcome: ReportOutcome) -> TaskReport {
        let inputs = self.order.relations.iter().filter_map(|relation| {
            let (path, pinned) = match &relation.source {
                RelationSource::Files { path, pinned, .. } => (path, pinned),
                RelationSource::Uri { uri, pinned, .. } => (uri, pinned),
                _ => return None,
            };
            // Another version each time: only what is pinned makes attempts agree.
            let found = FileIdentity { path: path.replace('*', "1"), bytes: 812, version: self.pod_uid.to_owned() };
            let files = pinned.clone().unwrap_or_else(|| vec![found]);
            Some(PinnedInput { relation: relation.name.clone(), files })
        });
        TaskReport {
            format: FORMAT,
            identity: self.order.identity.clone(),
            pod_uid: self.pod_uid.to_owned(),
            reuse_key: self.order.reuse_key.clone(),
            started_at: self.started_at,
            ended_at,
            engine: "v1.5.5".to_owned(),
            inputs: inputs.collect(),
            reused_from: None,
            outcome,
        }
    }

    async fn results(&self) -> Result<Results, StoreError> {
        let mut results = Results::default();
        for output in &self.order.outputs {
            match output.kind {
                OutputKind::Values => {
                    let value = |name: &String| NamedValue {
                        name: name.clone(),
                        data_type: "BIGINT".to_owned(),
                        value: json!(self.number(name) % 90 + 10),
                    };
                    let values = self.values.iter().map(value).collect();
                    results.values.push(ValuesResult { name: output.name.clone(), values });
                }
                OutputKind::Table => {
                    let file = self.store(output, "parquet").await?;
                    let (rows, bytes) = (self.number(&output.name) % 900 + 100, file.bytes);
                    let columns = self.columns(output);
                    results.tables.push(TableResult {
                        name: output.name.clone(),
                        files: vec![file],
                        rows,
                        bytes,
                        columns,
                    });
                }
                OutputKind::File => {
                    let file = self.store(output, "html").await?;
                    let media_type = "text/html".to_owned();
                    results.files.push(FileResult { name: output.name.clone(), media_type, file });
                }
            }
        }
        let rows = self.number("rows") % 900 + 100;
        match &self.order.work {
            Work::DuckDb(work) if work.load.is_some() => {
                let watermark = Some("2025-01-07 23:59:59".to_owned());
                results.load = Some(LoadResult { rows, inserted: rows, updated: 0, watermark });
            }
            Work::Export(_) | Work::Copy(_) => {
                results.written.push(WrittenFile { uri: "s3://out/file".to_owned(), bytes: 812, rows: Some(rows) });
            }
            _ => {}
        }
        Ok(results)
    }

    /// The same for the same work, in whatever run and attempt.
    fn number(&self, name: &str) -> u64 {
        let identity = &self.order.identity;
        objects::digest(&(&identity.workflow, &identity.task, name))
    }

    /// Those of its contract, else of the first table from outside: as if all of that were selected.
    fn columns(&self, output: &OutputTarget) -> Vec<ResultColumn> {
        let column =
            |name: &str, data_type: &str| ResultColumn { name: name.to_owned(), data_type: data_type.to_owned() };
        let read = self.order.relations.iter().find_map(|relation| relation.contract.as_ref());
        match output.contract.as_ref().or(read) {
            Some(contract) => contract.columns.iter().map(|known| column(&known.name, &known.data_type)).collect(),
            None => vec![column("n", "BIGINT")],
        }
    }

    async fn store(&self, output: &OutputTarget, extension: &str) -> Result<StoredFile, StoreError> {
        let identity = &self.order.identity;
        let folder = match &output.destination {
            Destination::Run => RunTask::of(identity)?.attempt_folder(identity.attempt, self.pod_uid)?,
            Destination::Artifact { dataset, artifact_id } => {
                layout::artifact_folder(&identity.namespace, dataset, artifact_id, identity.attempt, self.pod_uid)?
            }
        };
        let key = layout::file(&folder, &format!("{}.{extension}", output.name))?;
        let content = Bytes::from(format!("{} {}", output.name, self.number(&output.name)));
        self.store.put(&key, content.clone()).await?;
        Ok(StoredFile { key, bytes: content.len() as u64, digest: digest(&content) })
    }
}

fn committed(code: ExitCode, report: String, digest: String) -> Ending {
    let message =
        TerminationMessage { format: FORMAT, failure: None, report: Some(report), digest: Some(digest), content: None };
    Ending { code, message }
}
