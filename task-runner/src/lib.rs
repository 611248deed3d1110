//! Executes one work order: one committed result, or one failure with its class and reason.
//!
//! ```text
//! order ─> stage inputs ─> Session (DuckDB, locked down) ─> work ─> upload ─> report ─> _commit
//! ```

pub mod failure;
pub mod session;
pub mod workspace;

mod attach;
mod contract;
mod copy;
mod export;
mod files;
mod limits;
mod load;
mod notify;
mod parameter;
mod query;
mod relation;
mod report;
mod scan;
mod sql;

#[cfg(test)]
mod tests;
