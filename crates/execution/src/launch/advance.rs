//! What a plan does now.

use jiff::Timestamp;
use pintail_api as api;
use pintail_engine::{Member, RunStage, admit, due};
use pintail_plan::{PlannedLaunch, PlannedTrigger, TriggerOn};

use super::occurrence::{of_tick, started_run};
use super::versions::{choose_tuples, is_for, run_of};
use super::{PlanRun, recorded};

/// Ticks that a status shows.
const TICKS_SHOWN: usize = 3;
/// Runs that a status lists of its queue.
const QUEUE_SHOWN: usize = 100;

/// What is known when a plan is looked at.
#[derive(Clone, Copy, Debug)]
pub struct PlanFacts<'a> {
    pub launch: &'a PlannedLaunch,
    pub namespace: &'a str,
    pub created_at: Timestamp,
    /// As it is stored.
    pub status: &'a api::LaunchPlanStatus,
    /// All runs of the plan.
    pub runs: &'a [PlanRun],
    /// Ready versions in the namespace; may be empty where no trigger waits for versions.
    pub artifacts: &'a [api::Artifact],
}

/// What is to be done, in this order.
#[derive(Clone, Debug, Default)]
pub struct PlanDecision {
    /// Runs to create; whoever finds one there is content.
    pub create: Vec<api::Execution>,
    /// The status, without conditions and generation.
    pub status: api::LaunchPlanStatus,
    /// Runs to cancel: names.
    pub cancel: Vec<String>,
    /// Runs to delete, after their markers are written.
    pub prune: Vec<PlanRun>,
    /// What started no run: trigger, and why.
    pub dropped: Vec<(String, String)>,
    /// When to look again, if nothing happens before.
    pub wake: Option<Timestamp>,
}

/// What the plan does now. Repeating it after any part was done comes to the same.
#[must_use]
pub fn advance_plan(facts: &PlanFacts, now: Timestamp) -> PlanDecision {
    let status = api::LaunchPlanStatus {
        conditions: facts.status.conditions.clone(),
        observed_generation: facts.status.observed_generation,
        schedule: schedule_text(facts.launch),
        suspended: facts.launch.suspended,
        ..api::LaunchPlanStatus::default()
    };
    let mut decision = PlanDecision { status, ..PlanDecision::default() };
    for trigger in &facts.launch.triggers {
        advance_trigger(facts, trigger, now, &mut decision);
    }
    let ticks = decision.status.triggers.iter().filter_map(|trigger| trigger.next.first().cloned());
    decision.status.next_run = ticks.min();
    admit_runs(facts, &mut decision);
    prune(facts, now, &mut decision);
    let last = facts.runs.iter().max_by_key(|run| (run.created_at, run.occurred_at, &run.name));
    decision.status.last_run = last.map(|run| api::LastRun {
        execution: run.name.clone(),
        time: run.created_at.to_string(),
        status: run.reason.clone(),
    });
    decision
}

/// As [`advance_plan`], of the runs that are there: who may run now. Nothing that happened starts a run.
#[must_use]
pub fn admit_plan(facts: &PlanFacts) -> PlanDecision {
    let mut decision = PlanDecision { status: facts.status.clone(), ..PlanDecision::default() };
    admit_runs(facts, &mut decision);
    decision
}

fn advance_trigger(facts: &PlanFacts, trigger: &PlannedTrigger, now: Timestamp, decision: &mut PlanDecision) {
    let before = recorded(facts.status, trigger);
    let resumed = facts.status.suspended && !facts.launch.suspended;
    let mut status = match before {
        Some(before) if !resumed => before.clone(),
        _ => {
            // What happened before the plan was written, changed or resumed starts nothing.
            let first = facts.status.observed_generation.is_none();
            api::TriggerStatus {
                name: trigger.name.clone(),
                definition: trigger.definition.clone(),
                since: if first { facts.created_at } else { now }.to_string(),
                ..api::TriggerStatus::default()
            }
        }
    };
    let is_new = before.is_none() || resumed;
    if facts.launch.suspended {
        status.next.clear();
    } else {
        match &trigger.on {
            TriggerOn::Schedule { .. } => ticks(facts, trigger, &mut status, now, decision),
            TriggerOn::Artifacts { .. } => versions(facts, trigger, &mut status, is_new, decision),
            TriggerOn::Object { .. } | TriggerOn::Event { .. } => {}
        }
    }
    decision.status.triggers.push(status);
}

