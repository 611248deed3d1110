//! Why a command did not do what it was asked, and the exit code that says so.

use std::fmt;
use std::process::ExitCode;

/// A command's failure. The message is for a person: what was attempted, on which object, what to do.
#[derive(Debug)]
pub struct CommandFailure {
    pub code: Code,
    pub message: String,
}

/// Exit codes, as documented in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A run failed, manifests have problems, or something else went wrong.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// The cluster cannot be reached.
    Unreachable = 3,
    /// The time that was given for waiting is over.
    TimedOut = 4,
    /// Ctrl-C.
    Interrupted = 130,
}

impl CommandFailure {
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { code: Code::Failed, message: message.to_string() }
    }

    pub fn usage(message: impl fmt::Display) -> Self {
        Self { code: Code::Usage, message: message.to_string() }
    }

    /// A failure that was shown already: only the exit code is left to give.
    pub fn shown(code: Code) -> Self {
        Self { code, message: String::new() }
    }
}

impl From<pintail_storage::StoreError> for CommandFailure {
    fn from(error: pintail_storage::StoreError) -> Self {
        Self::failed(error)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}
