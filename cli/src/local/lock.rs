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
        Self::try_take(store, run)?.ok_or_else(|| {
            CommandFailure::failed(format!("run {run:?} is under way in another process; wait for it, or stop it"))
        })
    }

    /// As [`RunLock::take`]; none where another process has it.
    pub fn try_take(store: &StoreLocation, run: &str) -> Result<Option<Self>, CommandFailure> {
        Self::try_file(store, &format!("default/executions/{run}.lock"), &format!("run {run:?}"))
    }

    /// Removes what the lock of a run leaves behind, when the run is gone.
    pub fn forget(store: &StoreLocation, run: &str) {
        if let StoreLocation::Folder { path } = store {
            // An empty file that stays does no harm.
            let _ = std::fs::remove_file(Path::new(path).join(format!("default/executions/{run}.lock")));
        }
    }

    /// The lock of whoever serves a LaunchPlan; none where another process has it.
    pub fn try_plan(store: &StoreLocation, plan: &str) -> Result<Option<Self>, CommandFailure> {
        Self::try_file(store, &format!("default/launch-plans/{plan}.lock"), &format!("LaunchPlan {plan:?}"))
    }

    fn try_file(store: &StoreLocation, key: &str, what: &str) -> Result<Option<Self>, CommandFailure> {
        let StoreLocation::Folder { path } = store else { return Ok(Some(Self { _file: None })) };
        let path = Path::new(path).join(key);
        let failed = |error: std::io::Error| {
            CommandFailure::failed(format!("cannot lock {what} by {}: {error}", path.display()))
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = File::create(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}