fn ticks(
    facts: &PlanFacts,
    trigger: &PlannedTrigger,
    status: &mut api::TriggerStatus,
    now: Timestamp,
    decision: &mut PlanDecision,
) {
    let TriggerOn::Schedule { schedule, catch_up, .. } = &trigger.on else { return };
    let handled = status.handled_through.as_deref().unwrap_or(&status.since);
    let due = due(schedule, handled.parse().unwrap_or(now), now, *catch_up);
    for tick in &due.fire {
        take(
            facts,
            trigger,
            started_run(facts.launch, Some(trigger), &of_tick(tick), facts.namespace),
            status,
            decision,
        );
    }
    if due.dropped > 0 {
        let time = |time: Option<Timestamp>| time.map_or_else(String::new, |time| time.to_string());
        let message = format!(
            "{} ticks from {} to {} passed while nobody looked, and `catchUp` leaves them out",
            due.dropped,
            time(due.dropped_from),
            time(due.dropped_to)
        );
        drop_one(trigger, i64::try_from(due.dropped).unwrap_or(i64::MAX), message, status, decision);
    }
    if !due.fire.is_empty() || due.dropped > 0 {
        status.handled_through = Some(due.handled_through.to_string());
    }
    let mut next = due.next;
    status.next.clear();
    while let Some(tick) = next.filter(|_| status.next.len() < TICKS_SHOWN) {
        status.next.push(tick.to_string());
        next = schedule.next_after(tick);
    }
    wake(decision, due.next);
}

fn versions(
    facts: &PlanFacts,
    trigger: &PlannedTrigger,
    status: &mut api::TriggerStatus,
    is_new: bool,
    decision: &mut PlanDecision,
) {
    let since = status.since.parse().unwrap_or(Timestamp::MAX);
    if is_new {
        // Whoever looked at these versions may not have known the plan yet.
        for artifact in facts.artifacts.iter().filter(|artifact| is_for(trigger, artifact, since)) {
            take(facts, trigger, run_of(facts.launch, trigger, &[artifact], facts.namespace), status, decision);
        }
    }
    for index in 0..status.tuples.len() {
        let Some(tuple) = status.tuples.get_mut(index).filter(|tuple| tuple.pending) else { continue };
        tuple.pending = false;
        let find = |version: &api::TupleVersion| {
            facts.artifacts.iter().find(|artifact| artifact.metadata.name.as_ref() == Some(&version.artifact))
        };
        let run = match tuple.versions.iter().map(find).collect::<Option<Vec<_>>>() {
            Some(versions) => run_of(facts.launch, trigger, &versions, facts.namespace),
            None => Err("a version that the run was to read was deleted".to_owned()),
        };
        take(facts, trigger, run, status, decision);
    }
    choose_tuples(trigger, status, facts.artifacts);
    if status.tuples.iter().any(|tuple| tuple.pending) {
        wake(decision, Some(Timestamp::MIN));
    }
}

fn take(
    facts: &PlanFacts,
    trigger: &PlannedTrigger,
    run: Result<api::Execution, String>,
    status: &mut api::TriggerStatus,
    decision: &mut PlanDecision,
) {
    match run {
        Ok(run) if facts.runs.iter().any(|known| run.metadata.name.as_ref() == Some(&known.name)) => {}
        Ok(run) => decision.create.push(run),
        Err(message) => drop_one(trigger, 1, message, status, decision),
    }
}

