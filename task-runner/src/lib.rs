//! Executes one work order: one committed result, or one failure with its class and reason.
//!
//! ```text
//! order ─> stage inputs ─> Session (DuckDB, locked down) ─> work ─> upload ─> report ─> _commit
//! ```

pub mod failure;
pub mod session;

mod copy;
mod export;
mod files;
mod load;
mod notify;
mod query;
mod relation;
mod report;
