use serde::{Deserialize, Serialize};

use crate::FailureClass;

/// Exit codes of the runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// The result is committed, by this process or an earlier one of the same attempt.
    Committed = 0,
    /// The order could not be read.
    Usage = 2,
    /// Another attempt's result is committed already; nothing of this one counts.
    Superseded = 3,
    Permanent = 4,
    Transient = 5,
    Infrastructure = 6,
    Busy = 7,
    /// SIGTERM or SIGINT ended the work.
    Interrupted = 130,
}

impl From<FailureClass> for ExitCode {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Permanent => Self::Permanent,
            FailureClass::Transient => Self::Transient,
            FailureClass::Infrastructure => Self::Infrastructure,
            FailureClass::Busy => Self::Busy,
            FailureClass::Interrupted => Self::Interrupted,
        }
    }
}

/// What the runner leaves behind for whoever started it, at most [`TERMINATION_MESSAGE_BYTES`] of JSON. No data values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminationMessage {
    pub format: u32,
    /// `None` where a result is committed.
    pub failure: Option<Failure>,
    /// Key of the report in the store, where one was written.
    pub report: Option<String>,
    /// Digest of the report.
    pub digest: Option<String>,
    /// The report itself, as [`crate::encode_report`] writes it, so that nobody need read it from the store. Left out where it
    /// is too long or holds something of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// The kubelet keeps 4,096 bytes a container; half leaves room for another container's.
pub const TERMINATION_MESSAGE_BYTES: usize = 2048;

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub class: FailureClass,
    /// One word, stable for programs, such as `BinderError`, `ContractViolated`, `OutOfMemory`, `StoreUnreachable`.
    pub reason: String,
    /// For a person: what was attempted, on which object, what to do.
    pub message: String,
}
