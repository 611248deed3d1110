//! What a run leaves in the store beside its own folder: the data of versions, written where they are published from the
//! start. A run says beforehand which these are, and afterwards whether they were published, so that what is left can be
//! found when the run is gone.

use std::collections::BTreeSet;

use bytes::Bytes;
use pintail_engine::TaskIndex;
use pintail_execution::Run;
use pintail_protocol::{CommitRecord, ReportOutcome};
use pintail_storage::{Store, StoreError, StoreErrorClass, layout};
use serde::{Deserialize, Serialize};

const FORMAT: u32 = pintail_protocol::of_build(1);
const VERSIONS_BYTES: usize = 256 << 10;
const COMMIT_BYTES: usize = 16 << 10;

#[derive(Serialize, Deserialize)]
struct Versions {
    format: u32,
    /// Dataset and name of the Artifact.
    versions: Vec<(String, String)>,
}

/// Says which versions the run may write.
pub async fn announce(store: &Store, run: &Run) -> Result<(), StoreError> {
    let versions: Vec<(String, String)> =
        run.versions().map(|(dataset, name)| (dataset.to_owned(), name.to_owned())).collect();
    if versions.is_empty() {
        return Ok(());
    }
    write_versions(store, &run.context.namespace, &run.context.uid, versions).await
}

async fn write_versions(
    store: &Store,
    namespace: &str,
    uid: &str,
    versions: Vec<(String, String)>,
) -> Result<(), StoreError> {
    // Names only: this always becomes JSON.
    let json = serde_json::to_vec(&Versions { format: FORMAT, versions }).unwrap_or_default();
    store.put(&layout::run_versions(namespace, uid)?, Bytes::from(json)).await
}

/// Says that they were published: their Artifacts decide over them from here on. `reuses` are the uids of the runs whose
/// files the run may have taken over: what was published then lies among theirs.
pub async fn published(store: &Store, run: &Run, reuses: &[String]) -> Result<(), StoreError> {
    if run.versions().next().is_none() {
        return Ok(());
    }
    let tasks = (0..).map(TaskIndex).take(run.plan.tasks.len());
    let takes_over = tasks.filter_map(|task| run.report(task)).any(|report| report.reused_from.is_some());
    let others = reuses.iter().filter(|_| takes_over);
    for uid in others.chain([&run.context.uid]) {
        mark_published(store, &run.context.namespace, uid).await?;
    }
    Ok(())
}

async fn mark_published(store: &Store, namespace: &str, uid: &str) -> Result<(), StoreError> {
    store.put(&layout::run_published(namespace, uid)?, Bytes::from_static(b"{}\n")).await
}

/// Deletes all that a run left behind. `uris` are those of the Artifacts that there are: what one names stays.
pub async fn delete(store: &Store, namespace: &str, uid: &str, uris: &BTreeSet<String>) -> Result<(), StoreError> {
    delete_versions(store, namespace, uid, uris).await?;
    // Last: until it is gone, all of this can be done again.
    store.delete_folder(&layout::run_folder(namespace, uid)?).await
}

/// Deletes the data of versions that were never published.
async fn delete_versions(store: &Store, namespace: &str, uid: &str, uris: &BTreeSet<String>) -> Result<(), StoreError> {
    let key = layout::run_versions(namespace, uid)?;
    let versions = store.get(&key, VERSIONS_BYTES).await?;
    let versions = versions.and_then(|bytes| serde_json::from_slice::<Versions>(&bytes).ok());
    let versions = versions.map(|versions| versions.versions).unwrap_or_default();
    if !versions.is_empty() {
        let mut kept: BTreeSet<String> = uris.clone();
        if store.get(&layout::run_published(namespace, uid)?, COMMIT_BYTES).await?.is_some() {
            kept.extend(committed(store, namespace, uid).await?);
        }
        for (dataset, name) in versions {
            delete_version(store, namespace, &dataset, &name, &kept).await?;
        }
        // The folder goes object by object: whoever finds half of it must not judge anew what was published.
        write_versions(store, namespace, uid, Vec::new()).await?;
    }
    Ok(())
}

