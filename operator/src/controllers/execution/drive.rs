//! A run under way: what was seen goes in, pods and writes come out.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_engine::TaskIndex;
use pintail_execution::{Command, Connections, Run, Seen};
use pintail_protocol::WorkOrder;

use super::attempt::{Asked, Attempt, Pods, offered_again, shown_by};
use super::memory::{Driven, Remembered, Starting};
use super::refusal::is_never_taken;
use super::restore::restore;
use super::status::{self, Change, Shown};
use super::{Subject, finish, later, notify, until};
use crate::controllers::error::ReconcileError;
use crate::controllers::event::{self, Happened};
use crate::controllers::object::{version, write_status};
use crate::controllers::unit::Unit;
use crate::controllers::work_queue::Action;

/// Attempts of one run at once. Quotas and nodes may allow fewer.
const RUNNING_AT_ONCE: usize = 256;
/// Requests for pods at once.
const ASKED_AT_ONCE: usize = 16;
/// A busy run is written at most this often, and less often the larger it is.
const WRITE_SPACING: Duration = Duration::from_millis(100);
/// The spacing is so many times what the last write took, up to a limit: an API server that is slow has enough to do with
/// pods.
const SPACING_PER_WRITE: u32 = 20;
const SLOW_WRITE_SPACING: Duration = Duration::from_secs(5);
const WRITE_BYTES_PER_SECOND: u64 = 1 << 20;
/// A change that only people who watch care for waits for a larger one.
const SMALL_CHANGE_WAITS: Duration = Duration::from_secs(1);

/// Goes on with a run that was pinned just now.
pub async fn begin(
    unit: &Unit,
    subject: Subject,
    object: Arc<DynamicObject>,
    remembered: &mut Remembered,
    run: Run,
    written: api::ExecutionStatus,
) -> Result<Action, ReconcileError> {
    let driven = Driven::new(run, object, written, unit.context.clock.now());
    advance(unit, &subject, remembered, Box::new(driven)).await
}

pub async fn reconcile(unit: &Unit, subject: Subject, remembered: &mut Remembered) -> Result<Action, ReconcileError> {
    let known = remembered.driven.take().and_then(|driven| refit(driven, &subject));
    let driven = match known {
        Some(driven) => driven,
        None => match restore(unit, &subject).await? {
            Ok(driven) => Box::new(driven),
            Err(cause) => return unreadable(unit, &subject, remembered, &cause).await,
        },
    };
    advance(unit, &subject, remembered, driven).await
}

/// What is remembered holds as long as nobody else has written the status.
fn refit(mut driven: Box<Driven>, subject: &Subject) -> Option<Box<Driven>> {
    let same = driven.object.metadata.resource_version == subject.object.metadata.resource_version
        || driven.object.data.get("status") == subject.object.data.get("status");
    driven.object = Arc::clone(&subject.object);
    same.then_some(driven)
}

async fn unreadable(
    unit: &Unit,
    subject: &Subject,
    remembered: &mut Remembered,
    cause: &str,
) -> Result<Action, ReconcileError> {
    let status = status::unreadable(&subject.execution, cause, unit.context.clock.now());
    let objects = unit.api(&unit.executions, &subject.namespace);
    if let Some(written) = write_status(&objects, &subject.object, &status).await? {
        remembered.version = version(&written);
        tracing::warn!("{cause}");
    }
    Ok(Action::await_change())
}

async fn advance(
    unit: &Unit,
    subject: &Subject,
    remembered: &mut Remembered,
    mut driven: Box<Driven>,
) -> Result<Action, ReconcileError> {
    unit.pods.wait_until_ready().await;
    let connections = unit.connections_of(&subject.namespace).await;
    driven.run.plan.graph.max_running = RUNNING_AT_ONCE;
    driven.run.plan.graph.held = subject.execution.spec.suspend == Some(true);
    let mut seen = observe(unit, subject, &mut driven).await?;
    let mut commands = Vec::new();
    loop {
        count_ended(unit, &mut driven, &seen);
        commands.extend(driven.run.step(seen, unit.context.clock.now(), &connections));
        if driven.run.outcome().is_some() {
            return finish::conclude(unit, subject, remembered, *driven).await;
        }
        seen = match perform(unit, &mut driven, std::mem::take(&mut commands), &connections).await {
            Ok(seen) => seen,
            Err(error) => return hold_up(unit, subject, remembered, driven, error).await,
        };
        if seen.is_empty() {
            break;
        }
    }
    let write_at = save(unit, subject, remembered, &mut driven).await?;
    show_metrics(unit, &driven);
    let tidy_at = finish::tidy(unit, remembered, &driven.run, driven.unwritten_since.is_none()).await?;
    let action = again(unit, &driven, [write_at, tidy_at]);
    remembered.driven = Some(driven);
    Ok(action)
}

