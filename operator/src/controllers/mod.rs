//! All controllers.
//!
//! ```text
//! watches ─> what is known, and a queue a kind ─> reconcile: observe ─> decide (pure) ─> perform
//! ```

mod admit;
mod agent;
mod artifact;
mod checks;
mod connection;
mod error;
mod event;
pub(crate) mod execution;
mod launch;
mod leftovers;
mod object;
mod pods;
mod revision;
mod runner;
mod sweep;
mod unit;
mod work_queue;
mod workflow;

pub use admit::{Admission, Review};
pub use agent::occurrence::{Desk, Refused, Teller};

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kube::ResourceExt;
use kube::core::DynamicObject;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{Context, Reconciled, Scope};
use error::ReconcileError;
use execution::Stage;
use unit::{Kind, Unit};
use work_queue::{Action, Key, WorkQueue};

/// Reconciles of one kind and unit at once: enough to hide the time of requests, few enough for one API server.
const CONCURRENCY: usize = 16;

/// Why the controllers cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// A watch or a controller ended, which none does by itself.
    #[error("the {0} ended unexpectedly: the operator must be started anew")]
    Ended(&'static str),
}

/// Runs every controller until `shutdown`.
///
/// # Errors
/// Where they cannot go on.
pub async fn run_controllers(context: Context, shutdown: CancellationToken) -> Result<(), OperatorError> {
    let namespaces = match &context.settings.scope {
        Scope::Cluster => vec![None],
        Scope::Namespaces(names) => names.iter().cloned().map(Some).collect(),
    };
    let units: Vec<_> =
        namespaces.into_iter().map(|namespace| Arc::new(Unit::new(context.clone(), namespace))).collect();
    let _open = context.desk.open(&units);
    let units = units.into_iter().map(|unit| run_unit(unit, shutdown.clone()).boxed());
    futures::future::try_join_all(units).await.map(drop)
}

async fn run_unit(unit: Arc<Unit>, shutdown: CancellationToken) -> Result<(), OperatorError> {
    let controllers = [
        control(&unit, &shutdown, |unit| &unit.workflows, workflow::reconcile).boxed(),
        control(&unit, &shutdown, |unit| &unit.connections, connection::reconcile).boxed(),
        control(&unit, &shutdown, |unit| &unit.executions, execution::reconcile).boxed(),
        control(&unit, &shutdown, |unit| &unit.artifacts, artifact::reconcile).boxed(),
        control(&unit, &shutdown, |unit| &unit.launch_plans, launch::reconcile).boxed(),
    ];
    let controllers = futures::future::join_all(controllers);
    tokio::select! {
        _ = controllers => if shutdown.is_cancelled() { Ok(()) } else { Err(OperatorError::Ended("controllers")) },
        () = follow(&unit) => Err(OperatorError::Ended("watches")),
        () = sweep::sweep(&unit) => Err(OperatorError::Ended("sweeper")),
        () = agent::run(&unit) => Err(OperatorError::Ended("agents")),
    }
}

/// Keeps all that is known of the unit up to date.
async fn follow(unit: &Unit) {
    let all = |object: &DynamicObject, namespace: &str, kind: &Kind| kind.enqueue(namespace, &object.name_any());
    let within = |object: &DynamicObject| object.namespace().unwrap_or_default();
    let workflows = unit.follow(
        &unit.workflows,
        |workflow, gone| {
            if gone {
                unit.checks.forget(&within(workflow), &workflow.name_any());
            }
            all(workflow, &within(workflow), &unit.workflows);
        },
        |namespace| {
            unit.enqueue_waiting(namespace);
            unit.enqueue_plans(namespace);
        },
    );
    let connections = unit.follow(
        &unit.connections,
        |connection, _| {
            unit.forget_connections_of(&within(connection));
            all(connection, &within(connection), &unit.connections);
        },
        |namespace| {
            let workflows = unit.workflows.within(namespace);
            workflows.iter().for_each(|workflow| all(workflow, namespace, &unit.workflows));
            unit.enqueue_waiting(namespace);
            unit.enqueue_plans(namespace);
            // What a plan of it waits for may be there now.
            unit.launch_plans
                .within(namespace)
                .iter()
                .find(|plan| agent::concerns_agents(plan))
                .inspect(|_| unit.agents.ask(namespace));
        },
    );
    let executions = unit.follow(
        &unit.executions,
        |execution, gone| {
            if let Some(plan) = unit.plan_runs.apply(execution, gone) {
                unit.launch_plans.enqueue(&within(execution), &plan);
            }
            if gone {
                let uid = execution.uid().unwrap_or_default();
                unit.memory.forget(&uid);
                unit.context.metrics.execution_inactive(&uid);
            } else if matches!(execution::stage(execution), Stage::Running | Stage::Ended) {
                unit.executions.enqueue_begun(&within(execution), &execution.name_any());
            } else {
                all(execution, &within(execution), &unit.executions);
            }
        },
        |_| {},
    );
    tokio::select! {
        () = workflows => {},
        () = connections => {},
        () = executions => {},
        () = follow_triggers(unit) => {},
        () = unit.follow_pods() => {},
    }
}