fn drop_one(
    trigger: &PlannedTrigger,
    count: i64,
    message: String,
    status: &mut api::TriggerStatus,
    decision: &mut PlanDecision,
) {
    const MESSAGE_BYTES: usize = 1024;
    status.dropped = status.dropped.saturating_add(count);
    status.message = Some(message.get(..message.floor_char_boundary(MESSAGE_BYTES)).unwrap_or_default().to_owned());
    decision.dropped.push((trigger.name.clone(), message));
}

fn admit_runs(facts: &PlanFacts, decision: &mut PlanDecision) {
    let Some(concurrency) = facts.launch.concurrency else { return };
    let is_admitted = |run: &PlanRun| facts.status.active.iter().any(|active| active.uid == run.uid);
    let living = facts.runs.iter().filter(|run| run.stage != RunStage::Ended);
    let member = |run: &PlanRun| Member {
        name: run.name.clone(),
        uid: run.uid.clone(),
        occurred_at: run.occurred_at,
        stage: run.stage,
        admitted: is_admitted(run),
        cancelling: run.cancelling,
    };
    let members: Vec<Member> = living.map(member).collect();
    let admission = admit(&members, concurrency.limit, concurrency.when_full, concurrency.queue_limit);
    let references = |uids: &[String]| -> Vec<api::RunReference> {
        let reference = |uid: &String| {
            let name = members.iter().find(|member| member.uid == *uid).map(|member| member.name.clone());
            api::RunReference { execution: name.unwrap_or_default(), uid: uid.clone() }
        };
        uids.iter().map(reference).collect()
    };
    decision.status.active = references(&admission.active);
    decision.status.skipped = references(&admission.skip);
    decision.status.queue = references(admission.queue.get(..QUEUE_SHOWN).unwrap_or(&admission.queue));
    decision.status.queued = i32::try_from(admission.queue.len()).unwrap_or(i32::MAX);
    let is_cancelling = |uid: &String| members.iter().any(|member| member.uid == *uid && member.cancelling);
    let cancel: Vec<String> = admission.cancel.into_iter().filter(|uid| !is_cancelling(uid)).collect();
    decision.cancel = references(&cancel).into_iter().map(|run| run.execution).collect();
}

fn prune(facts: &PlanFacts, now: Timestamp, decision: &mut PlanDecision) {
    let history = &facts.launch.history;
    let mut ended: Vec<&PlanRun> = facts.runs.iter().filter(|run| run.stage == RunStage::Ended).collect();
    ended.sort_by_key(|run| std::cmp::Reverse((run.ended_at, run.name.clone())));
    let (mut succeeded, mut failed) = (0, 0);
    for run in ended {
        let (count, keep) = match run.succeeded {
            Some(true) => (&mut succeeded, history.keep_succeeded),
            _ => (&mut failed, history.keep_failed),
        };
        *count += 1;
        let goes_at = history.keep_for.zip(run.ended_at).and_then(|(keep, ended)| ended.checked_add(keep).ok());
        if !run.settled {
            continue;
        }
        if *count > keep || goes_at.is_some_and(|at| at <= now) {
            decision.prune.push(run.clone());
        } else {
            wake(decision, goes_at);
        }
    }
}

fn wake(decision: &mut PlanDecision, at: Option<Timestamp>) {
    decision.wake = match (decision.wake, at) {
        (Some(before), Some(at)) => Some(before.min(at)),
        (before, at) => before.or(at),
    };
}

fn schedule_text(launch: &PlannedLaunch) -> Option<String> {
    let texts = launch.triggers.iter().filter_map(|trigger| match &trigger.on {
        TriggerOn::Schedule { cron, time_zone, .. } if time_zone == "UTC" => Some(cron.clone()),
        TriggerOn::Schedule { cron, time_zone, .. } => Some(format!("{cron} {time_zone}")),
        _ => None,
    });
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