/// Deletes the folders of attempts that nothing names.
async fn delete_version(
    store: &Store,
    namespace: &str,
    dataset: &str,
    name: &str,
    kept: &BTreeSet<String>,
) -> Result<(), StoreError> {
    let version = layout::artifact_version(namespace, dataset, name)?;
    for attempt in store.folders(&version).await? {
        for pod in store.folders(&format!("{version}/{attempt}")).await? {
            let folder = format!("{version}/{attempt}/{pod}");
            let prefix = format!("{}/", store.uri(&folder));
            if !kept.iter().any(|uri| uri.starts_with(&prefix)) {
                store.delete_folder(&folder).await?;
            }
        }
    }
    Ok(())
}

/// Where the data is that the run committed.
async fn committed(store: &Store, namespace: &str, uid: &str) -> Result<Vec<String>, StoreError> {
    let mut uris = Vec::new();
    for key in store.list(&layout::run_folder(namespace, uid)?).await? {
        if !key.ends_with("/_commit") {
            continue;
        }
        let record = store.get(&key, COMMIT_BYTES).await?;
        let Some(record) = record.and_then(|bytes| serde_json::from_slice::<CommitRecord>(&bytes).ok()) else {
            continue;
        };
        match store.read_report(&record.report, &record.digest).await {
            Ok(report) => {
                if let ReportOutcome::Succeeded(results) = report.outcome {
                    let files = results.tables.iter().flat_map(|table| &table.files);
                    uris.extend(files.map(|file| store.uri(&file.key)));
                }
            }
            // It cannot be found out any more what it named.
            Err(error) if matches!(error.class(), StoreErrorClass::Corrupt | StoreErrorClass::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(uris)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const FILE: &str = "team/artifacts/sales/sales-1/a1/pod/part.parquet";

    /// A store in which run `u1` wrote one file of the version `sales-1`.
    async fn store_with_a_version() -> Store {
        let store = Store::in_memory(Arc::new(object_store::memory::InMemory::new()));
        let versions = vec![("sales".to_owned(), "sales-1".to_owned())];
        write_versions(&store, "team", "u1", versions).await.expect("written");
        store.put(FILE, Bytes::from_static(b"data")).await.expect("written");
        store
    }

    async fn is_there(store: &Store) -> bool {
        store.get(FILE, 16).await.expect("an answer").is_some()
    }

    #[tokio::test]
    async fn the_data_of_a_version_that_nothing_names_goes_with_its_run() {
        let store = store_with_a_version().await;
        delete(&store, "team", "u1", &BTreeSet::new()).await.expect("deleted");
        assert!(!is_there(&store).await);
        assert!(store.list("team/runs").await.expect("an answer").is_empty());
    }

    #[tokio::test]
    async fn what_was_kept_once_is_kept_though_deleting_the_run_is_cut_short() {
        let store = store_with_a_version().await;
        delete_versions(&store, "team", "u1", &[store.uri(FILE)].into()).await.expect("looked at");
        // The Artifact has been deleted since; its data is to stay.
        delete(&store, "team", "u1", &BTreeSet::new()).await.expect("deleted");
        assert!(is_there(&store).await);
    }

    #[tokio::test]
    async fn nothing_is_deleted_where_a_newer_build_wrote_what_is_published() {
        let store = store_with_a_version().await;
        mark_published(&store, "team", "u1").await.expect("written");
        let report = Bytes::from_static(br#"{"format": 999}"#);
        let digest = pintail_storage::digest(&report);
        store.put("team/runs/u1/a/report.json", report).await.expect("written");
        let record = CommitRecord {
            format: 1,
            attempt: 1,
            pod_uid: "pod".to_owned(),
            report: "team/runs/u1/a/report.json".to_owned(),
            digest,
        };
        let record = serde_json::to_vec(&record).expect("JSON");
        store.put("team/runs/u1/a/_commit", Bytes::from(record)).await.expect("written");
        let error = delete(&store, "team", "u1", &BTreeSet::new()).await.expect_err("a newer format");
        assert_eq!(error.class(), StoreErrorClass::NewerFormat, "{error}");
        assert!(is_there(&store).await);
    }
}
