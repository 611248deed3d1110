//! Whoever a LaunchPlan tells of the end of its run. How far that is stands in the status alone: whoever comes after goes
//! on. What becomes of it changes nothing of the run's result.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::launch::{
    ATTEMPT_TIMEOUT, FAILED, NotificationPlace, attempt_ended, next_attempt, notification_order, notification_task,
    notifications,
};
use pintail_execution::{Connections, pod_name};
use pintail_protocol::{Failure, FailureClass};

use super::attempt::{Asked, Outcome, Pods, Wanted, shown_by};
use super::facts::{Ended, PodFacts, WAIT_AT_MOST, Waiting, failure, infrastructure, pod_facts};
use super::memory::Remembered;
use super::pod::{ATTEMPT_ANNOTATION, TASK_ANNOTATION};
use super::{Subject, later};
use crate::controllers::error::ReconcileError;
use crate::controllers::event::{self, Happened};
use crate::controllers::object::{decode, version, write_status};
use crate::controllers::unit::Unit;

/// Nodes may be lost without a word of the watch.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How far it is.
pub enum Told {
    /// Nobody is left.
    All,
    /// Somebody is, and is looked after again then.
    Later(Timestamp),
    /// What came of an attempt was written.
    Written,
}

/// One notification as it stands.
struct Notification<'a> {
    pods: Pods<'a>,
    subject: &'a Subject,
    index: usize,
    attempt: u32,
    task: String,
}

enum Step {
    Wait(Timestamp),
    Ended(Result<(), Failure>),
}

/// Lists in the status of a run that ends whom its plan tells of that.
pub async fn list(unit: &Unit, execution: &api::Execution, status: &mut api::ExecutionStatus) {
    let (Some(started), Some(_)) = (&execution.spec.trigger, &status.completion_time) else { return };
    unit.launch_plans.wait_until_ready().await;
    let plan = unit.launch_plans.find(&execution.namespace().unwrap_or_default(), &started.plan);
    let plan = plan.and_then(|object| decode::<api::LaunchPlan>(&object).ok());
    let asked = plan.map(|plan| plan.spec.notifications).unwrap_or_default();
    status.notifications = notifications(&asked, status);
}

/// Whether the pod is of an attempt whose end is not recorded.
pub fn is_live(execution: &api::Execution, pod: &Pod) -> bool {
    let annotations = pod.annotations();
    let told = execution.status.as_ref().map(|status| status.notifications.as_slice()).unwrap_or_default();
    let mut told = told.iter().enumerate();
    told.any(|(index, told)| {
        let number = next_attempt(told).map(|number| number.to_string());
        annotations.get(TASK_ANNOTATION) == Some(&notification_task(index))
            && number.is_some_and(|number| annotations.get(ATTEMPT_ANNOTATION) == Some(&number))
    })
}

/// Goes on with all notifications of a run that has ended.
pub async fn tell(unit: &Unit, subject: &Subject, remembered: &mut Remembered) -> Result<Told, ReconcileError> {
    let mut status = subject.execution.status.clone().unwrap_or_default();
    if status.notifications.iter().all(|told| next_attempt(told).is_none()) {
        return Ok(Told::All);
    }
    let connections = unit.connections_of(&subject.namespace).await;
    let now = unit.context.clock.now();
    let (mut wake, mut happened) = (Timestamp::MAX, Vec::new());
    for (index, told) in status.notifications.iter_mut().enumerate() {
        let Some(attempt) = next_attempt(told) else { continue };
        let next: Option<Timestamp> = told.next_attempt_time.as_deref().and_then(|time| time.parse().ok());
        let pods = Pods { unit, namespace: &subject.namespace, execution: &subject.name, uid: &subject.uid };
        let task = notification_task(index);
        let notification = Notification { pods, subject, index, attempt, task };
        let step = match next.filter(|next| *next > now) {
            Some(next) => Step::Wait(next),
            None => notification.advance(&connections, remembered, now).await?,
        };
        match step {
            Step::Wait(at) => wake = wake.min(at),
            Step::Ended(outcome) => {
                remembered.told.remove(&index);
                *told = attempt_ended(told, outcome.as_ref().copied(), now);
                happened.extend(failed(index, told));
            }
        }
    }
    let objects = unit.api(&unit.executions, &subject.namespace);
    let Some(written) = write_status(&objects, &subject.object, &status).await? else { return Ok(Told::Later(wake)) };
    remembered.version = version(&written);
    for happened in happened {
        event::record(&unit.context, &written, &happened).await;
    }
    Ok(Told::Written)
}

