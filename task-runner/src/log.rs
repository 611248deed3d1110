//! The log of an attempt: lines on stderr for whoever watches, kept for the store.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use pintail_protocol::{AgentOrder, SecretVariable, WorkOrder};

use crate::workspace::Environment;

/// A log is for people; the runner writes a few lines a step.
const LOG_BYTES: usize = 1 << 20;

/// Shorter values would blot out words that are no secret.
const SECRET_BYTES: usize = 3;

/// Writes lines `time level message` without any of the secrets that it knows.
#[derive(Default)]
pub struct Log {
    secrets: Vec<String>,
    kept: Mutex<String>,
}

impl Log {
    /// A log that knows the values of all secrets of the order.
    #[must_use]
    pub fn new(order: &WorkOrder, environment: &Environment) -> Self {
        Self::without(order.connections.iter().flat_map(|connection| connection.target.secret_variables()), environment)
    }

    /// A log that knows the values of all secrets of an agent's order.
    #[must_use]
    pub fn of_agent(order: &AgentOrder, environment: &Environment) -> Self {
        let connections = order.connections.iter().flat_map(|connection| connection.target.secret_variables());
        Self::without(connections.chain(order.events.iter().map(|hook| &hook.signing_key)), environment)
    }

    fn without<'a>(variables: impl Iterator<Item = &'a SecretVariable>, environment: &Environment) -> Self {
        let store = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"].map(|name| environment.variable(name));
        let values = variables.map(|variable| environment.variable(&variable.0)).chain(store).flatten();
        let mut secrets: Vec<_> = values.filter(|value| value.len() >= SECRET_BYTES).map(str::to_owned).collect();
        // A value may be part of another.
        secrets.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { secrets, kept: Mutex::default() }
    }

    pub fn info(&self, message: &str) {
        self.line("info", message);
    }

    pub fn error(&self, message: &str) {
        self.line("error", message);
    }

    /// The text with each secret as `[secret]`.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[secret]"))
    }

    /// The lines so far, without the first `bytes`.
    #[must_use]
    pub(crate) fn since(&self, bytes: usize) -> Bytes {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Bytes::copy_from_slice(kept.as_bytes().get(bytes..).unwrap_or_default())
    }

    fn line(&self, level: &str, message: &str) {
        let line = format!("{:.3} {level} {}\n", Timestamp::now(), self.redact(message));
        // Nobody may be left to read it.
        let _ = std::io::stderr().write_all(line.as_bytes());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() + line.len() <= LOG_BYTES {
            kept.push_str(&line);
        }
    }
}