/// What was seen is recorded though not all could be done: tasks that have ended have ended.
async fn hold_up(
    unit: &Unit,
    subject: &Subject,
    remembered: &mut Remembered,
    mut driven: Box<Driven>,
    error: ReconcileError,
) -> Result<Action, ReconcileError> {
    driven.written_at = Timestamp::MIN;
    driven.trouble = status::trouble(&error, remembered.failures.saturating_add(1));
    save(unit, subject, remembered, &mut driven).await?;
    Err(error)
}

/// What can be seen of the attempts under way.
async fn observe(unit: &Unit, subject: &Subject, driven: &mut Driven) -> Result<Vec<Seen>, ReconcileError> {
    let mut seen = Vec::new();
    if subject.execution.spec.cancel == Some(true) {
        seen.push(Seen::Cancel);
    }
    let context = driven.run.context.clone();
    let pods = Pods { unit, namespace: &context.namespace, execution: &context.name, uid: &context.uid };
    for task in (0..).map(TaskIndex).take(driven.run.plan.tasks.len()) {
        if let Some(number) = driven.run.phase(task).live_attempt() {
            seen.extend(pods.look(driven, Attempt { task, number }).await?);
        }
    }
    seen.retain(|seen| !is_known(driven, seen));
    Ok(seen)
}

/// That an attempt runs is news once.
fn is_known(driven: &Driven, seen: &Seen) -> bool {
    match seen {
        Seen::Started { task, .. } => !matches!(driven.run.phase(*task), pintail_engine::Phase::Starting { .. }),
        _ => false,
    }
}

/// Carries commands out, those that were refused before among them. Gives what came of them at once.
async fn perform(
    unit: &Unit,
    driven: &mut Driven,
    commands: Vec<Command>,
    connections: &Connections,
) -> Result<Vec<Seen>, ReconcileError> {
    let now = unit.context.clock.now();
    let context = driven.run.context.clone();
    let pods = Pods { unit, namespace: &context.namespace, execution: &context.name, uid: &context.uid };
    let mut seen = Vec::new();
    let mut orders = due(driven, now);
    for command in commands {
        match command {
            // Ordered before the run was suspended; whether its pod is there is not known any more.
            Command::Start { task, attempt, order } if driven.run.plan.graph.held => {
                driven.starting.insert(task, Starting::Refused { attempt, order, again_at: now });
            }
            Command::Start { task, attempt, order } => orders.push((Attempt { task, number: attempt }, order)),
            Command::Stop { task, attempt, .. } => {
                seen.extend(pods.stop(driven, Attempt { task, number: attempt }).await?);
            }
        }
    }
    let ask = |(attempt, order): (Attempt, Box<WorkOrder>)| {
        let (pods, driven) = (&pods, &*driven);
        async move {
            let asked = pods.ask(driven, &order, connections).await;
            (attempt, order, asked)
        }
    };
    let asked: Vec<_> = orders.into_iter().map(ask).collect();
    let asked: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
    for (attempt, order, asked) in asked {
        let asked = asked?;
        if let (Asked::Created, Some(ended)) = (&asked, driven.unwritten_ends.last()) {
            unit.context.metrics.stepped("start", elapsed(*ended, unit.context.clock.now()));
        }
        seen.extend(note(driven, attempt, order, asked, now));
    }
    Ok(seen)
}