fn failed(index: usize, told: &api::NotificationStatus) -> Option<Happened> {
    let message = told.message.as_deref().filter(|_| told.state == FAILED)?;
    Some(Happened {
        reason: "NotificationFailed",
        action: "Notify",
        warning: true,
        note: format!("connection {}, attempt {}: {message}", told.connection, told.attempt),
        key: index.to_string(),
    })
}

impl Notification<'_> {
    async fn advance(
        &self,
        connections: &Connections,
        remembered: &mut Remembered,
        now: Timestamp,
    ) -> Result<Step, ReconcileError> {
        let name = pod_name(&self.subject.name, &self.subject.uid, &self.task, None, self.attempt);
        let known = self.pods.unit.pods.get(&self.subject.namespace, &name).filter(|pod| self.pods.is_ours(pod));
        let asked = remembered.told.get(&self.index).filter(|(attempt, _)| *attempt == self.attempt);
        let pod = match (known, asked.map(|(_, at)| shown_by(*at))) {
            (Some(pod), _) => pod,
            (None, None) => return self.ask(connections, remembered, now).await,
            // The watch may not have shown it yet.
            (None, Some(shown_by)) if shown_by > now => return Ok(Step::Wait(shown_by)),
            (None, Some(_)) => match self.pods.find(&name).await? {
                Some(pod) => pod,
                None => return self.by_commit(infrastructure("Lost", "the pod is gone"), now).await,
            },
        };
        let store_secret = self.pods.unit.context.settings.store.secret_name.as_deref();
        match pod_facts(&pod, store_secret, now) {
            PodFacts::Waiting(waiting) => self.waits(&pod, waiting, now).await,
            PodFacts::Running { .. } => Ok(Step::Wait(later(now, LOOK_AGAIN))),
            PodFacts::Ended(ended) => self.ended(&pod, ended, now).await,
            PodFacts::Lost(failure) => self.by_commit(failure, now).await,
        }
    }

    async fn ask(
        &self,
        connections: &Connections,
        remembered: &mut Remembered,
        now: Timestamp,
    ) -> Result<Step, ReconcileError> {
        let flags = format!(" -n {}", self.subject.namespace);
        let store = self.pods.unit.context.store.location();
        let place = NotificationPlace { store, connections, flags: &flags };
        let order = match notification_order(&self.subject.execution, self.index, self.attempt, &place) {
            Ok(order) => order,
            Err(failure) => return Ok(Step::Ended(Err(failure))),
        };
        let resolved = self.subject.execution.status.as_ref().and_then(|status| status.resolved.as_ref());
        let (options, timeout_s) = (api::PodOptions::default(), i64::try_from(ATTEMPT_TIMEOUT.as_secs()).ok());
        let wanted = Wanted { order: &order, connections, resolved, options: &options, timeout_s };
        Ok(match self.pods.create(&wanted).await? {
            Asked::Created | Asked::Adopted => {
                remembered.told.insert(self.index, (self.attempt, now));
                Step::Wait(shown_by(now))
            }
            Asked::Wait(waiting) => Step::Ended(Err(in_vain(waiting))),
            Asked::Failed(failure) => Step::Ended(Err(failure)),
        })
    }

    /// What a task would wait for without end is waited for no longer than for anything else: a message is soon stale.
    async fn waits(&self, pod: &Pod, waiting: Option<Waiting>, now: Timestamp) -> Result<Step, ReconcileError> {
        let created = pod.metadata.creation_timestamp.as_ref().map_or(now, |created| created.0);
        let until = later(created, WAIT_AT_MOST);
        if now < until {
            return Ok(Step::Wait(until));
        }
        self.pods.delete(pod).await?;
        let never = || infrastructure("Lost", "the pod did not start within ten minutes");
        Ok(Step::Ended(Err(waiting.map_or_else(never, in_vain))))
    }

    async fn ended(&self, pod: &Pod, ended: Ended, now: Timestamp) -> Result<Step, ReconcileError> {
        if ended.lingers {
            self.pods.end(pod, now).await?;
        }
        self.pods.outcome(&self.task, ended.outcome, now).await.map(step)
    }

    async fn by_commit(&self, otherwise: Failure, now: Timestamp) -> Result<Step, ReconcileError> {
        self.pods.by_commit(&self.task, otherwise, now).await.map(step)
    }
}

fn step(outcome: Outcome) -> Step {
    match outcome {
        Outcome::Committed(_) => Step::Ended(Ok(())),
        Outcome::Failed { failure, .. } => Step::Ended(Err(failure)),
    }
}

fn in_vain(waiting: Waiting) -> Failure {
    failure(FailureClass::Transient, waiting.reason.word(), waiting.message)
}
