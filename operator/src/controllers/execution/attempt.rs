//! One attempt: its pod is created, looked at, ended; its result is read.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use pintail_api::ConditionReason as Reason;
use pintail_engine::{Phase, TaskIndex};
use pintail_execution::{CommittedReport, Connections, Seen};
use pintail_protocol::{
    Failure, FailureClass, ORDER_VARIABLE_BYTES, ReportOutcome, TaskReport, WorkOrder, encode_order, format_for_runner,
    unpack_report,
};
use pintail_storage::{RunTask, StoreError};
use serde_json::json;

use super::facts::{
    Ended, EndedOutcome, PodFacts, SaidReport, WAIT_AT_MOST, Waiting, failure, infrastructure, pod_facts, scheduled_at,
};
use super::later;
use super::memory::{Driven, Starting};
use super::pod::{IDENTITY_ANNOTATION, Owner, PodParts, build, identity_digest, told};
use super::refusal::{Refusal, refusal};
use crate::controllers::error::{Attempted, ReconcileError, is_passing};
use crate::controllers::runner::OrderText;
use crate::controllers::unit::Unit;

/// The watch shows a created pod within this time, or something went wrong with it.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// A pod that the cluster does not take now is offered again after this time.
const OFFERED_AGAIN: Duration = Duration::from_secs(10);
/// A pod that was told to end and does not is deleted after this time.
const ENDS_WITHIN_S: i64 = 120;

/// Which attempt.
#[derive(Clone, Copy)]
pub struct Attempt {
    pub task: TaskIndex,
    pub number: u32,
}

/// What came of asking for a pod.
pub enum Asked {
    Created,
    /// It was there already.
    Adopted,
    Wait(Waiting),
    Failed(Failure),
}

/// How an attempt has ended.
pub enum Outcome {
    Committed(Box<CommittedReport>),
    Failed { failure: Failure, report: Option<Box<TaskReport>>, at: Timestamp },
}

impl Outcome {
    fn seen(self, Attempt { task, number: attempt }: Attempt) -> Seen {
        match self {
            Self::Committed(result) => Seen::Committed { task, attempt, result },
            Self::Failed { failure, report, at } => Seen::Failed { task, attempt, failure, report, at },
        }
    }
}

/// The pod that is asked for.
pub struct Wanted<'a> {
    pub order: &'a WorkOrder,
    pub connections: &'a Connections,
    /// What the run is pinned to, if it has started.
    pub resolved: Option<&'a pintail_api::Resolved>,
    pub options: &'a pintail_api::PodOptions,
    pub timeout_s: Option<i64>,
}

pub struct Pods<'a> {
    pub unit: &'a Unit,
    pub namespace: &'a str,
    pub execution: &'a str,
    pub uid: &'a str,
}

