//! Executes one work order: one committed result, or one failure with its class and reason.
//!
//! ```text
//! order ─> stage inputs ─> Session (DuckDB, locked down) ─> work ─> upload ─> report ─> _commit
//! ```

pub mod agent;
pub mod check;
pub mod checker;
pub mod failure;
pub mod fixture;
pub mod interrupt;
pub mod log;
pub mod process;
pub mod read;
pub mod run;
pub mod session;
pub mod signature;
pub mod workspace;

mod attach;
mod clock;
mod contract;
mod copy;
mod delivered;
mod export;
mod files;
mod inputs;
mod limits;
mod load;
mod log_chunks;
mod notify;
mod parameter;
mod preview;
mod query;
mod relation;
mod report;
mod scan;
mod server;
mod sql;
mod tables;

pub use preview::{explore, preview};
pub use run::engine_version;
pub use sql::{Token, TokenKind, Tokens};
pub use tables::database_tables;

#[cfg(test)]
mod tests;
