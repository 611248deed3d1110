//! Markers in the store: which Execution an occurrence has started. They outlive their Executions, and refuse a second.

use bytes::Bytes;
use pintail_api as api;
use pintail_execution::launch::{MARKERS_AT, marker_name};
use pintail_storage::{PutOnce, Store, layout};
use serde::{Deserialize, Serialize};

use crate::controllers::error::ReconcileError;

const FORMAT: u32 = 1;
const MARKER_BYTES: usize = 64 << 10;

/// `<namespace>/triggers/<plan>/<trigger>/<occurrence>`
#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
    execution: String,
    uid: String,
    /// For people: the name of the object is a digest of it.
    occurrence: String,
}

fn key(namespace: &str, started: &api::StartedBy) -> Result<String, ReconcileError> {
    let trigger = started.name.as_deref().unwrap_or(MARKERS_AT);
    Ok(layout::trigger_marker(namespace, &started.plan, trigger, &marker_name(started))?)
}

/// Claims the occurrence for the Execution of this uid. False where another has it.
pub async fn claim(
    store: &Store,
    namespace: &str,
    started: &api::StartedBy,
    name: &str,
    uid: &str,
) -> Result<bool, ReconcileError> {
    let key = key(namespace, started)?;
    match store.put_once(&key, text(started, name, uid)?).await? {
        PutOnce::Created => Ok(true),
        // It may be this Execution's own, written before a restart.
        PutOnce::Exists => Ok(read(store, &key).await?.is_none_or(|marker| marker.uid == uid)),
    }
}

/// Claims the occurrence for an Execution that is about to go: its time to refuse others begins now.
pub async fn renew(
    store: &Store,
    namespace: &str,
    started: &api::StartedBy,
    name: &str,
    uid: &str,
) -> Result<(), ReconcileError> {
    let key = key(namespace, started)?;
    let text = text(started, name, uid)?;
    if store.put_once(&key, text.clone()).await? == PutOnce::Exists
        && read(store, &key).await?.is_some_and(|marker| marker.uid == uid)
    {
        store.put(&key, text).await?;
    }
    Ok(())
}

fn text(started: &api::StartedBy, name: &str, uid: &str) -> Result<Bytes, ReconcileError> {
    let marker = Marker {
        format: FORMAT,
        execution: name.to_owned(),
        uid: uid.to_owned(),
        occurrence: started.occurrence.clone(),
    };
    let text = serde_json::to_vec(&marker).map_err(|error| ReconcileError::Other(error.to_string()))?;
    Ok(Bytes::from(text))
}

/// Whether the occurrence has started an Execution before.
pub async fn exists(store: &Store, namespace: &str, started: &api::StartedBy) -> Result<bool, ReconcileError> {
    Ok(read(store, &key(namespace, started)?).await?.is_some())
}

async fn read(store: &Store, key: &str) -> Result<Option<Marker>, ReconcileError> {
    let Some(bytes) = store.get(key, MARKER_BYTES).await? else { return Ok(None) };
    // One that is damaged still says that there was one.
    let damaged = || Marker { format: FORMAT, execution: String::new(), uid: String::new(), occurrence: String::new() };
    Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| damaged())))
}