impl Pods<'_> {
    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.unit.context.client.clone(), self.namespace)
    }

    pub fn is_ours(&self, pod: &Pod) -> bool {
        pod.owner_references().iter().any(|owner| owner.uid == self.uid)
    }

    /// The pod of that name if it is of this Execution: as the watch has it, else as the API server has it.
    pub async fn find(&self, name: &str) -> Result<Option<Arc<Pod>>, ReconcileError> {
        if let Some(pod) = self.unit.pods.get(self.namespace, name).filter(|pod| self.is_ours(pod)) {
            return Ok(Some(pod));
        }
        let live = self.api().get_opt(name).await.attempted(|| format!("read pod {name}"))?;
        Ok(live.filter(|pod| self.is_ours(pod)).map(Arc::new))
    }

    pub async fn delete(&self, pod: &Pod) -> Result<(), ReconcileError> {
        let name = pod.name_any();
        let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.api().delete(&name, &parameters).await {
            Ok(_) => Ok(()),
            // Gone, or another by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error).attempted(|| format!("delete pod {name}")),
        }
    }

    /// Ends a pod so that it and its log stay: its deadline is now. One whose container never ran has nothing to keep.
    pub async fn end(&self, pod: &Pod, now: Timestamp) -> Result<(), ReconcileError> {
        let status = pod.status.as_ref();
        let Some(Time(started)) = status.and_then(|status| status.start_time.as_ref()) else {
            return self.delete(pod).await;
        };
        let has_run = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default().iter().any(
            |container| {
                container.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
            },
        );
        if !has_run {
            return self.delete(pod).await;
        }
        let deadline_s = now.duration_since(*started).as_secs().max(0) + 1;
        let current_s = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        if current_s.is_some_and(|current_s| current_s <= deadline_s) {
            return Ok(());
        }
        let name = pod.name_any();
        let patch = json!({ "metadata": { "uid": pod.uid() }, "spec": { "activeDeadlineSeconds": deadline_s } });
        match self.api().patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error).attempted(|| format!("end pod {name}")),
        }
    }

    /// Asks for the pod of an attempt of a task.
    pub async fn ask(
        &self,
        driven: &Driven,
        order: &WorkOrder,
        connections: &Connections,
    ) -> Result<Asked, ReconcileError> {
        let task = driven.run.plan.tasks.iter().position(|planned| planned.name == order.identity.task);
        let timeout = task.and_then(|index| driven.run.plan.graph.tasks.get(index)).and_then(|node| node.timeout);
        let default = pintail_api::PodOptions::default();
        let options = task.and_then(|index| driven.run.plan.tasks.get(index)).map_or(&default, |task| &task.pod);
        let timeout_s = timeout.and_then(|timeout| i64::try_from(timeout.as_secs()).ok());
        let resolved = driven.written.resolved.as_ref();
        self.create(&Wanted { order, connections, resolved, options, timeout_s }).await
    }

    /// Asks for a pod. Its name is the intent: who finds it there has asked for it before.
    pub async fn create(&self, wanted: &Wanted<'_>) -> Result<Asked, ReconcileError> {
        let settings = &self.unit.context.settings;
        let resolved = wanted.resolved;
        // The pinned runner reads its own format, whatever this build writes for runs of its own.
        let format = format_for_runner(resolved.and_then(|resolved| resolved.order_format));
        let order = wanted.order;
        let text = match self.order_text(&told(order, format)).await? {
            Ok(text) => text,
            Err(failure) => return Ok(Asked::Failed(failure)),
        };
        let pod = build(&PodParts {
            owner: Owner { execution: self.execution, uid: self.uid },
            order,
            text,
            options: wanted.options,
            timeout_s: wanted.timeout_s,
            connections: wanted.connections,
            image: resolved.and_then(|resolved| resolved.runner_image.as_deref()).unwrap_or(&settings.runner.image),
            settings,
        });
        let name = pod.name_any();
        match self.api().create(&PostParams::default(), &pod).await {
            Ok(_) => {
                self.unit.context.metrics.pod_created();
                Ok(Asked::Created)
            }
            Err(kube::Error::Api(status)) => match refusal(&status) {
                Refusal::Exists => self.adopt(&name, order).await,
                Refusal::Wait(waiting) => Ok(Asked::Wait(waiting)),
                Refusal::Fail(failure) => Ok(Asked::Failed(failure)),
                Refusal::TryAgain => Err(kube::Error::Api(status)).attempted(|| format!("create pod {name}")),
            },
            Err(error) => Err(error).attempted(|| format!("create pod {name}")),
        }
    }

    /// A pod of that name is there: ours from before, or a stranger.
    async fn adopt(&self, name: &str, order: &WorkOrder) -> Result<Asked, ReconcileError> {
        let live = self.api().get_opt(name).await.attempted(|| format!("read pod {name}"))?;
        // It went just now.
        let Some(live) = live else { return Err(ReconcileError::Conflict) };
        let identity = live.annotations().get(IDENTITY_ANNOTATION);
        if self.is_ours(&live) && identity == Some(&identity_digest(&order.identity)) {
            return Ok(Asked::Adopted);
        }
        let message = format!("there is a pod {name} that is not of this run: delete it");
        Ok(Asked::Failed(infrastructure("PodNameTaken", message)))
    }

    async fn order_text(&self, order: &WorkOrder) -> Result<Result<OrderText, Failure>, ReconcileError> {
        let text = match encode_order(order) {
            Ok(text) => text,
            Err(error) => return Ok(Err(failure(FailureClass::Permanent, "OrderTooLarge", error.to_string()))),
        };
        if text.len() <= ORDER_VARIABLE_BYTES {
            return Ok(Ok(OrderText::Inline(text)));
        }
        let object = self.unit.context.store.put_order(self.namespace, self.uid, text).await?;
        Ok(Ok(OrderText::Object(object)))
    }

    /// How an attempt that is under way stands.
    pub async fn look(&self, driven: &mut Driven, attempt: Attempt) -> Result<Vec<Seen>, ReconcileError> {
        let now = self.unit.context.clock.now();
        let Some(planned) = driven.run.plan.tasks.get(attempt.task.0 as usize) else { return Ok(Vec::new()) };
        let task = planned.name.clone();
        let name = pintail_execution::pod_name(self.execution, self.uid, &task, None, attempt.number);
        let phase = driven.run.phase(attempt.task);
        let known = self.unit.pods.get(self.namespace, &name).filter(|pod| self.is_ours(pod));
        let pod = match known {
            Some(pod) => pod,
            // Not asked for yet, or so lately that the watch may not have shown it.
            None if matches!(phase, Phase::Starting { .. }) && !self.is_overdue(driven, attempt.task, now) => {
                return Ok(Vec::new());
            }
            None => match self.find(&name).await? {
                Some(pod) => pod,
                None => {
                    let waited = driven.waiting.remove(&attempt.task);
                    let lost = match (waited, phase) {
                        (_, Phase::Stopping { .. }) => {
                            failure(FailureClass::Interrupted, "Interrupted", "the attempt was stopped before it ran")
                        }
                        (Some(waited), _) => infrastructure(waited.reason.word(), waited.message),
                        (None, _) => infrastructure("Lost", "the pod is gone, and it did not commit a result"),
                    };
                    return Ok(vec![self.by_commit(&task, lost, now).await?.seen(attempt)]);
                }
            },
        };
        let store_secret = self.unit.context.settings.store.secret_name.as_deref();
        let facts = pod_facts(&pod, store_secret, now);
        if !matches!(facts, PodFacts::Waiting(Some(_))) {
            driven.waiting.remove(&attempt.task);
        }
        match facts {
            PodFacts::Waiting(waiting) => self.waits(driven, attempt, &pod, waiting, now).await,
            PodFacts::Running { since } => {
                self.hurry(driven, attempt, &pod, now).await?;
                Ok(vec![Seen::Started { task: attempt.task, attempt: attempt.number, at: since }])
            }
            PodFacts::Ended(ended) => self.ended(&task, attempt, &pod, ended, now).await,
            PodFacts::Lost(failure) => Ok(vec![self.by_commit(&task, failure, now).await?.seen(attempt)]),
        }
    }

    fn is_overdue(&self, driven: &Driven, task: TaskIndex, now: Timestamp) -> bool {
        match driven.starting.get(&task) {
            Some(Starting::Created { at }) => later(*at, SHOWN_WITHIN) <= now,
            Some(Starting::Refused { .. }) | None => false,
        }
    }

    async fn waits(
        &self,
        driven: &mut Driven,
        attempt: Attempt,
        pod: &Pod,
        waiting: Option<Waiting>,
        now: Timestamp,
    ) -> Result<Vec<Seen>, ReconcileError> {
        let Some(waiting) = waiting else { return Ok(Vec::new()) };
        let created = || pod.metadata.creation_timestamp.as_ref().map_or(now, |Time(at)| *at);
        // However long it waited for a node.
        let since = scheduled_at(pod).unwrap_or_else(created);
        let for_ever = matches!(waiting.reason, Reason::Unschedulable | Reason::QuotaExceeded);
        if for_ever || now < later(since, WAIT_AT_MOST) || pod.metadata.deletion_timestamp.is_some() {
            driven.waiting.insert(attempt.task, waiting);
            return Ok(Vec::new());
        }
        // Gone before the next starts: it might wake up beside it.
        self.delete(pod).await?;
        driven.waiting.insert(attempt.task, waiting);
        Ok(Vec::new())
    }

    /// A pod that should have ended by its deadline: its node does not do what it is told.
    async fn hurry(&self, driven: &Driven, attempt: Attempt, pod: &Pod, now: Timestamp) -> Result<(), ReconcileError> {
        let stopping = matches!(driven.run.phase(attempt.task), Phase::Stopping { .. });
        let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|Time(at)| *at);
        let deadline_s = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        let (true, Some(started), Some(deadline_s)) = (stopping, started, deadline_s) else { return Ok(()) };
        let overdue = now.duration_since(started).as_secs() > deadline_s.saturating_add(ENDS_WITHIN_S);
        if overdue && pod.metadata.deletion_timestamp.is_none() { self.delete(pod).await } else { Ok(()) }
    }

    async fn ended(
        &self,
        task: &str,
        attempt: Attempt,
        pod: &Pod,
        ended: Ended,
        now: Timestamp,
    ) -> Result<Vec<Seen>, ReconcileError> {
        if ended.lingers {
            self.end(pod, now).await?;
        }
        let started = |at| Seen::Started { task: attempt.task, attempt: attempt.number, at };
        let mut seen: Vec<Seen> = ended.started_at.map(started).into_iter().collect();
        let outcome = self.outcome(task, ended.outcome, ended.at.unwrap_or(now)).await?;
        seen.push(outcome.seen(attempt));
        Ok(seen)
    }

    /// How an attempt ended by what its container said, and by what is committed.
    pub async fn outcome(&self, task: &str, ended: EndedOutcome, at: Timestamp) -> Result<Outcome, ReconcileError> {
        match ended {
            EndedOutcome::Committed(Some(said)) => self.committed_report(task, said, at).await,
            EndedOutcome::Committed(None) | EndedOutcome::Superseded => {
                let missing = "the runner said that a result is committed, and there is none";
                self.by_commit(task, infrastructure("CommitMissing", missing), at).await
            }
            EndedOutcome::Failed { failure, report } => self.failed(failure, report, at).await,
            EndedOutcome::Unknown(failure) => self.by_commit(task, failure, at).await,
        }
    }

    /// The report that the container named; what is committed, where that is no report of this attempt.
    async fn committed_report(&self, task: &str, said: SaidReport, at: Timestamp) -> Result<Outcome, ReconcileError> {
        let SaidReport { key, digest, content } = said;
        let store = &self.unit.context.store;
        let content = content.and_then(|text| unpack_report(&text).ok());
        let told = content.and_then(|bytes| store.parse_report(&key, &digest, &bytes).ok());
        let report = match told {
            Some(report) => Ok(report),
            None => store.read_report(&key, &digest).await,
        };
        match report {
            Ok(report) if report.identity.execution_uid == self.uid => {
                Ok(Outcome::Committed(Box::new(CommittedReport { key, digest, report })))
            }
            Err(error) if is_passing(&error) => Err(error.into()),
            _ => {
                let missing = "the runner named a report that is not there";
                self.by_commit(task, infrastructure("CommitMissing", missing), at).await
            }
        }
    }

    /// The termination message says the most important; what else the report says is worth a try.
    async fn failed(
        &self,
        said: Failure,
        report: Option<(String, String)>,
        at: Timestamp,
    ) -> Result<Outcome, ReconcileError> {
        let report = match report {
            None => None,
            Some((key, digest)) => match self.unit.context.store.read_report(&key, &digest).await {
                Ok(report) => Some(Box::new(report)),
                Err(error) if is_passing(&error) => return Err(error.into()),
                Err(_) => None,
            },
        };
        let full = report.as_ref().and_then(|report| match &report.outcome {
            ReportOutcome::Failed(failure) => Some(failure.clone()),
            ReportOutcome::Succeeded(_) => None,
        });
        let failure = full.unwrap_or(said);
        // The cluster tells time in whole seconds.
        let at = report.as_ref().map_or(at, |report| report.ended_at);
        Ok(Outcome::Failed { failure, report, at })
    }

    /// What is committed decides, else `otherwise`.
    pub async fn by_commit(&self, task: &str, otherwise: Failure, at: Timestamp) -> Result<Outcome, ReconcileError> {
        let failed = |failure| Outcome::Failed { failure, report: None, at };
        let run_task = RunTask::new(self.namespace, self.uid, task, None)?;
        match self.unit.context.store.read_commit(&run_task).await {
            Ok(Some((commit, report))) => {
                Ok(Outcome::Committed(Box::new(CommittedReport { key: commit.report, digest: commit.digest, report })))
            }
            Ok(None) => Ok(failed(otherwise)),
            Err(error) => unreadable(error).map(failed),
        }
    }

    /// Ends an attempt, and says how it ended where it has no pod.
    pub async fn stop(&self, driven: &mut Driven, attempt: Attempt) -> Result<Option<Seen>, ReconcileError> {
        let now = self.unit.context.clock.now();
        driven.waiting.remove(&attempt.task);
        driven.starting.remove(&attempt.task);
        let Some(planned) = driven.run.plan.tasks.get(attempt.task.0 as usize) else { return Ok(None) };
        let name = pintail_execution::pod_name(self.execution, self.uid, &planned.name, None, attempt.number);
        match self.find(&name).await? {
            Some(pod) => self.end(&pod, now).await.map(|()| None),
            None => {
                let gone = failure(FailureClass::Interrupted, "Interrupted", "the attempt has no pod");
                Ok(Some(self.by_commit(&planned.name, gone, now).await?.seen(attempt)))
            }
        }
    }
}

/// What is stored is wrong: that fails the attempt. A store that does not answer is asked again.
fn unreadable(error: StoreError) -> Result<Failure, ReconcileError> {
    if is_passing(&error) { Err(error.into()) } else { Ok(error.failure()) }
}

pub fn offered_again(now: Timestamp) -> Timestamp {
    later(now, OFFERED_AGAIN)
}

pub fn shown_by(at: Timestamp) -> Timestamp {
    later(at, SHOWN_WITHIN)
}
