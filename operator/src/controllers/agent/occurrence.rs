//! What agents tell, and the runs that it starts.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_execution::launch::{is_full, of_happened, recorded, started_run, trigger_of};
use pintail_plan::{PlannedLaunch, TriggerOn};
use pintail_protocol::{Happened, Occurrence, OccurrenceAnswer, check_format};

use super::pod;
use crate::controllers::error::ReconcileError;
use crate::controllers::event;
use crate::controllers::execution::refusal::is_never_taken;
use crate::controllers::launch::{check, dropped, marker, perform};
use crate::controllers::object::decode;
use crate::controllers::unit::Unit;

/// An agent as its token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Teller {
    pub namespace: String,
    pub pod: String,
    pub pod_uid: String,
}

/// Why an occurrence has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Telling again can help.
    #[error("{0}")]
    Later(String),
    /// Whoever tells may not tell this.
    #[error("{0}")]
    Forbidden(String),
    /// Only a newer operator understands it.
    #[error("{0}")]
    NotUnderstood(String),
}

/// Where agents tell of occurrences. Clones share it. It is open while the controllers of this process run.
#[derive(Clone, Default)]
pub struct Desk(Arc<RwLock<Vec<Arc<Unit>>>>);

/// Closes the desk when it is dropped.
pub struct Open(Desk);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Desk {
    pub(in crate::controllers) fn open(&self, units: &[Arc<Unit>]) -> Open {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = units.to_vec();
        Open(self.clone())
    }

    pub(in crate::controllers) fn unit(&self, namespace: &str) -> Option<Arc<Unit>> {
        let units = self.0.read().unwrap_or_else(PoisonError::into_inner);
        units.iter().find(|unit| unit.only_namespace().is_none_or(|only| only == namespace)).cloned()
    }

    /// Starts the run of an occurrence, if it starts one. Telling again gives the same answer: a run is named after what
    /// started it.
    ///
    /// # Errors
    /// Where it is not known what becomes of the occurrence.
    pub async fn tell(&self, teller: &Teller, occurrence: &Occurrence) -> Result<OccurrenceAnswer, Refused> {
        check_format("the occurrence", occurrence.format).map_err(|error| Refused::NotUnderstood(error.to_string()))?;
        if teller.namespace != occurrence.namespace {
            let (own, other) = (&teller.namespace, &occurrence.namespace);
            return Err(Refused::Forbidden(format!("an agent of namespace {own} tells of namespace {other}")));
        }
        let unit = self.unit(&teller.namespace).ok_or_else(|| {
            Refused::Later("this operator does not look after the namespace now: another replica may lead".to_owned())
        })?;
        tell(&unit, teller, occurrence).await
    }
}

async fn tell(unit: &Unit, teller: &Teller, occurrence: &Occurrence) -> Result<OccurrenceAnswer, Refused> {
    let namespace = &teller.namespace;
    unit.pods.wait_until_ready().await;
    unit.launch_plans.wait_until_ready().await;
    unit.executions.wait_until_ready().await;
    let pod = unit.pods.get(namespace, &teller.pod).filter(|pod| pod.uid().as_ref() == Some(&teller.pod_uid));
    let knows_until = pod.as_deref().and_then(pod::knows_until).ok_or_else(|| {
        Refused::Forbidden(format!("pod {} of namespace {namespace} is no agent that the operator made", teller.pod))
    })?;
    let Some(object) = unit.launch_plans.find(namespace, &occurrence.plan) else {
        return Ok(nothing(format!("there is no LaunchPlan {}", occurrence.plan)));
    };
    let unusable = |why: &str| Refused::Later(format!("LaunchPlan {} {why}", occurrence.plan));
    let plan: api::LaunchPlan = decode(&object).map_err(|_| unusable("cannot be read"))?;
    let compiled = unit.launches.get(&plan);
    let launch = compiled.as_ref().as_ref().map_err(|_| unusable("is not valid"))?;
    if check::cycle(unit, namespace, launch).is_some() {
        return Err(unusable("is part of a circle of plans"));
    }
    let status = plan.status.clone().unwrap_or_default();
    let run = match decide(launch, &status, occurrence, knows_until)? {
        Decided::Nothing(reason) => return Ok(nothing(reason)),
        Decided::Impossible(reason) => return Ok(tell_of_dropped(unit, &object, occurrence, reason).await),
        Decided::Run(run) => run,
    };
    start(unit, &object, launch, occurrence, &run).await
}

