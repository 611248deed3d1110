//! What a pod says about its attempt. Pure: a pod in, [`PodFacts`] out.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pintail_api::ConditionReason;
use pintail_protocol::{ExitCode, Failure, FailureClass, TerminationMessage};

use super::later;
use super::pod::CONTAINER;

/// A pod that was told to go says nothing more this long after it should be gone: its node is lost.
const LOST_AFTER_S: i64 = 60;

/// Secrets, images and volumes may come late, but not for ever. Places on nodes and in quotas are waited for without end.
pub const WAIT_AT_MOST: Duration = Duration::from_secs(600);

/// How an attempt stands by its pod.
#[derive(Clone, Debug, PartialEq)]
pub enum PodFacts {
    /// Its container does not run yet.
    Waiting(Option<Waiting>),
    Running {
        since: Timestamp,
    },
    /// Its container ended.
    Ended(Ended),
    /// It ended or vanished without a word of its container.
    Lost(Failure),
}

/// What a pod waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: ConditionReason,
    /// The cluster's words.
    pub message: String,
}

/// How the container `task` ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub started_at: Option<Timestamp>,
    pub at: Option<Timestamp>,
    pub outcome: EndedOutcome,
    /// Another container of the pod, a sidecar, runs on.
    pub lingers: bool,
}

