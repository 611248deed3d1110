//! Ends the work from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::failure::TaskFailure;
use crate::session::Session;

/// Shared by the thread that works and the one that hears signals.
#[derive(Default)]
pub struct Interrupt {
    requested: AtomicBool,
    engine: Mutex<Option<Arc<duckdb::InterruptHandle>>>,
}

impl Interrupt {
    /// Asks the work to end, and ends the statement that runs. Called again, it ends the one that runs by then.
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
        if let Some(engine) = self.engine.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            engine.interrupt();
        }
    }

    /// # Errors
    /// `Interrupted` once the end was asked for.
    pub fn check(&self) -> Result<(), TaskFailure> {
        if self.requested.load(Ordering::SeqCst) { Err(TaskFailure::interrupted()) } else { Ok(()) }
    }

    /// Lets [`Interrupt::request`] end the session's statements until the watch is dropped, which must be before the
    /// session is: the engine's handle is cleared only after its connection is closed, and ending a statement of a closed
    /// connection is a use after free.
    pub(crate) fn watch(&self, session: &Session) -> Result<Watch<'_>, TaskFailure> {
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.interrupt_handle());
        let watch = Watch(self);
        self.check().map(|()| watch)
    }

    #[cfg(test)]
    pub(crate) fn is_watching(&self) -> bool {
        self.engine.lock().unwrap().is_some()
    }
}

/// See [`Interrupt::watch`].
pub(crate) struct Watch<'a>(&'a Interrupt);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        *self.0.engine.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
