//! The agent of a namespace: lists folders and buckets, takes events, and tells a sink of each occurrence until it has
//! an answer.
//!
//! ```text
//! listing ─> Scan (against the seen-set) ─> arrivals ─┐
//!                                                     ├─> Sink ─> answer ─> seen-set in the store, or HTTP status
//! POST /events/… ─> signature ─> CloudEvent ──────────┘
//! ```
//!
//! It may die anywhere: what it has told and not written down is told again, as the same occurrence.

mod cloud_event;
mod events;
mod scan;
mod seen;
mod sink;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pintail_protocol::AgentOrder;
use pintail_storage::Store;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use crate::signature::sign;
pub use sink::{HttpSink, Sink, SinkError};

use crate::failure::TaskFailure;
use crate::log::Log;
use crate::workspace::Environment;
use events::Events;
use watch::Watcher;

/// Listings at once: each holds a connection, and what it finds in memory.
const LISTINGS: usize = 4;

/// To write down what was told, and to answer senders. Pods get 30 seconds to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What all parts of an agent share.
struct Agent {
    namespace: String,
    environment: Environment,
    store: Store,
    sink: Arc<dyn Sink>,
    log: Log,
    listings: Semaphore,
}

/// Watches and listens until `stop`, then writes down what was told. `listener` takes events, and answers `/healthz`.
///
/// # Errors
/// Where the store's settings cannot be understood. Whatever goes wrong later is logged and tried again.
pub async fn run_agent(
    order: AgentOrder,
    environment: &Environment,
    sink: Arc<dyn Sink>,
    listener: Option<TcpListener>,
    stop: CancellationToken,
) -> Result<(), TaskFailure> {
    let agent = Arc::new(Agent {
        namespace: order.namespace.clone(),
        environment: environment.clone(),
        store: Store::connect(&order.store)?,
        sink,
        log: Log::of_agent(&order, environment),
        listings: Semaphore::new(LISTINGS),
    });
    let connections: BTreeMap<_, _> =
        order.connections.into_iter().map(|connection| (connection.name.clone(), connection)).collect();
    let mut parts = JoinSet::new();
    for watch in order.objects {
        let connection = connections.get(&watch.connection).cloned();
        parts.spawn(Watcher::new(Arc::clone(&agent), watch, connection)?.run(stop.clone()));
    }
    if let Some(listener) = listener {
        let events = Events::new(Arc::clone(&agent), order.events);
        parts.spawn(events::serve(listener, events, stop.clone()));
    }
    stop.cancelled().await;
    if tokio::time::timeout(STOP_TIMEOUT, async { while parts.join_next().await.is_some() {} }).await.is_err() {
        agent.log.error("something did not end in time; what it told and did not write down is told again");
    }
    Ok(())
}

/// What is wrong with one part, logged when it begins, changes and ends.
#[derive(Default)]
struct Trouble(Mutex<Option<String>>);

impl Trouble {
    fn set(&self, log: &Log, owner: &str, message: String) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() != Some(&message) {
            log.error(&format!("{owner}: {message}"));
            *last = Some(message);
        }
    }

    fn clear(&self, log: &Log, owner: &str) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            log.info(&format!("{owner}: works again"));
        }
    }
}