/// What a container said of the report of its result.
#[derive(Clone, Debug, PartialEq)]
pub struct SaidReport {
    pub key: String,
    pub digest: String,
    /// The report itself, as `pintail_protocol::encode_report` writes it.
    pub content: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EndedOutcome {
    /// A result is committed, with this report, where the container said so.
    Committed(Option<SaidReport>),
    /// Another attempt's result is committed.
    Superseded,
    /// It failed. With key and digest of a report that says more, where there is one.
    Failed { failure: Failure, report: Option<(String, String)> },
    /// It ended without a word: what is committed decides, else this.
    Unknown(Failure),
}

/// Reads a pod. `store_secret` is the Secret that holds the store's credential.
pub fn pod_facts(pod: &Pod, store_secret: Option<&str>, now: Timestamp) -> PodFacts {
    let status = pod.status.as_ref();
    let container = status
        .and_then(|status| status.container_statuses.as_ref())
        .and_then(|statuses| statuses.iter().find(|status| status.name == CONTAINER));
    let state = container.and_then(|container| container.state.as_ref());
    if let Some(ContainerState { terminated: Some(_), .. }) = state {
        return PodFacts::Ended(ended(pod, container));
    }
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if matches!(phase, "Failed" | "Succeeded") {
        return PodFacts::Lost(lost(pod));
    }
    if let Some(Time(deleted_at)) = &pod.metadata.deletion_timestamp
        && now.duration_since(*deleted_at).as_secs() > LOST_AFTER_S
    {
        let message = "the pod was deleted and its node does not say that it has ended; the node may be lost";
        return PodFacts::Lost(infrastructure("NodeLost", message));
    }
    if let Some(ContainerState { running: Some(running), .. }) = state {
        let since = running.started_at.as_ref().map_or(now, |Time(at)| *at);
        return PodFacts::Running { since };
    }
    PodFacts::Waiting(waiting(pod, container, store_secret, now))
}

/// Whether the runner ended because another process holds a lock.
pub fn has_found_a_lock(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let terminated = statuses.iter().find(|status| status.name == CONTAINER).and_then(|status| status.state.as_ref());
    let terminated = terminated.and_then(|state| state.terminated.as_ref());
    terminated.is_some_and(|terminated| terminated.exit_code == ExitCode::Busy as i32)
}

/// Since when the pod has a node.
pub fn scheduled_at(pod: &Pod) -> Option<Timestamp> {
    let scheduled = condition(pod, "PodScheduled").filter(|condition| condition.status == "True")?;
    scheduled.last_transition_time.as_ref().map(|Time(at)| *at)
}

fn ended(pod: &Pod, container: Option<&ContainerStatus>) -> Ended {
    let terminated = container.and_then(|container| container.state.as_ref()?.terminated.as_ref());
    let time = |time: Option<&Time>| time.map(|Time(at)| *at);
    let outcome = terminated.map_or_else(
        || EndedOutcome::Unknown(lost(pod)),
        |terminated| {
            let said: Option<TerminationMessage> =
                terminated.message.as_deref().and_then(|text| serde_json::from_str(text).ok());
            ended_outcome(pod, terminated.exit_code, terminated.reason.as_deref().unwrap_or_default(), said)
        },
    );
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let runs = |status: &&ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    Ended {
        started_at: terminated.and_then(|terminated| time(terminated.started_at.as_ref())),
        at: terminated.and_then(|terminated| time(terminated.finished_at.as_ref())),
        outcome,
        lingers: statuses.iter().any(|status| runs(&status)),
    }
}

fn ended_outcome(pod: &Pod, code: i32, reason: &str, said: Option<TerminationMessage>) -> EndedOutcome {
    let report = said.as_ref().and_then(|said| said.report.clone().zip(said.digest.clone()));
    if code == ExitCode::Committed as i32 {
        let content = said.and_then(|said| said.content);
        return EndedOutcome::Committed(report.map(|(key, digest)| SaidReport { key, digest, content }));
    }
    if code == ExitCode::Superseded as i32 {
        return EndedOutcome::Superseded;
    }
    if let Some(failure) = said.and_then(|said| said.failure) {
        // Told to stop, the runner does not know why; the cluster may.
        let known = pod_failure(pod).filter(|_| failure.class == FailureClass::Interrupted);
        return known.map_or(EndedOutcome::Failed { failure, report }, EndedOutcome::Unknown);
    }
    if reason == "OOMKilled" {
        let message = "the attempt used more memory than its limit: raise `resources.memory`, or let the task do less";
        return EndedOutcome::Unknown(failure(FailureClass::Transient, "OutOfMemory", message));
    }
    if matches!(reason, "StartError" | "ContainerCannotRun") {
        return EndedOutcome::Unknown(infrastructure("StartFailed", "the container could not be started"));
    }
    match pod_failure(pod) {
        Some(failure) => EndedOutcome::Unknown(failure),
        None => {
            let message =
                format!("the runner ended with exit code {code} and without a word before it committed a result");
            EndedOutcome::Unknown(infrastructure("Lost", message))
        }
    }
}

fn lost(pod: &Pod) -> Failure {
    pod_failure(pod).unwrap_or_else(|| infrastructure("Lost", "the pod ended without a word of its container"))
}

/// What the cluster says of a pod that it ended.
fn pod_failure(pod: &Pod) -> Option<Failure> {
    let status = pod.status.as_ref()?;
    let reason = status.reason.as_deref().unwrap_or_default();
    let message = status.message.as_deref().unwrap_or_default();
    match reason {
        // The task filled its own disk; nodes that run out of theirs say so differently.
        "Evicted" if message.contains("exceeds the") || message.contains("exceeded its local") => {
            let text =
                format!("the attempt used more disk than its limit ({message}): raise `resources.ephemeralStorage`");
            return Some(failure(FailureClass::Transient, "DiskFull", text));
        }
        "Evicted" => return Some(infrastructure("Evicted", format!("the node evicted the pod: {message}"))),
        "DeadlineExceeded" => {
            let text = "the pod was ended at its deadline";
            return Some(failure(FailureClass::Interrupted, "Interrupted", text));
        }
        "NodeLost" | "NodeShutdown" | "Terminated" | "Shutdown" => {
            return Some(infrastructure("NodeLost", format!("the node went away: {message}")));
        }
        _ => {}
    }
    if let Some(disruption) = condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True") {
        let cause = disruption.reason.as_deref().unwrap_or_default();
        let reason = if cause == "PreemptionByScheduler" { "Preempted" } else { "Evicted" };
        let text = disruption.message.as_deref().unwrap_or_default();
        return Some(infrastructure(reason, format!("the cluster took the pod away ({cause}): {text}")));
    }
    if reason.is_empty() {
        return None;
    }
    // Refused by the node: OutOfcpu, UnexpectedAdmissionError, NodeAffinity, ….
    Some(infrastructure("NodeRefused", format!("the node did not run the pod ({reason}): {message}")))
}

