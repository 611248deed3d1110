//! What becomes of the agents of a namespace: its pods in, what is to be done out. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::pod::CONTAINER;
use crate::controllers::execution::facts::waiting;

/// A pod that ended by itself is not made again sooner after it was made: what ends it may end the next one.
const MADE_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(30);
/// A pod may take this long to start before that is told of.
const STARTS_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// A pod that should be gone for so long is on a node that is lost: two agents do no harm.
const GONE_WITHIN: SignedDuration = SignedDuration::from_secs(30);

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    pub create: bool,
    /// Pods to delete: name and uid.
    pub delete: Vec<(String, String)>,
    /// Those of them whose node does not answer.
    pub by_force: Vec<(String, String)>,
    /// Why no agent with the newest order runs, once that is worth telling.
    pub trouble: Option<String>,
    /// When to look again, if nothing happens before.
    pub look_again: Option<Duration>,
}

/// `wanted` is the name of the pod that there should be. The others go once it is ready: until then they do their work.
pub fn steps(pods: &[Arc<Pod>], wanted: Option<&str>, store_secret: Option<&str>, now: Timestamp) -> Steps {
    let mut steps = Steps::default();
    for pod in pods.iter().filter(|pod| is_overdue(pod, now)) {
        steps.by_force.push(reference(pod));
    }
    let leaving = pods.iter().filter_map(|pod| pod.metadata.deletion_timestamp.as_ref()).map(|Time(at)| *at);
    look_at(&mut steps, leaving.filter_map(|at| at.checked_add(GONE_WITHIN).ok()).min(), now);
    let present = || pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let current = pods.iter().find(|pod| Some(pod.name_any().as_str()) == wanted);
    let others = || present().filter(|pod| Some(pod.name_any().as_str()) != wanted);
    let Some(current) = current else {
        let go = others().filter(|pod| wanted.is_none() || !is_ready(pod));
        steps.delete.extend(go.map(|pod| reference(pod)));
        steps.create = wanted.is_some();
        return steps;
    };
    // Of those before, only one that works is of use.
    let is_ready_now = is_ready(current);
    steps.delete.extend(others().filter(|pod| is_ready_now || !is_ready(pod)).map(|pod| reference(pod)));
    if current.metadata.deletion_timestamp.is_some() || is_ready_now {
        return steps;
    }
    let made_at = current.metadata.creation_timestamp.as_ref().map_or(now, |Time(at)| *at);
    if has_ended(current) {
        let at = made_at.saturating_add(MADE_AGAIN_AFTER).unwrap_or(now);
        if at <= now {
            steps.delete.push(reference(current))
        } else {
            look_at(&mut steps, Some(at), now)
        }
        return steps;
    }
    let late = made_at.saturating_add(STARTS_WITHIN).unwrap_or(now);
    if late > now {
        look_at(&mut steps, Some(late), now);
    } else {
        steps.trouble = Some(format!("the pod {} {}", current.name_any(), what_it_lacks(current, store_secret, now)));
    }
    steps
}

fn look_at(steps: &mut Steps, at: Option<Timestamp>, now: Timestamp) {
    let Some(at) = at else { return };
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(100));
    steps.look_again = Some(steps.look_again.map_or(wait, |other| other.min(wait)));
}

fn reference(pod: &Pod) -> (String, String) {
    (pod.name_any(), pod.uid().unwrap_or_default())
}

fn is_overdue(pod: &Pod, now: Timestamp) -> bool {
    let deleted_at = pod.metadata.deletion_timestamp.as_ref().map(|Time(at)| *at);
    deleted_at.and_then(|at| at.checked_add(GONE_WITHIN).ok()).is_some_and(|at| at <= now)
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn what_it_lacks(pod: &Pod, store_secret: Option<&str>, now: Timestamp) -> String {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let container = statuses.iter().find(|status| status.name == CONTAINER);
    if let Some(said) = container.and_then(last_words) {
        return format!("ends again and again: {said}");
    }
    match waiting(pod, container, store_secret, now) {
        Some(waiting) => format!("waits ({}): {}", waiting.reason, waiting.message),
        None => "is not ready yet".to_owned(),
    }
}

/// What a container said that ended and was started again.
fn last_words(container: &ContainerStatus) -> Option<String> {
    let ended = container.last_state.as_ref()?.terminated.as_ref()?;
    let said = ended.message.as_deref().unwrap_or_default().trim();
    let line = said.lines().last().unwrap_or_default();
    Some(if line.is_empty() { format!("exit code {}", ended.exit_code) } else { line.to_owned() })
}
