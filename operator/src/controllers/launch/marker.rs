//! Markers in the store: which Execution an occurrence has started. They outlive their Executions, and refuse a second.

use pintail_api as api;
use pintail_execution::launch::{MARKERS_AT, marker_name};
use pintail_storage::{Marker, Store, layout};

use crate::controllers::error::ReconcileError;

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
    Ok(store.claim_occurrence(&key(namespace, started)?, &Marker::new(name, uid, &started.occurrence)).await?)
}

/// Claims the occurrence for an Execution that is about to go: its time to refuse others begins now.
pub async fn renew(
    store: &Store,
    namespace: &str,
    started: &api::StartedBy,
    name: &str,
    uid: &str,
) -> Result<(), ReconcileError> {
    let marker = Marker::new(name, uid, &started.occurrence);
    Ok(store.renew_occurrence(&key(namespace, started)?, &marker).await?)
}

/// Whether the occurrence has started an Execution before.
pub async fn exists(store: &Store, namespace: &str, started: &api::StartedBy) -> Result<bool, ReconcileError> {
    Ok(store.marker(&key(namespace, started)?).await?.is_some())
}
