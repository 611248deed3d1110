//! Brings the log of an attempt to the store while the work runs, so that it can be read before the end, and of a
//! process that was killed.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pintail_storage::{Store, StoreError, layout};
use tokio::runtime::Runtime;

use crate::files;
use crate::log::Log;

/// How old the last lines in the store may be, and how far apart the requests of a talkative task are.
const PERIOD: Duration = Duration::from_secs(2);

/// The log of one attempt as numbered objects, each with the lines since the one before.
pub(crate) struct LogChunks<'a> {
    log: &'a Log,
    attempt_folder: String,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    bytes: usize,
    chunks: u32,
}

impl<'a> LogChunks<'a> {
    pub(crate) fn new(log: &'a Log, attempt_folder: String) -> Self {
        Self { log, attempt_folder, written: Mutex::default() }
    }

    /// Writes what was logged since the last chunk. After an error the same chunk is tried again.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub(crate) fn write(&self, store: &Store, runtime: &Runtime) -> Result<(), StoreError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = self.log.since(written.bytes);
        if lines.is_empty() {
            return Ok(());
        }
        let bytes = lines.len();
        runtime.block_on(store.put(&layout::log_chunk(&self.attempt_folder, written.chunks + 1), lines))?;
        written.bytes += bytes;
        written.chunks += 1;
        Ok(())
    }

    /// Does the work, and meanwhile writes chunks. The last lines are left for a call of [`LogChunks::write`].
    pub(crate) fn during<T>(&self, store: &Store, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            let (working, ended) = channel();
            let writer = std::thread::Builder::new().name("log".to_owned());
            // Without a thread the log is there at the end.
            let _ = writer.spawn_scoped(scope, move || self.write_until(store, &ended));
            let result = work();
            drop(working);
            result
        })
    }

    /// A connection belongs to the runtime that made it, and that of the work stands still while DuckDB works.
    fn write_until(&self, store: &Store, ended: &Receiver<()>) {
        let opened = files::runtime().ok().zip(Store::connect(store.location()).ok());
        let Some((runtime, store)) = opened else { return };
        while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            // The next one tries again, and the last one tells.
            let _ = self.write(&store, &runtime);
        }
    }
}
