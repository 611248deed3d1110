//! What a run leaves in the store beside its own folder: the data of versions, written where they are published from the
//! start. A run says beforehand which these are, and afterwards whether they were published, so that what is left can be
//! found when the run is gone.

use std::collections::BTreeSet;

use bytes::Bytes;
use pintail_execution::Run;
use pintail_protocol::{CommitRecord, ReportOutcome};
use pintail_storage::{Store, StoreError, layout};
use serde::{Deserialize, Serialize};

use super::error::is_passing;

const FORMAT: u32 = 1;
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
    let key = layout::run_versions(&run.context.namespace, &run.context.uid)?;
    // Names only: this always becomes JSON.
    let json = serde_json::to_vec(&Versions { format: FORMAT, versions }).unwrap_or_default();
    store.put(&key, Bytes::from(json)).await
}

/// Says that they were published: their Artifacts decide over them from here on.
pub async fn published(store: &Store, run: &Run) -> Result<(), StoreError> {
    if run.versions().next().is_none() {
        return Ok(());
    }
    let key = layout::run_published(&run.context.namespace, &run.context.uid)?;
    store.put(&key, Bytes::from_static(b"{}\n")).await
}

/// Deletes all that a run left behind. `uris` are those of the Artifacts that there are: what one names stays.
pub async fn delete(store: &Store, namespace: &str, uid: &str, uris: &BTreeSet<String>) -> Result<(), StoreError> {
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
    }
    // Last: until it is gone, all of this can be done again.
    store.delete_folder(&layout::run_folder(namespace, uid)?).await
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
            Err(error) if is_passing(&error) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(uris)
}
