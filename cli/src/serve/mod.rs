//! `pintail serve`: LaunchPlans on this machine, for as long as it runs.
//!
//! ```text
//! clock, catalog of the store ──────────┐
//! agent: folders, buckets, HTTP ─ Sink ─┴> Server ─ advance_plan ─> records of runs, status of the plan ─> drivers
//! ```
//!
//! Everything that matters is written down before it counts, as on a cluster: `serve` may be killed anywhere, and when it
//! is started again it goes on.

mod agent;
mod board;
mod perform;
mod say;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::arguments::Serve;
use crate::check::read_runnable;
use crate::failure::CommandFailure;
use crate::interrupt::interrupts;
use say::Say;
use server::Server;

/// Occurrences that wait to be taken in: the agent waits for answers, so these are few.
const TOLD: usize = 16;

pub async fn serve(arguments: Serve) -> Result<(), CommandFailure> {
    let records = arguments.store.open().await?;
    let manifests = Arc::new(read_runnable(&arguments.files)?);
    let mut interrupts = interrupts()?;
    let say = Say::new(arguments.output);
    let mut server = Server::open(records, Arc::clone(&manifests), say).await?;
    server.look().await?;
    let (sender, told) = mpsc::channel(TOLD);
    let stop = CancellationToken::new();
    let agent = agent::start(&server, arguments.listen, sender, stop.clone()).await?;
    server.announce(agent.as_ref().and_then(|agent| agent.address));
    let outcome = tokio::select! {
        outcome = server.run(told) => outcome,
        _ = interrupts.recv() => Ok(()),
    };
    let under_way = server.under_way();
    // Their processes end with this one, and the runs go on when it is started again.
    drop(server);
    stop.cancel();
    if let Some(agent) = agent {
        // What it told and did not write down is told again.
        let _ = agent.task.await;
    }
    if !under_way.is_empty() {
        eprintln!("under way, and goes on when `pintail serve` is started again: {}", under_way.join(", "));
    }
    outcome
}

/// The address that is used unless another is given: nobody else reaches it.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8321);
