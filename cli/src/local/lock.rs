//! One process drives a run at a time.

use std::fs::{File, TryLockError};
use std::path::Path;

use pintail_protocol::StoreLocation;

use crate::failure::CommandFailure;

/// Held while a run is driven; the kernel lets it go when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: Option<File>,
}

impl RunLock {
    /// Takes the lock of a run. A store in a bucket has none: there the version of the Execution is what tells two
    /// processes apart, and the later one goes on.
    pub fn take(store: &StoreLocation, run: &str) -> Result<Self, CommandFailure> {
        let StoreLocation::Folder { path } = store else { return Ok(Self { _file: None }) };
        let path = Path::new(path).join("default/executions").join(format!("{run}.lock"));
        let failed = |error: std::io::Error| {
            CommandFailure::failed(format!("cannot lock run {run:?} by {}: {error}", path.display()))
        };
        let file = File::create(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(CommandFailure::failed(format!(
                "run {run:?} is under way in another process; wait for it, or stop it"
            ))),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}
