//! The agent of this process: it watches folders and buckets and takes events, as the agent of a namespace does.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use pintail_execution::connection_target;
use pintail_execution::launch::recorded;
use pintail_plan::TriggerOn;
use pintail_protocol::{
    AccessMode, AgentOrder, Connection, ConnectionTarget, EventHook, FORMAT, ObjectWatch, Occurrence, OccurrenceAnswer,
};
use pintail_storage::layout::DEFAULT_NAMESPACE;
use pintail_task_runner::agent::{Sink, SinkError, run_agent};
use pintail_task_runner::workspace::Environment;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::server::{Server, Told};
use crate::failure::CommandFailure;

pub struct Agent {
    /// Where it takes events.
    pub address: Option<SocketAddr>,
    pub task: JoinHandle<()>,
}

/// Starts the agent, where a trigger waits for what it sees.
pub async fn start(
    server: &Server,
    listen: SocketAddr,
    told: mpsc::Sender<Told>,
    stop: CancellationToken,
) -> Result<Option<Agent>, CommandFailure> {
    let order = order(server)?;
    if order.objects.is_empty() && order.events.is_empty() {
        return Ok(None);
    }
    let listener = match order.events.is_empty() {
        true => None,
        false => Some(TcpListener::bind(listen).await.map_err(|error| {
            CommandFailure::failed(format!("cannot listen on {listen} for events: {error}; choose another by --listen"))
        })?),
    };
    let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let environment = Environment::of_process().with(server.manifests.secrets().clone());
    let task = tokio::spawn(async move {
        let sink = Arc::new(Channel(told));
        if let Err(failure) = run_agent(order, &environment, sink, listener, stop).await {
            eprintln!("warning: nothing is watched: {failure}");
        }
    });
    Ok(Some(Agent { address, task }))
}

fn order(server: &Server) -> Result<AgentOrder, CommandFailure> {
    let mut order = AgentOrder {
        format: FORMAT,
        namespace: DEFAULT_NAMESPACE.to_owned(),
        operator_url: String::new(),
        store: server.records.store.location().clone(),
        connections: Vec::new(),
        objects: Vec::new(),
        events: Vec::new(),
    };
    for plan in server.plans.iter().filter(|plan| !plan.launch.suspended) {
        let status = plan.stored.status();
        for trigger in &plan.launch.triggers {
            let since = recorded(&status, trigger).and_then(|found| found.since.parse::<Timestamp>().ok());
            let owner = (plan.launch.name.clone(), trigger.name.clone());
            match &trigger.on {
                TriggerOn::Object { connection, path, every, from_beginning } => {
                    add_connection(&mut order, server, connection)?;
                    order.objects.push(ObjectWatch {
                        plan: owner.0,
                        trigger: owner.1,
                        connection: connection.clone(),
                        path: path.clone(),
                        every_ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
                        since: since.unwrap_or(plan.stored.created_at()),
                        from_beginning: *from_beginning,
                    });
                }
                TriggerOn::Event { event_type, source, connection } => {
                    let target = target(server, connection)?;
                    let ConnectionTarget::Webhook { signing_key: Some(signing_key), .. } = target else { continue };
                    order.events.push(EventHook {
                        plan: owner.0,
                        trigger: owner.1,
                        event_type: event_type.clone(),
                        source: source.clone(),
                        signing_key,
                    });
                }
                TriggerOn::Schedule { .. } | TriggerOn::Artifacts { .. } => {}
            }
        }
    }
    Ok(order)
}

fn add_connection(order: &mut AgentOrder, server: &Server, name: &str) -> Result<(), CommandFailure> {
    if !order.connections.iter().any(|known| known.name == name) {
        let target = target(server, name)?;
        order.connections.push(Connection { name: name.to_owned(), mode: AccessMode::Read, target });
    }
    Ok(())
}

fn target(server: &Server, name: &str) -> Result<ConnectionTarget, CommandFailure> {
    let found = server.manifests.connections().get(name);
    let found = found.ok_or_else(|| CommandFailure::failed(format!("there is no connection {name:?}")))?;
    connection_target(name, &found.spec).map_err(CommandFailure::failed)
}

/// Tells the server of occurrences.
struct Channel(mpsc::Sender<Told>);

#[async_trait]
impl Sink for Channel {
    async fn tell(&self, occurrence: Occurrence) -> Result<OccurrenceAnswer, SinkError> {
        let gone = || SinkError::Unreachable("no answer; `pintail serve` says why".to_owned());
        let (sender, answer) = oneshot::channel();
        self.0.send((occurrence, sender)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}