/// Keeps known what starts runs: versions of datasets, and the plans that wait.
async fn follow_triggers(unit: &Unit) {
    let within = |object: &DynamicObject| object.namespace().unwrap_or_default();
    let artifacts = unit.follow(
        &unit.artifacts,
        |artifact, _| {
            unit.artifacts.enqueue(&within(artifact), &artifact.name_any());
            launch::versions::enqueue_plans(unit, artifact);
            checks::enqueue_readers_of(unit, artifact);
        },
        |namespace| unit.enqueue_waiting(namespace),
    );
    let launch_plans = unit.follow(
        &unit.launch_plans,
        |plan, gone| {
            let (namespace, name) = (within(plan), plan.name_any());
            unit.waiting.apply(plan, gone);
            if gone {
                unit.launches.forget(&namespace, &name);
            }
            unit.launch_plans.enqueue(&namespace, &name);
            unit.enqueue_waiting_of(&namespace, &name);
            if agent::concerns_agents(plan) {
                unit.agents.ask(&namespace);
            } else {
                unit.agents.ask_known(&namespace);
            }
        },
        |_| {},
    );
    tokio::select! {
        () = artifacts => {},
        () = launch_plans => {},
    }
}

/// Reconciles the objects of one kind until `shutdown`, each by itself: what fails of one is tried again and holds no
/// other up.
async fn control<F>(
    unit: &Arc<Unit>,
    shutdown: &CancellationToken,
    kind: fn(&Unit) -> &Kind,
    reconcile: impl Fn(Arc<Unit>, Arc<DynamicObject>) -> F + Copy,
) where
    F: Future<Output = Result<Action, ReconcileError>> + Send,
{
    let Some(mut asked) = kind(unit).take_queue() else { return };
    if shutdown.run_until_cancelled(kind(unit).wait_until_ready()).await.is_none() {
        return;
    }
    let failures = Mutex::default();
    let (mut queue, mut running) = (WorkQueue::default(), FuturesUnordered::new());
    loop {
        // All of them, so that the most urgent is next.
        while let Ok((key, urgency)) = asked.try_recv() {
            queue.ask(key, urgency);
        }
        let has_room = queue.running() < CONCURRENCY && !shutdown.is_cancelled();
        if let Some(key) = has_room.then(|| queue.take(Instant::now())).flatten() {
            running.push(reconcile_one(unit, kind(unit), &failures, reconcile, key));
            continue;
        }
        if shutdown.is_cancelled() && running.is_empty() {
            return;
        }
        let wake = queue.wake().filter(|_| has_room);
        tokio::select! {
            biased;
            Some((key, action)) = running.next() => queue.ended(key, action, Instant::now()),
            Some((key, urgency)) = asked.recv() => queue.ask(key, urgency),
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            () = shutdown.cancelled(), if !shutdown.is_cancelled() => {}
        }
    }
}

/// Reconciles an object if it is still there.
async fn reconcile_one<F>(
    unit: &Arc<Unit>,
    kind: &Kind,
    failures: &Mutex<HashMap<String, u32>>,
    reconcile: impl Fn(Arc<Unit>, Arc<DynamicObject>) -> F,
    key: Key,
) -> (Key, Action)
where
    F: Future<Output = Result<Action, ReconcileError>>,
{
    let Some(object) = kind.find(&key.0, &key.1) else { return (key, Action::await_change()) };
    let name = kind_name(&kind.resource.kind);
    let span = tracing::info_span!("reconcile", kind = name, namespace = key.0, name = key.1);
    let started = Instant::now();
    let uid = object.uid().unwrap_or_default();
    let result = reconcile(Arc::clone(unit), Arc::clone(&object)).instrument(span.clone()).await;
    let outcome = result.as_ref().err().map_or(Reconciled::Done, ReconcileError::outcome);
    unit.context.metrics.reconciled(name, outcome, started.elapsed());
    let action = span.in_scope(|| retried(failures, &uid, result));
    if !kind.knows(&object) {
        failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
    }
    (key, action)
}

/// When to come back: as the reconcile said, or after a failure the later the more there were in a row.
fn retried(failures: &Mutex<HashMap<String, u32>>, uid: &str, result: Result<Action, ReconcileError>) -> Action {
    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
    match result {
        Ok(action) => {
            failures.remove(uid);
            action
        }
        Err(error) => {
            let count = failures.entry(uid.to_owned()).or_default();
            let after = error.retry_after(*count);
            *count = count.saturating_add(1);
            match error {
                ReconcileError::Conflict | ReconcileError::NotChecked(_) => tracing::debug!("{error}"),
                _ => tracing::warn!(failures = *count, "{error}"),
            }
            Action::requeue(after)
        }
    }
}

/// Labels of metrics are words of the program's own.
fn kind_name(kind: &str) -> &'static str {
    ["Workflow", "Connection", "Execution", "Artifact", "LaunchPlan"]
        .into_iter()
        .find(|name| *name == kind)
        .unwrap_or("Other")
}
