//! Logs of a run's tasks: of pods that are there by the API, of pods that are gone from the store.

use std::collections::{BTreeMap, BTreeSet};

use futures::{AsyncBufReadExt, StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};
use kube::runtime::{WatchStreamExt, watcher};
use pintail_api as api;
use pintail_protocol::Read;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::cluster::failure::Asked;
use crate::cluster::follow::states;
use crate::cluster::reader::Reader;
use crate::failure::{Code, CommandFailure};
use crate::interrupt::interrupts;
use crate::output::print_text;
use crate::render::ending;

/// What the operator writes on the pods of attempts.
const EXECUTION_UID_LABEL: &str = "pintail.dev/execution-uid";
const TASK_ANNOTATION: &str = "pintail.dev/task";
const ATTEMPT_ANNOTATION: &str = "pintail.dev/attempt";
const CONTAINER: &str = "task";

/// The pod of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct AttemptPod {
    task: String,
    attempt: i32,
    name: String,
    /// Whether its container has begun, and has a log.
    begun: bool,
}

/// Prints what there is, task by task.
pub async fn print(
    cluster: &Cluster,
    execution: &api::Execution,
    tasks: &[api::TaskStatus],
) -> Result<(), CommandFailure> {
    let pods = pods_of(cluster, execution).await?;
    let gone: Vec<String> = tasks.iter().filter(|task| is_gone(task, &pods)).map(|task| task.name.clone()).collect();
    let stored = if gone.is_empty() { BTreeMap::new() } else { from_store(cluster, execution, gone).await? };
    for task in tasks {
        match stored.get(&task.name) {
            Some(text) => print_text(text),
            None => {
                for pod in pods.iter().filter(|pod| pod.task == task.name && pod.begun) {
                    print_text(&of_pod(cluster, pod).await?);
                }
            }
        }
    }
    Ok(())
}

/// Prints what tasks write, as they write it, until the run has ended.
pub async fn follow(cluster: &Cluster, execution: &api::Execution, task: Option<&str>) -> Result<(), CommandFailure> {
    let mut interrupts = interrupts()?;
    let listed = execution.status.as_ref().map(|status| status.task_list.clone()).unwrap_or_default();
    let wanted = |name: &str| task.is_none_or(|task| task == name);
    let pods = pods_of(cluster, execution).await?;
    let over: Vec<_> = listed
        .into_iter()
        .filter(|task| wanted(&task.name) && task.state != "Running" && is_gone(task, &pods))
        .collect();
    print(cluster, execution, &over).await?;
    let selector = format!("{EXECUTION_UID_LABEL}={}", execution.uid().unwrap_or_default());
    let events = watcher::watcher(cluster.api::<Pod>(), watcher::Config::default().labels(&selector));
    let pods = events.default_backoff().applied_objects();
    let states = states(cluster, execution);
    pin_mut!(pods, states);
    let mut seen = BTreeSet::new();
    let mut streams = JoinSet::new();
    let mut has_ended = false;
    while !has_ended || !streams.is_empty() {
        tokio::select! {
            Some(Ok(pod)) = pods.next() => {
                if let Some(pod) = attempt_pod(&pod).filter(|pod| pod.begun && wanted(&pod.task))
                    && seen.insert(pod.name.clone())
                {
                    streams.spawn(stream(cluster.clone(), pod));
                }
            }
            Some(state) = states.next() => has_ended |= ending(&state?).is_some(),
            Some(_) = streams.join_next() => {}
            Some(()) = interrupts.recv() => return Err(CommandFailure::shown(Code::Interrupted)),
        }
    }
    // The end of the run may be known before the last pod is.
    for pod in pods_of(cluster, execution).await?.iter().filter(|pod| pod.begun && wanted(&pod.task)) {
        if !seen.contains(&pod.name) {
            print_text(&of_pod(cluster, pod).await?);
        }
    }
    Ok(())
}

/// Whether an attempt of the task has no pod any more.
fn is_gone(task: &api::TaskStatus, pods: &[AttemptPod]) -> bool {
    let there: BTreeSet<i32> = pods.iter().filter(|pod| pod.task == task.name).map(|pod| pod.attempt).collect();
    (1..=task.attempt.unwrap_or(0)).any(|attempt| !there.contains(&attempt))
}

