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
mod data_type;
mod exit;
mod lineage;
mod order;
mod pod;
mod report;

pub use agent::*;
pub use check::*;
pub use connection::*;
pub use data_type::widens;
pub use exit::*;
pub use lineage::*;
pub use order::*;
pub use pod::*;
pub use report::*;

/// Format of work orders, reports and commit records that this build writes.
pub const FORMAT: u32 = of_build(1);

/// A format number as this build has it: of every document that a later build may find.
#[must_use]
pub const fn of_build(format: u32) -> u32 {
    if cfg!(feature = "newer-formats") { format + 1 } else { format }
}

/// The format of what is written for the runner of a run, which is pinned with the format that it reads: an older runner is
/// not to refuse what a newer build orders.
#[must_use]
pub fn format_for_runner(pinned: Option<i64>) -> u32 {
    pinned.and_then(|format| u32::try_from(format).ok()).map_or(FORMAT, |format| format.min(FORMAT))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_runner_is_told_in_the_format_that_it_reads() {
        assert_eq!(format_for_runner(Some(i64::from(FORMAT) - 1)), FORMAT - 1);
        // Pinned by a newer build, or by one that did not say.
        assert_eq!(format_for_runner(Some(i64::from(FORMAT) + 1)), FORMAT);
        assert_eq!(format_for_runner(None), FORMAT);
    }
}