/// Orders whose pods were refused and are offered again now; none while the run is held.
fn due(driven: &mut Driven, now: Timestamp) -> Vec<(Attempt, Box<WorkOrder>)> {
    let held = driven.run.plan.graph.held;
    let is_due = |starting: &Starting| matches!(starting, Starting::Refused { again_at, .. } if *again_at <= now);
    let is_due = |starting: &Starting| !held && is_due(starting);
    let tasks: Vec<TaskIndex> =
        driven.starting.iter().filter(|(_, starting)| is_due(starting)).map(|(task, _)| *task).collect();
    let mut orders = Vec::new();
    for task in tasks {
        if let Some(Starting::Refused { attempt, order, .. }) = driven.starting.remove(&task)
            && driven.run.phase(task) == (pintail_engine::Phase::Starting { attempt })
        {
            orders.push((Attempt { task, number: attempt }, order));
        }
    }
    orders
}

fn note(driven: &mut Driven, attempt: Attempt, order: Box<WorkOrder>, asked: Asked, now: Timestamp) -> Option<Seen> {
    let Attempt { task, number } = attempt;
    match asked {
        Asked::Created | Asked::Adopted => {
            driven.waiting.remove(&task);
            driven.starting.insert(task, Starting::Created { at: now });
            None
        }
        Asked::Wait(waiting) => {
            driven.waiting.insert(task, waiting);
            let refused = Starting::Refused { attempt: number, order, again_at: offered_again(now) };
            driven.starting.insert(task, refused);
            None
        }
        Asked::Failed(failure) => Some(Seen::Failed { task, attempt: number, failure, report: None, at: now }),
    }
}

/// Writes what has changed, or says when it is to be written.
async fn save(
    unit: &Unit,
    subject: &Subject,
    remembered: &mut Remembered,
    driven: &mut Driven,
) -> Result<Option<Timestamp>, ReconcileError> {
    let now = unit.context.clock.now();
    // What has changed is found out when it may be written.
    let not_before = later(driven.written_at, spacing(&driven.written, driven.write_took));
    if now < not_before {
        driven.unwritten_since.get_or_insert(now);
        return Ok(Some(not_before));
    }
    let waiting = driven.waiting.clone();
    let mut shown = Shown::new(&subject.execution, now);
    shown.waiting = waiting.iter().map(|(task, waiting)| (*task, waiting)).collect();
    shown.trouble.clone_from(&driven.trouble);
    let mut status = match status::of_run(&driven.run, &driven.written.conditions, &shown) {
        Ok(status) => status,
        Err(error) => status::too_large(&driven.written, &error.to_string(), &shown),
    };
    status.resolved.clone_from(&driven.written.resolved);
    let change = status::change(&driven.written, &status);
    if change == Change::Nothing {
        driven.unwritten_since = None;
        return Ok(None);
    }
    let unwritten_since = *driven.unwritten_since.get_or_insert(now);
    let due = later(unwritten_since, SMALL_CHANGE_WAITS);
    if change == Change::Small && now < due {
        return Ok(Some(due));
    }
    let written = write(unit, subject, driven, &mut status, &shown).await?;
    driven.write_took = elapsed(now, unit.context.clock.now());
    if let Some(written) = written {
        remembered.version = version(&written);
        driven.object = Arc::new(written);
    }
    for happened in happened(&driven.written, &status) {
        event::record(&unit.context, &driven.object, &happened).await;
    }
    for ended in driven.unwritten_ends.drain(..) {
        unit.context.metrics.stepped("record", elapsed(ended, unit.context.clock.now()));
    }
    (driven.written, driven.written_at, driven.unwritten_since) = (status, now, None);
    Ok(None)
}

/// Writes the status of a run. Where the API server will never take it, the run ends with one that says so.
pub async fn write(
    unit: &Unit,
    subject: &Subject,
    driven: &Driven,
    status: &mut api::ExecutionStatus,
    shown: &Shown<'_>,
) -> Result<Option<DynamicObject>, ReconcileError> {
    let objects = unit.api(&unit.executions, &subject.namespace);
    notify::list(unit, &subject.execution, status).await;
    match write_status(&objects, &driven.object, status).await {
        Err(error) if is_never_taken(&error) => {
            *status = status::too_large(&driven.written, &error.to_string(), shown);
            notify::list(unit, &subject.execution, status).await;
            write_status(&objects, &driven.object, status).await
        }
        written => written,
    }
}

fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