/// The pods of a run's attempts, by task and attempt.
async fn pods_of(cluster: &Cluster, execution: &api::Execution) -> Result<Vec<AttemptPod>, CommandFailure> {
    let selector = format!("{EXECUTION_UID_LABEL}={}", execution.uid().unwrap_or_default());
    let parameters = ListParams::default().labels(&selector);
    let api = cluster.api::<Pod>();
    let pods = cluster.ask(Asked::of::<Pod>("list", None), api.list(&parameters)).await?;
    let mut pods: Vec<AttemptPod> = pods.items.iter().filter_map(attempt_pod).collect();
    pods.sort();
    Ok(pods)
}

fn attempt_pod(pod: &Pod) -> Option<AttemptPod> {
    let annotations = pod.annotations();
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let state = containers.iter().find(|container| container.name == CONTAINER).and_then(|found| found.state.as_ref());
    Some(AttemptPod {
        task: annotations.get(TASK_ANNOTATION)?.clone(),
        attempt: annotations.get(ATTEMPT_ANNOTATION)?.parse().ok()?,
        name: pod.name_any(),
        begun: state.is_some_and(|state| state.running.is_some() || state.terminated.is_some()),
    })
}

fn parameters(follow: bool) -> LogParams {
    LogParams { container: Some(CONTAINER.to_owned()), follow, ..LogParams::default() }
}

async fn of_pod(cluster: &Cluster, pod: &AttemptPod) -> Result<String, CommandFailure> {
    let api = cluster.api::<Pod>();
    let text = cluster.ask(Asked::log(&pod.name), api.logs(&pod.name, &parameters(false))).await?;
    Ok(text.lines().map(|line| format!("{}  {line}\n", pod.task)).collect())
}

/// Prints the log of one pod to its end. A log that breaks off is told, and the others go on.
async fn stream(cluster: Cluster, pod: AttemptPod) {
    let lines = match cluster.api::<Pod>().log_stream(&pod.name, &parameters(true)).await {
        Ok(lines) => lines,
        Err(error) => {
            eprintln!("warning: {}", cluster.location().explain(&Asked::log(&pod.name), &error).message);
            return;
        }
    };
    let mut lines = lines.lines();
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => print_text(&format!("{}  {line}\n", pod.task)),
            Err(error) => {
                eprintln!("warning: the log of pod {} breaks off: {error}", pod.name);
                return;
            }
        }
    }
}

/// The stored logs of tasks, each line with its task's name before it.
async fn from_store(
    cluster: &Cluster,
    execution: &api::Execution,
    tasks: Vec<String>,
) -> Result<BTreeMap<String, String>, CommandFailure> {
    let reader = Reader::find(cluster, Some(execution)).await?;
    let read = Read::Log {
        namespace: cluster.namespace().to_owned(),
        execution_uid: execution.uid().unwrap_or_default(),
        tasks: tasks.clone(),
    };
    let text = reader.ask(read).await?;
    let of = |task: &String| -> String {
        let prefix = format!("{task}  ");
        text.lines().filter(|line| line.starts_with(&prefix)).map(|line| format!("{line}\n")).collect()
    };
    Ok(tasks.iter().map(|task| (task.clone(), of(task))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(task: &str, attempt: i32) -> AttemptPod {
        AttemptPod { task: task.to_owned(), attempt, name: format!("{task}-{attempt}"), begun: true }
    }

    fn task(name: &str, attempt: Option<i32>) -> api::TaskStatus {
        api::TaskStatus { name: name.to_owned(), attempt, ..api::TaskStatus::default() }
    }

    #[test]
    fn a_task_is_read_from_the_store_where_one_of_its_pods_is_gone() {
        let pods = [pod("a", 1), pod("a", 2), pod("b", 2)];
        assert!(!is_gone(&task("a", Some(2)), &pods));
        assert!(is_gone(&task("b", Some(2)), &pods));
        assert!(is_gone(&task("c", Some(1)), &pods));
        assert!(!is_gone(&task("skipped", None), &pods));
    }
}
