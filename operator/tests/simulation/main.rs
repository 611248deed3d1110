//! The whole operator against an API server and a store in memory, under virtual time: one seed, one history.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of it is a test")]

mod behaviours;
mod clock;
mod dice;
mod server;

use std::future::Future;

/// Runs a simulation on this thread. Time stands still while anything can be done.
fn simulate<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}
