//! The record of a finished run in the store, which outlives its Execution, and the results that another run may take over.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use pintail_api as api;
use pintail_execution::{CommittedReport, Reusable, RunRecord};
use pintail_protocol::{ReportOutcome, TaskReport};
use pintail_storage::{Store, StoreError, layout};
use serde::{Deserialize, Serialize};

use super::Subject;
use crate::controllers::error::{ReconcileError, is_passing};

const FORMAT: u32 = pintail_protocol::of_build(1);
/// An Execution is at most 1.5 MiB in the cluster; its inputs may be rows.
const RECORD_BYTES: usize = 8 << 20;
const UNPACKED_BYTES: usize = 64 << 20;
/// Reports that are read at once.
const AT_ONCE: usize = 8;

/// `<namespace>/history/date=YYYY-MM-DD/<uid>.json.zst`
#[derive(Serialize, Deserialize)]
struct HistoryRecord {
    format: u32,
    execution: api::Execution,
}

/// Writes the record of a run that has ended. Repeating it does no harm: the content is the same.
pub async fn write(store: &Store, subject: &Subject) -> Result<(), ReconcileError> {
    let other = |error: String| ReconcileError::Other(format!("cannot write the history of the run: {error}"));
    let mut execution = api::Execution::clone(&subject.execution);
    // These change with every write and say nothing of the run.
    execution.metadata.managed_fields = None;
    execution.metadata.resource_version = None;
    // Who is told of the end is told after this.
    execution.status.iter_mut().for_each(|status| status.notifications.clear());
    let record = HistoryRecord { format: FORMAT, execution };
    let json = serde_json::to_vec(&record).map_err(|error| other(error.to_string()))?;
    let packed =
        zstd::bulk::compress(&json, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(|error| other(error.to_string()))?;
    store.put(&key(&subject.execution, &subject.namespace)?, Bytes::from(packed)).await?;
    Ok(())
}

async fn read(
    store: &Store,
    execution: &api::Execution,
    namespace: &str,
) -> Result<Option<api::Execution>, ReconcileError> {
    let Some(bytes) = store.get(&key(execution, namespace)?, RECORD_BYTES).await? else { return Ok(None) };
    let broken = |error: String| ReconcileError::Other(format!("the history of the run cannot be read: {error}"));
    let json = zstd::bulk::decompress(&bytes, UNPACKED_BYTES).map_err(|error| broken(error.to_string()))?;
    let record: HistoryRecord = serde_json::from_slice(&json).map_err(|error| broken(error.to_string()))?;
    Ok(Some(record.execution))
}

fn key(execution: &api::Execution, namespace: &str) -> Result<String, ReconcileError> {
    let ended = execution.status.as_ref().and_then(|status| status.completion_time.as_deref()).unwrap_or_default();
    let date = ended.get(..10).unwrap_or("unknown");
    let uid = execution.metadata.uid.as_deref().unwrap_or_default();
    Ok(layout::history(namespace, date, uid)?)
}

/// The committed results of a run, by task name; none where its record cannot be read: then all is done anew.
pub async fn committed_of(
    store: &Store,
    execution: &api::Execution,
    namespace: &str,
) -> Result<Reusable, ReconcileError> {
    let state = |execution: &api::Execution| execution.status.as_ref().and_then(|status| status.state.clone());
    let state = match state(execution) {
        Some(state) => Some(state),
        None => readable(read(store, execution, namespace).await)?.as_ref().and_then(state),
    };
    let Some(record) = state.and_then(|state| RunRecord::decode(&state).ok()) else { return Ok(Reusable::new()) };
    committed_reports(store, &record, true).await
}

/// A record that is damaged counts as none; of a store that does not answer nothing is known.
fn readable<T>(read: Result<Option<T>, ReconcileError>) -> Result<Option<T>, ReconcileError> {
    match read {
        Err(ReconcileError::Other(cause)) => {
            tracing::warn!("{cause}");
            Ok(None)
        }
        Err(ReconcileError::Store(error)) if !is_passing(&error) => {
            tracing::warn!("{error}");
            Ok(None)
        }
        read => read,
    }
}

/// The committed reports that a record names. `or_none`: one that is damaged or gone is left out, and so is one whose data
/// is gone, as with an Artifact that was deleted.
pub async fn committed_reports(store: &Store, record: &RunRecord, or_none: bool) -> Result<Reusable, ReconcileError> {
    let named = record
        .tasks
        .iter()
        .filter_map(|(task, recorded)| Some((task.clone(), recorded.report.clone()?, recorded.digest.clone()?)));
    let reads = named.map(|(task, key, digest)| async move {
        match store.read_report(&key, &digest).await {
            Ok(report) if or_none && !has_files(store, &report).await? => Ok(None),
            Ok(report) => Ok(Some((task, CommittedReport { key, digest, report }))),
            Err(error) if or_none && !is_passing(&error) => Ok(None),
            Err(error) => Err(ReconcileError::from(error)),
        }
    });
    let reads: Vec<_> = reads.collect();
    let reports: Vec<Option<(String, CommittedReport)>> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
    Ok(reports.into_iter().flatten().collect())
}

/// Whether all the files are there that a report names.
async fn has_files(store: &Store, report: &TaskReport) -> Result<bool, StoreError> {
    let ReportOutcome::Succeeded(results) = &report.outcome else { return Ok(true) };
    let tables = results.tables.iter().flat_map(|table| &table.files);
    let keys = tables.chain(results.files.iter().map(|file| &file.file)).map(|file| file.key.as_str());
    are_there(store, keys.collect()).await
}

async fn are_there(store: &Store, keys: BTreeSet<&str>) -> Result<bool, StoreError> {
    let folders: BTreeSet<&str> = keys.iter().filter_map(|key| Some(key.rsplit_once('/')?.0)).collect();
    let mut found = BTreeSet::new();
    for folder in folders {
        found.extend(store.list(folder).await?);
    }
    Ok(keys.iter().all(|key| found.contains(*key)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn store() -> Store {
        Store::in_memory(Arc::new(object_store::memory::InMemory::new()))
    }

    #[tokio::test]
    async fn data_that_was_deleted_is_missed() {
        let store = store();
        store.put("team/a/1.parquet", Bytes::from_static(b"1")).await.expect("written");
        store.put("team/b/2.parquet", Bytes::from_static(b"2")).await.expect("written");
        let keys = || BTreeSet::from(["team/a/1.parquet", "team/b/2.parquet"]);
        assert!(are_there(&store, keys()).await.expect("an answer"));
        store.delete_folder("team/b").await.expect("deleted");
        assert!(!are_there(&store, keys()).await.expect("an answer"));
    }

    #[tokio::test]
    async fn a_run_whose_record_is_damaged_leaves_nothing_to_take_over() {
        let store = store();
        let spec = serde_json::from_value(serde_json::json!({ "workflowRef": { "name": "w" } })).expect("a spec");
        let mut execution = api::Execution::new("a", spec);
        execution.metadata.uid = Some("u1".to_owned());
        let key = key(&execution, "team").expect("a key");
        store.put(&key, Bytes::from_static(b"no zstd")).await.expect("written");
        assert_eq!(committed_of(&store, &execution, "team").await.expect("none"), Reusable::new());
    }
}
