use pintail_protocol::{Failure, FailureClass};

/// What kind of trouble the store is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorClass {
    /// It does not answer, or answers with a failure of its own.
    Unreachable,
    /// The environment holds no credential for it.
    NoCredential,
    /// It refuses the credential.
    Denied,
    /// The disk or the quota is full.
    NoSpace,
    /// Nothing can be written there.
    ReadOnly,
    /// An object is not what was recorded of it.
    Corrupt,
    /// A newer Pintail wrote it.
    NewerFormat,
    /// An object that must be there is not.
    NotFound,
    /// What was asked for is wrong: a name that cannot be part of a key, a location that is none.
    Invalid,
}

impl StoreErrorClass {
    /// One word, stable for programs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unreachable => "StoreUnreachable",
            Self::NoCredential => "StoreCredentialMissing",
            Self::Denied => "StoreRefused",
            Self::NoSpace => "StoreFull",
            Self::ReadOnly => "StoreReadOnly",
            Self::Corrupt => "StoreCorrupt",
            Self::NewerFormat => "StoreNewerFormat",
            Self::NotFound => "StoreNotFound",
            Self::Invalid => "StoreInvalid",
        }
    }

    /// Trouble with the place costs the budget for infrastructure; trouble with what is stored is permanent.
    #[must_use]
    pub fn failure_class(self) -> FailureClass {
        match self {
            Self::Unreachable | Self::NoCredential | Self::Denied | Self::NoSpace | Self::ReadOnly => {
                FailureClass::Infrastructure
            }
            Self::Corrupt | Self::NewerFormat | Self::NotFound | Self::Invalid => FailureClass::Permanent,
        }
    }

    /// What a person can do about it; empty where the cause says it all.
    fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => "; check that the store is up and, for a bucket, AWS_ENDPOINT_URL",
            Self::NoCredential => {
                "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (on a cluster: by the Secret of the store in the namespace), or give the machine a role"
            }
            Self::Denied => {
                "; check the rights on it and, for a bucket, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION"
            }
            Self::NoSpace => "; free some space there, or choose another store",
            Self::ReadOnly => "; make it writable for this user, or choose another store",
            Self::Corrupt => "; the object was changed after it was written: run the task that made it again",
            Self::NewerFormat | Self::NotFound | Self::Invalid => "",
        }
    }
}

/// An operation on the store that failed: what was attempted, where, why, and what to do. Never holds a credential.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {place}: {cause}{}", .class.advice())]
pub struct StoreError {
    class: StoreErrorClass,
    action: &'static str,
    place: String,
    cause: String,
}

impl StoreError {
    /// `action` is a verb, as in "read"; `place` the URI of the object.
    pub(crate) fn new(
        class: StoreErrorClass,
        action: &'static str,
        place: impl Into<String>,
        cause: impl Into<String>,
    ) -> Self {
        Self { class, action, place: place.into(), cause: cause.into() }
    }

    #[must_use]
    pub fn class(&self) -> StoreErrorClass {
        self.class
    }

    /// The error as a report has it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        Failure { class: self.class.failure_class(), reason: self.class.reason().to_owned(), message: self.to_string() }
    }
}
