//! The whole operator against an API server and a store in memory, under virtual time: one seed, one history.
//!
//! ```text
//! operator ─ Line: faults, delays, a view of its own ─┬─> Server: objects, watches, owners, namespaces
//!                                                     └─> Bucket                ^
//! Kubelet: pods live as the Script has it, and commit by the real protocol ─────┘
//! ```
//!
//! | Variable | Meaning |
//! |---|---|
//! | `PINTAIL_SEED` | seed of all histories; 1 if left out |
//! | `PINTAIL_EXAMPLE` | sweep this example only |
//! | `PINTAIL_HISTORIES` | how many histories of mixed faults are tried |
//! | `PINTAIL_HISTORY` | the seed of the one history of mixed faults that is tried |
//! | `PINTAIL_TRACE` | print all that happened |
//! | `RUST_LOG` | print the operator's log |
//! | `PINTAIL_TEST_KUBECONFIG` | a cluster for tests, against which the table of behaviours is run, too |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of it is a test")]

mod behaviours;
mod check;
mod clock;
mod dice;
mod examples;
mod kubelet;
mod launches;
mod leaders;
mod notifications;
mod occurrences;
mod random;
mod server;
mod store;
mod stories;
mod sweep;
mod world;

use std::future::Future;
use std::io::Write;

/// As the operator has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Says how much was tried, to people who run all tests: what `println!` writes is shown of a test that fails only.
fn say(text: &str) {
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// Runs a simulation on this thread. Time stands still while anything can be done.
fn simulate<T>(future: impl Future<Output = T>) -> T {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// The seed of all simulations: `PINTAIL_SEED`, or 1.
fn seed() -> u64 {
    std::env::var("PINTAIL_SEED").map_or(1, |text| text.parse().expect("PINTAIL_SEED is a number"))
}
