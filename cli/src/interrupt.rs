//! Ctrl-C.

use tokio::signal::unix::{Signal, SignalKind};

use crate::failure::CommandFailure;

/// Ctrl-C, kept from now on until somebody asks for it. Made before a run is on record, so that none goes amiss.
///
/// # Errors
/// Where the system lets no signal be caught.
pub fn interrupts() -> Result<Signal, CommandFailure> {
    tokio::signal::unix::signal(SignalKind::interrupt()).map_err(CommandFailure::failed)
}
