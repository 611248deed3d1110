//! A DuckDB session for one work order: extensions, secrets, attached databases, views, then the lock-down.

use std::path::{Path, PathBuf};

use pintail_protocol::{Parameter, WorkOrder};

use crate::failure::TaskFailure;

/// An open, locked-down session. Views stand under the relations' names, databases under the connections'.
pub struct Session {
    connection: duckdb::Connection,
    /// The order's parameters, with the values of its `secrets` connections.
    parameters: Vec<Parameter>,
    /// Folder of this attempt alone, on local disk; SQL may write below it.
    scratch: PathBuf,
}

impl Session {
    /// The raw connection, for statements without parameters.
    #[must_use]
    pub fn connection(&self) -> &duckdb::Connection {
        &self.connection
    }

    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Runs one statement of ours that may embed a user's query, with the parameters that it names bound by their types
    /// (`extra` beside the order's). Gives the number of rows that DuckDB says were changed or copied.
    ///
    /// # Errors
    /// DuckDB's error by its class; `UnknownParameter` for a `$name` that nothing binds.
    pub fn execute(&self, _sql: &str, _extra: &[Parameter]) -> Result<u64, TaskFailure> {
        Err(TaskFailure::permanent("NotBuilt", "not built"))
    }

    /// Opens the session of an order. `order` has had its store inputs staged as local files.
    ///
    /// # Errors
    /// A connection that cannot be reached, a file that breaks its contract, a locked database file.
    pub fn open(_order: &WorkOrder, _scratch: &Path) -> Result<Self, TaskFailure> {
        Err(TaskFailure::permanent("NotBuilt", "not built"))
    }
}
