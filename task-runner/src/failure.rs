//! Why an attempt failed, and whether trying again can mend it.

use pintail_protocol::{Failure, FailureClass};

/// A failure on its way to the report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct TaskFailure {
    pub class: FailureClass,
    /// One word, stable for programs.
    pub reason: &'static str,
    /// What was attempted, on which object, what to do. Never a secret, never a value of the data.
    pub message: String,
}

impl TaskFailure {
    #[must_use]
    pub fn permanent(reason: &'static str, message: impl Into<String>) -> Self {
        Self { class: FailureClass::Permanent, reason, message: message.into() }
    }

    #[must_use]
    pub fn transient(reason: &'static str, message: impl Into<String>) -> Self {
        Self { class: FailureClass::Transient, reason, message: message.into() }
    }

    #[must_use]
    pub fn infrastructure(reason: &'static str, message: impl Into<String>) -> Self {
        Self { class: FailureClass::Infrastructure, reason, message: message.into() }
    }

    #[must_use]
    pub fn busy(message: impl Into<String>) -> Self {
        Self { class: FailureClass::Busy, reason: "Busy", message: message.into() }
    }
}

impl From<TaskFailure> for Failure {
    fn from(failure: TaskFailure) -> Self {
        Self { class: failure.class, reason: failure.reason.to_owned(), message: failure.message }
    }
}