pub fn waiting(
    pod: &Pod,
    container: Option<&ContainerStatus>,
    store_secret: Option<&str>,
    now: Timestamp,
) -> Option<Waiting> {
    let state = container.and_then(|container| container.state.as_ref()?.waiting.as_ref());
    if let Some(state) = state {
        let message = state.message.clone().unwrap_or_default();
        let names = |what: &str, name: &str| message.contains(&format!("{what} \"{name}\""));
        let reason = match state.reason.as_deref().unwrap_or_default() {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable" => ConditionReason::ImagePullFailed,
            "CreateContainerConfigError" if store_secret.is_some_and(|secret| names("secret", secret)) => {
                ConditionReason::StoreCredentialMissing
            }
            "CreateContainerConfigError" => ConditionReason::SecretMissing,
            // Mostly a volume that cannot be mounted, of which only events of the pod tell.
            _ if scheduled_at(pod).is_some_and(|at| later(at, WAIT_AT_MOST) <= now) => ConditionReason::VolumeMissing,
            _ => return None,
        };
        let pod_reason = state.reason.as_deref().unwrap_or_default();
        let message = if message.is_empty() { pod_reason.to_owned() } else { message };
        return Some(Waiting { reason, message });
    }
    let scheduled = condition(pod, "PodScheduled").filter(|condition| condition.status == "False")?;
    let message = scheduled.message.clone().unwrap_or_default();
    let reason = if message.to_lowercase().contains("persistentvolumeclaim") {
        ConditionReason::VolumeMissing
    } else {
        ConditionReason::Unschedulable
    };
    Some(Waiting { reason, message })
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub fn infrastructure(reason: &str, message: impl Into<String>) -> Failure {
    failure(FailureClass::Infrastructure, reason, message)
}

pub fn failure(class: FailureClass, reason: &str, message: impl Into<String>) -> Failure {
    Failure { class, reason: reason.to_owned(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-11-20T12:00:00Z";

    fn facts(status: Value) -> PodFacts {
        let metadata = json!({ "name": "p", "creationTimestamp": "2026-11-20T11:59:00Z" });
        of(metadata, status)
    }

    fn of(metadata: Value, status: Value) -> PodFacts {
        let pod: Pod = serde_json::from_value(json!({ "metadata": metadata, "status": status })).expect("a pod");
        pod_facts(&pod, Some("pintail-store"), NOW.parse().expect("a time"))
    }

    fn terminated(code: i32, reason: &str, message: Value) -> Value {
        json!({ "name": CONTAINER, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "terminated": { "exitCode": code, "reason": reason, "message": message,
                                           "startedAt": "2026-11-20T11:59:10Z", "finishedAt": "2026-11-20T11:59:20Z" } } })
    }

    fn waits(reason: &str, message: &str) -> Value {
        json!({ "name": CONTAINER, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": reason, "message": message } } })
    }

    /// One word for how the pod stands: the class and reason of a failure, the reason of waiting, or what else it is.
    fn word(facts: &PodFacts) -> String {
        let words = |failure: &Failure| format!("{:?} {}", failure.class, failure.reason);
        match facts {
            PodFacts::Waiting(None) => "waits".to_owned(),
            PodFacts::Waiting(Some(waiting)) => format!("waits: {}", waiting.reason),
            PodFacts::Running { .. } => "runs".to_owned(),
            PodFacts::Lost(failure) => format!("lost: {}", words(failure)),
            PodFacts::Ended(ended) => match &ended.outcome {
                EndedOutcome::Committed(report) => format!("committed, report named: {}", report.is_some()),
                EndedOutcome::Superseded => "superseded".to_owned(),
                EndedOutcome::Failed { failure, report } => {
                    format!("failed: {}, report named: {}", words(failure), report.is_some())
                }
                EndedOutcome::Unknown(failure) => format!("unknown: {}", words(failure)),
            },
        }
    }

    fn said(class: &str) -> Value {
        let message = json!({ "format": 1, "failure": { "class": class, "reason": "BinderError", "message": "m" },
                              "report": "k", "digest": "blake3:00" });
        json!(message.to_string())
    }

    #[test]
    fn the_end_of_the_container_decides() {
        let done = json!({ "format": 1, "failure": null, "report": "k", "digest": "blake3:00" }).to_string();
        for (code, reason, message, expected) in [
            (0, "Completed", json!(done), "committed, report named: true"),
            (0, "Completed", Value::Null, "committed, report named: false"),
            (3, "Error", Value::Null, "superseded"),
            (4, "Error", said("Permanent"), "failed: Permanent BinderError, report named: true"),
            (5, "Error", said("Transient"), "failed: Transient BinderError, report named: true"),
            (4, "Error", json!("cut off {"), "unknown: Infrastructure Lost"),
            (137, "OOMKilled", Value::Null, "unknown: Transient OutOfMemory"),
            (137, "Error", Value::Null, "unknown: Infrastructure Lost"),
            (128, "StartError", Value::Null, "unknown: Infrastructure StartFailed"),
        ] {
            let status = json!({ "phase": if code == 0 { "Succeeded" } else { "Failed" },
                                 "containerStatuses": [terminated(code, reason, message)] });
            assert_eq!(word(&facts(status)), expected, "{code} {reason}");
        }
    }

    #[test]
    fn what_the_cluster_did_to_a_pod_is_told_from_what_the_task_did() {
        let disk = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Gi\". ";
        for (status, expected) in [
            (json!({ "phase": "Failed", "reason": "Evicted", "message": disk }), "lost: Transient DiskFull"),
            (
                json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." }),
                "lost: Infrastructure Evicted",
            ),
            (json!({ "phase": "Failed", "reason": "DeadlineExceeded" }), "lost: Interrupted Interrupted"),
            (json!({ "phase": "Failed", "reason": "NodeShutdown" }), "lost: Infrastructure NodeLost"),
            (json!({ "phase": "Failed", "reason": "OutOfcpu", "message": "m" }), "lost: Infrastructure NodeRefused"),
            (json!({ "phase": "Failed" }), "lost: Infrastructure Lost"),
            (disrupted("PreemptionByScheduler", Value::Null), "lost: Infrastructure Preempted"),
            (disrupted("EvictionByEvictionAPI", Value::Null), "lost: Infrastructure Evicted"),
            (
                disrupted("DeletionByTaintManager", json!([terminated(143, "Error", Value::Null)])),
                "unknown: Infrastructure Evicted",
            ),
        ] {
            assert_eq!(word(&facts(status.clone())), expected, "{status}");
        }
    }

    #[test]
    fn the_cluster_knows_better_than_the_runner_why_it_was_told_to_stop() {
        let told = json!([terminated(130, "Error", said("Interrupted"))]);
        let evicted = |message: &str| json!({ "phase": "Failed", "reason": "Evicted", "message": message, "containerStatuses": told });
        for (status, expected) in [
            (
                evicted("Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Gi\". "),
                "unknown: Transient DiskFull",
            ),
            (disrupted("PreemptionByScheduler", told.clone()), "unknown: Infrastructure Preempted"),
            (
                json!({ "phase": "Failed", "containerStatuses": told }),
                "failed: Interrupted BinderError, report named: true",
            ),
            (
                disrupted("EvictionByEvictionAPI", json!([terminated(4, "Error", said("Permanent"))])),
                "failed: Permanent BinderError, report named: true",
            ),
        ] {
            assert_eq!(word(&facts(status.clone())), expected, "{status}");
        }
    }

    fn disrupted(reason: &str, statuses: Value) -> Value {
        let condition = json!({ "type": "DisruptionTarget", "status": "True", "reason": reason, "message": "m" });
        json!({ "phase": "Failed", "conditions": [condition], "containerStatuses": statuses })
    }

    #[test]
    fn what_a_pod_waits_for_has_a_reason() {
        let unscheduled = |message: &str| {
            let condition =
                json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message });
            json!({ "phase": "Pending", "conditions": [condition] })
        };
        let pending =
            |reason: &str, message: &str| json!({ "phase": "Pending", "containerStatuses": [waits(reason, message)] });
        for (status, expected) in [
            (json!({ "phase": "Pending" }), "waits"),
            (pending("ContainerCreating", ""), "waits"),
            (pending("ErrImagePull", "not found"), "waits: ImagePullFailed"),
            (
                pending("CreateContainerConfigError", "secret \"pintail-store\" not found"),
                "waits: StoreCredentialMissing",
            ),
            (pending("CreateContainerConfigError", "secret \"mail\" not found"), "waits: SecretMissing"),
            (
                pending("CreateContainerConfigError", "couldn't find key token in Secret data/mail"),
                "waits: SecretMissing",
            ),
            (unscheduled("0/1 nodes are available: 1 Insufficient cpu."), "waits: Unschedulable"),
            (unscheduled("persistentvolumeclaim \"lake\" not found"), "waits: VolumeMissing"),
        ] {
            assert_eq!(word(&facts(status.clone())), expected, "{status}");
        }
    }

    #[test]
    fn a_container_that_is_not_made_for_ten_minutes_waits_for_a_volume() {
        let creating = |scheduled_at: &str| {
            let condition = json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled_at });
            json!({ "phase": "Pending", "conditions": [condition], "containerStatuses": [waits("ContainerCreating", "")] })
        };
        assert_eq!(word(&facts(creating("2026-11-20T11:50:01Z"))), "waits");
        assert_eq!(word(&facts(creating("2026-11-20T11:50:00Z"))), "waits: VolumeMissing");
    }

    #[test]
    fn ten_minutes_count_from_when_a_pod_has_a_node() {
        let pod = |status: &str| -> Pod {
            let at = "2026-11-20T11:50:00Z";
            let condition = json!({ "type": "PodScheduled", "status": status, "lastTransitionTime": at });
            serde_json::from_value(json!({ "metadata": {}, "status": { "conditions": [condition] } })).expect("a pod")
        };
        assert_eq!(scheduled_at(&pod("True")).map(|at| at.to_string()).as_deref(), Some("2026-11-20T11:50:00Z"));
        assert_eq!(scheduled_at(&pod("False")), None);
    }

    #[test]
    fn a_pod_that_found_a_lock_is_known_by_its_exit_code() {
        let ended = |code| -> Pod {
            let status = json!({ "phase": "Failed", "containerStatuses": [terminated(code, "Error", Value::Null)] });
            serde_json::from_value(json!({ "metadata": {}, "status": status })).expect("a pod")
        };
        assert!(has_found_a_lock(&ended(7)) && !has_found_a_lock(&ended(5)));
    }

    #[test]
    fn a_pod_that_should_be_gone_is_lost_with_its_node() {
        let running = json!({ "name": CONTAINER, "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                              "state": { "running": { "startedAt": "2026-11-20T11:00:00Z" } } });
        let status = json!({ "phase": "Running", "containerStatuses": [running] });
        let deleted = |at: &str| json!({ "name": "p", "deletionTimestamp": at });
        assert_eq!(word(&of(deleted("2026-11-20T11:59:30Z"), status.clone())), "runs");
        assert_eq!(word(&of(deleted("2026-11-20T11:58:30Z"), status)), "lost: Infrastructure NodeLost");
    }

    #[test]
    fn a_sidecar_that_runs_on_is_noticed() {
        let mesh = json!({ "name": "mesh", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                           "state": { "running": { "startedAt": "2026-11-20T11:00:00Z" } } });
        let lingers = |statuses: Value| match facts(json!({ "phase": "Running", "containerStatuses": statuses })) {
            PodFacts::Ended(ended) => ended.lingers,
            other => panic!("{other:?}"),
        };
        let task = terminated(0, "Completed", Value::Null);
        assert!(lingers(json!([mesh, task])) && !lingers(json!([task])));
    }
}
