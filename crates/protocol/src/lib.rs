//! The contract between whoever orders a task and the runner that executes it: work order in, committed report out.
//!
//! ```text
//! WorkOrder ──> runner ──> objects + report.json ──> _commit ──> termination message, exit code
//! ```
//!
//! A work order is whole: no expression, no reference to another object, no secret (secrets are named by the
//! environment variable that holds them). Orders and reports carry a format number: a reader takes its own and the one
//! before, and refuses newer ones with a clear error.

mod agent;
mod check;
mod connection;
mod exit;
mod order;
mod pod;
mod report;

pub use agent::*;
pub use check::*;
pub use connection::*;
pub use exit::*;
pub use order::*;
pub use pod::*;
pub use report::*;

/// Format of work orders, reports and commit records that this build writes.
pub const FORMAT: u32 = 1;

/// The environment variable that holds a secret's key: `PINTAIL_SECRET_<NAME>_<KEY>`, upper case, other characters as `_`.
#[must_use]
pub fn secret_variable(name: &str, key: &str) -> String {
    let text = format!("PINTAIL_SECRET_{name}_{key}");
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// A document whose format this build does not know.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what} has format {found}, but this build reads formats up to {newest}: use a newer Pintail")]
pub struct NewerFormat {
    pub what: &'static str,
    pub found: u32,
    pub newest: u32,
}

/// Refuses a document that a newer build wrote.
///
/// # Errors
/// [`NewerFormat`] where `found` is greater than [`FORMAT`].
pub fn check_format(what: &'static str, found: u32) -> Result<(), NewerFormat> {
    if found > FORMAT { Err(NewerFormat { what, found, newest: FORMAT }) } else { Ok(()) }
}