fn nothing(reason: String) -> OccurrenceAnswer {
    OccurrenceAnswer::Dropped { reason }
}

/// What an occurrence comes to, whatever ran before.
#[derive(Clone, Debug)]
pub enum Decided {
    Run(Box<api::Execution>),
    /// It starts nothing.
    Nothing(String),
    /// It should start a run and cannot: people are told.
    Impossible(String),
}

/// `knows_until`: the agent knows of triggers that were changed up to then.
///
/// # Errors
/// Where the trigger was changed, and either the operator or the agent does not know yet.
pub fn decide(
    launch: &PlannedLaunch,
    status: &api::LaunchPlanStatus,
    occurrence: &Occurrence,
    knows_until: Timestamp,
) -> Result<Decided, Refused> {
    let Some(trigger) = trigger_of(launch, &occurrence.trigger) else {
        return Ok(Decided::Nothing(format!("LaunchPlan {} has no trigger {}", launch.name, occurrence.trigger)));
    };
    if launch.suspended {
        return Ok(Decided::Nothing(format!("LaunchPlan {} is suspended", launch.name)));
    }
    let found = recorded(status, trigger).filter(|_| !status.suspended);
    let Some(since) = found.and_then(|found| found.since.parse::<Timestamp>().ok()) else {
        return Err(Refused::Later(format!("trigger {} was changed just now: tell again", trigger.name)));
    };
    if knows_until < since {
        let why = "was changed after this agent was made: another takes its place";
        return Err(Refused::Later(format!("trigger {} {why}", trigger.name)));
    }
    match (&occurrence.happened, &trigger.on) {
        (Happened::Object(_), TriggerOn::Object { .. }) => {}
        (Happened::Event(event), TriggerOn::Event { .. }) if event.time < since => {
            return Ok(Decided::Nothing(format!(
                "it happened before {since}, when the trigger was written, changed or resumed"
            )));
        }
        (Happened::Event(_), TriggerOn::Event { .. }) => {}
        _ => return Ok(Decided::Nothing(format!("trigger {} waits for something else", trigger.name))),
    }
    let run = started_run(launch, Some(trigger), &of_happened(&occurrence.happened), &occurrence.namespace);
    Ok(run.map_or_else(Decided::Impossible, |run| Decided::Run(Box::new(run))))
}

async fn start(
    unit: &Unit,
    plan: &DynamicObject,
    launch: &PlannedLaunch,
    occurrence: &Occurrence,
    run: &api::Execution,
) -> Result<OccurrenceAnswer, Refused> {
    let (namespace, name) = (&occurrence.namespace, run.name_any());
    let started = OccurrenceAnswer::Execution { name: name.clone() };
    let later = |error: ReconcileError| Refused::Later(error.to_string());
    // What ran has its answer, however full the queue is now.
    if unit.executions.find(namespace, &name).is_some() {
        return Ok(started);
    }
    if let Some(begun) = &run.spec.trigger
        && marker::exists(&unit.context.store, namespace, begun).await.map_err(later)?
    {
        return Ok(started);
    }
    let unended = unit.plan_runs.unended(namespace, &launch.name, unit.context.clock.now());
    if is_full(launch, unended) {
        let reason = format!("the queue of LaunchPlan {} is full: {unended} runs have not ended", launch.name);
        return Ok(OccurrenceAnswer::Full { reason });
    }
    match perform::create_unmarked(unit, namespace, run).await {
        Ok(()) => Ok(started),
        // Telling of it for ever would hold up what comes after it.
        Err(error) if is_never_taken(&error) => Ok(tell_of_dropped(unit, plan, occurrence, error.to_string()).await),
        Err(error) => Err(later(error)),
    }
}

async fn tell_of_dropped(
    unit: &Unit,
    plan: &DynamicObject,
    occurrence: &Occurrence,
    reason: String,
) -> OccurrenceAnswer {
    tracing::warn!(
        namespace = occurrence.namespace,
        plan = occurrence.plan,
        trigger = occurrence.trigger,
        "no run was started: {reason}"
    );
    let key = of_happened(&occurrence.happened).key;
    event::record(&unit.context, plan, &dropped(&occurrence.trigger, &reason, &key)).await;
    nothing(reason)
}