fn spacing(status: &api::ExecutionStatus, write_took: Duration) -> Duration {
    let bytes = status.state.as_ref().map_or(0, String::len) as u64;
    let by_size = Duration::from_millis(bytes * 1000 / WRITE_BYTES_PER_SECOND);
    WRITE_SPACING.max(by_size).max(write_took.saturating_mul(SPACING_PER_WRITE).min(SLOW_WRITE_SPACING))
}

/// The transitions between two writes that people are told of.
pub fn happened(before: &api::ExecutionStatus, after: &api::ExecutionStatus) -> Vec<Happened> {
    let failures = after.failures.iter().skip(before.failures.len()).map(|failure| Happened {
        reason: "TaskFailed",
        action: "Run",
        warning: true,
        note: format!("task {}, attempt {}: {}: {}", failure.task, failure.attempt, failure.reason, failure.message),
        key: format!("{}/{}/{}", failure.task, failure.attempt, failure.reason),
    });
    let progress = |status: &api::ExecutionStatus| {
        let conditions = status.conditions.iter();
        let found = conditions.into_iter().find(|found| found.condition_type == api::ConditionType::Reconciling);
        found.map(|found| (found.reason, found.message.clone()))
    };
    let (old, new) = (progress(before), progress(after));
    let changed = old.map(|(reason, _)| reason) != new.as_ref().map(|(reason, _)| *reason);
    let held = new
        .filter(|(reason, _)| changed && after.completion_time.is_none() && *reason != api::ConditionReason::Running);
    let held = held.map(|(reason, message)| Happened {
        reason: if reason == api::ConditionReason::Suspended { "Suspended" } else { "Waiting" },
        action: "Run",
        warning: reason != api::ConditionReason::Suspended,
        note: format!("{reason}: {message}"),
        key: format!("{reason}/{}", after.observed_generation.unwrap_or_default()),
    });
    failures.chain(held).collect()
}

/// When to look again though nothing was seen.
fn again(unit: &Unit, driven: &Driven, others: [Option<Timestamp>; 2]) -> Action {
    let now = unit.context.clock.now();
    let starting = driven.starting.iter().filter_map(|(task, starting)| match starting {
        // Once: a pod that was shown by then may wait for a node for hours.
        Starting::Created { at } => {
            let awaited = matches!(driven.run.phase(*task), pintail_engine::Phase::Starting { .. });
            Some(shown_by(*at)).filter(|shown_by| awaited && *shown_by > now)
        }
        Starting::Refused { again_at, .. } => Some(*again_at).filter(|_| !driven.run.plan.graph.held),
    });
    let waiting = (!driven.waiting.is_empty()).then(|| later(now, Duration::from_secs(30)));
    let mut tasks = (0..).map(TaskIndex).take(driven.run.plan.tasks.len());
    let live = tasks.any(|task| driven.run.phase(task).live_attempt().is_some());
    // Nodes may be lost without a word of the watch.
    let watched = live.then(|| later(now, Duration::from_secs(60)));
    let times = others.into_iter().flatten().chain(driven.run.wake()).chain(starting).chain(waiting).chain(watched);
    times.min().map_or_else(Action::await_change, |at| Action::requeue(until(at, now)))
}

fn count_ended(unit: &Unit, driven: &mut Driven, seen: &[Seen]) {
    for seen in seen {
        let outcome = match seen {
            Seen::Committed { result, .. } => {
                driven.unwritten_ends.push(result.report.ended_at);
                "succeeded"
            }
            Seen::Failed { failure, .. } => match failure.class {
                pintail_protocol::FailureClass::Permanent => "permanent",
                pintail_protocol::FailureClass::Transient => "transient",
                pintail_protocol::FailureClass::Infrastructure => "infrastructure",
                pintail_protocol::FailureClass::Busy => "busy",
                pintail_protocol::FailureClass::Interrupted => "interrupted",
            },
            Seen::Started { .. } | Seen::Cancel => continue,
        };
        unit.context.metrics.attempt_ended(outcome);
    }
}

fn show_metrics(unit: &Unit, driven: &Driven) {
    let mut waiting = std::collections::BTreeMap::new();
    for held in driven.waiting.values() {
        *waiting.entry(held.reason.word()).or_insert(0) += 1;
    }
    unit.context.metrics.execution_active(&driven.run.context.uid, waiting);
}
