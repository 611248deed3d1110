use std::time::Duration;

use pintail_protocol::Failure;
use pintail_storage::{StoreError, StoreErrorClass};

use crate::Reconciled;

/// Why a reconcile did not come to its end. Each is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The object was changed after it was read.
    #[error("the object was changed meanwhile")]
    Conflict,
    #[error("{action}: {}", words(.error))]
    Kubernetes { action: String, error: kube::Error },
    /// The checker does not answer, which is logged once for all.
    #[error("the SQL is not checked: {0}")]
    NotChecked(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Other(String),
}

impl ReconcileError {
    pub fn outcome(&self) -> Reconciled {
        match self {
            Self::Conflict => Reconciled::Conflict,
            _ => Reconciled::Failed,
        }
    }

    /// After `failures` failures in a row.
    pub fn retry_after(&self, failures: u32) -> Duration {
        const FIRST: Duration = Duration::from_millis(500);
        const LAST: Duration = Duration::from_secs(30);
        match self {
            // At first the watch is only a little behind.
            Self::Conflict => Duration::from_millis(20).saturating_mul(1 << failures.min(11)).min(LAST),
            _ => FIRST.saturating_mul(1 << failures.min(8)).min(LAST),
        }
    }
}

/// Says of a failed request what was attempted.
pub trait Attempted<T> {
    /// `action` is what was attempted on what, as in `create pod a`.
    fn attempted(self, action: impl FnOnce() -> String) -> Result<T, ReconcileError>;
}

impl<T> Attempted<T> for Result<T, kube::Error> {
    fn attempted(self, action: impl FnOnce() -> String) -> Result<T, ReconcileError> {
        self.map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict" => ReconcileError::Conflict,
            _ => ReconcileError::Kubernetes { action: action(), error },
        })
    }
}

/// The server's own words where it answered.
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

/// Whether the store may answer better later; else what is stored is wrong.
pub fn is_passing(error: &StoreError) -> bool {
    matches!(
        error.class(),
        StoreErrorClass::Unreachable
            | StoreErrorClass::NoCredential
            | StoreErrorClass::Denied
            | StoreErrorClass::NoSpace
            | StoreErrorClass::ReadOnly
    )
}

pub fn failure_words(failure: &Failure) -> String {
    format!("{}: {}", failure.reason, failure.message)
}
