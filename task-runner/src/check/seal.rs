//! A process that checks the SQL of others opens nothing: no file, no socket. Only while DuckDB starts it may, since that
//! looks at what the machine has; no SQL of others runs then.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::failure::TaskFailure;

/// What DuckDB needs to start: it reads a file or two of the system.
const HANDLES: u64 = 64;

static IS_SEALED: AtomicBool = AtomicBool::new(false);

/// Takes from this process the right to open anything, for good.
///
/// # Errors
/// Where the system does not let it.
pub fn seal() -> Result<(), TaskFailure> {
    allow(0)?;
    IS_SEALED.store(true, Ordering::SeqCst);
    Ok(())
}

/// Does what starts DuckDB.
pub(super) fn unsealed<T>(start: impl FnOnce() -> Result<T, TaskFailure>) -> Result<T, TaskFailure> {
    if !IS_SEALED.load(Ordering::SeqCst) {
        return start();
    }
    allow(HANDLES)?;
    let started = start();
    allow(0)?;
    started
}

fn allow(handles: u64) -> Result<(), TaskFailure> {
    setrlimit(Resource::Nofile, Rlimit { current: Some(handles), maximum: Some(HANDLES) })
        .map_err(|error| TaskFailure::from_io(&error.into(), "limit what the process may open"))
}
