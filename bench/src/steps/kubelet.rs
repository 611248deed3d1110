//! The stub kubelet: whatever pod appears has done its work at once. It also notes when it saw and ended each.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use pintail_protocol::{
    FORMAT, ORDER_VARIABLE, OutputKind, ReportOutcome, ResultColumn, Results, StoreLocation, StoredFile, TableResult,
    TaskReport, TerminationMessage, WorkOrder, decode_order, encode_report,
};
use pintail_storage::{CommitOutcome, RunTask, Store};
use serde_json::json;
use tokio::sync::Notify;

use crate::measure::Failure;

use super::{DEADLINE, RIVALS, STEPS};

/// Tells the pods of the null controllers.
pub const RIVAL_LABEL: &str = "bench.pintail.dev/rival";
pub const CHAIN_LABEL: &str = "bench.pintail.dev/chain";
pub const STEP_LABEL: &str = "bench.pintail.dev/step";
/// Stands for the operator where rivals are named.
pub const OPERATOR: &str = "pintail";
/// Its pods.
const OPERATOR_LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "pintail");

/// Rival, chain and step.
type Step = (&'static str, String, usize);

#[derive(Default)]
struct Notes {
    handled: HashSet<String>,
    seen: HashMap<Step, Instant>,
    ended: HashMap<Step, Instant>,
    finished: HashMap<&'static str, usize>,
    operator_pod: Option<Pod>,
}

#[derive(Clone)]
pub struct Kubelet {
    client: Client,
    store: Store,
    notes: Arc<Mutex<Notes>>,
    changed: Arc<Notify>,
}

impl Kubelet {
    /// Results are committed to the store below `folder`, which the operator shares.
    pub async fn start(client: Client, folder: &Path) -> Result<Self, Failure> {
        let location = StoreLocation::Folder { path: folder.join("store").display().to_string() };
        let store = Store::open(&location).await.map_err(|error| error.to_string())?;
        let kubelet = Self { client, store, notes: Arc::default(), changed: Arc::default() };
        tokio::spawn(kubelet.clone().watch());
        Ok(kubelet)
    }

    async fn watch(self) {
        let pods = Api::<Pod>::all(self.client.clone());
        // The watcher lists anew where the server cuts it; what was handled before is known by its uid.
        let mut seen = watcher(pods, watcher::Config::default()).default_backoff().applied_objects().boxed();
        while let Some(pod) = seen.next().await {
            let at = Instant::now();
            let Ok(pod) = pod else { continue };
            let (Some(step), Some(uid)) = (step_of(&pod), pod.uid()) else { continue };
            {
                let mut notes = self.notes();
                if !notes.handled.insert(uid) {
                    continue;
                }
                notes.seen.insert(step.clone(), at);
                // One that reads the result of another, as most do.
                if step.0 == OPERATOR && step.2 == STEPS / 2 {
                    notes.operator_pod.get_or_insert_with(|| pod.clone());
                }
            }
            let kubelet = self.clone();
            tokio::spawn(async move {
                if let Err(failure) = kubelet.finish(&pod, &step).await {
                    eprintln!("stub kubelet: {}: {failure}", pod.name_any());
                }
            });
        }
    }

    async fn finish(&self, pod: &Pod, step: &Step) -> Result<(), Failure> {
        let message = match order_of(pod) {
            Some(order) => self.commit(&order?, &pod.uid().unwrap_or_default()).await?,
            None => String::new(),
        };
        let now = jiff::Timestamp::now().to_string();
        let terminated =
            json!({ "exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now, "message": message });
        let status = json!({ "status": { "phase": "Succeeded", "containerStatuses": [{
            "name": "task", "image": "none", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": terminated },
        }] } });
        let pods = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let patch = Patch::Merge(&status);
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await.map_err(|error| error.to_string())?;
        let mut notes = self.notes();
        notes.ended.insert(step.clone(), Instant::now());
        *notes.finished.entry(step.0).or_default() += 1;
        drop(notes);
        self.changed.notify_waiters();
        Ok(())
    }

    /// What a runner does of an order, without the work. Gives the termination message.
    async fn commit(&self, order: &WorkOrder, pod_uid: &str) -> Result<String, Failure> {
        let report = report(order, pod_uid)?;
        let outcome = self.store.commit(&report).await.map_err(|error| error.to_string())?;
        let (CommitOutcome::Committed(record) | CommitOutcome::AlreadyOurs(record)) = outcome else {
            return Err("another attempt's result is committed".to_owned());
        };
        let message = TerminationMessage {
            format: FORMAT,
            failure: None,
            report: Some(record.report),
            digest: Some(record.digest),
            content: encode_report(&report),
        };
        serde_json::to_string(&message).map_err(|error| error.to_string())
    }

    /// A pod of the operator's as it created it, once there is one.
    pub fn operator_pod(&self) -> Option<Pod> {
        self.notes().operator_pod.clone()
    }

    /// How many steps of a rival have ended.
    pub fn finished(&self, rival: &'static str) -> usize {
        self.notes().finished.get(rival).copied().unwrap_or_default()
    }

    /// Waits until so many steps have ended since the last [`Kubelet::take_gaps`] or call of this.
    pub async fn wait_for_steps(&self, rival: &'static str, count: usize) -> Result<(), Failure> {
        let ended = async {
            loop {
                let changed = self.changed.notified();
                if self.finished(rival) >= count {
                    break;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, ended).await;
        self.notes().finished.insert(rival, 0);
        waited.map_err(|_| format!("{rival}: not all of {count} steps ended within {} s", DEADLINE.as_secs()))
    }

    /// The times between the end of a step and the sight of the next one's pod, of a rival's chains since the last call.
    pub fn take_gaps(&self, rival: &'static str) -> Vec<Duration> {
        let mut notes = self.notes();
        let ended: HashMap<Step, Instant> = notes.ended.extract_if(|step, _| step.0 == rival).collect();
        let seen: HashMap<Step, Instant> = notes.seen.extract_if(|step, _| step.0 == rival).collect();
        let gap = |((rival, chain, step), ended): (&Step, &Instant)| {
            let next = seen.get(&(*rival, chain.clone(), step + 1))?;
            Some(next.saturating_duration_since(*ended))
        };
        ended.iter().filter_map(gap).collect()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which step a pod is of; none where it is no concern of the benchmark.
fn step_of(pod: &Pod) -> Option<Step> {
    let labels = pod.labels();
    if let Some(name) = labels.get(RIVAL_LABEL) {
        let rival = RIVALS.into_iter().find(|rival| rival == name)?;
        return Some((rival, labels.get(CHAIN_LABEL)?.clone(), labels.get(STEP_LABEL)?.parse().ok()?));
    }
    if labels.get(OPERATOR_LABEL.0)? != OPERATOR_LABEL.1 {
        return None;
    }
    let annotations = pod.annotations();
    let task = annotations.get("pintail.dev/task")?.strip_prefix("t")?.parse().ok()?;
    Some((OPERATOR, annotations.get("pintail.dev/execution")?.clone(), task))
}

fn order_of(pod: &Pod) -> Option<Result<WorkOrder, Failure>> {
    let container = pod.spec.as_ref()?.containers.first()?;
    let variable = container.env.as_ref()?.iter().find(|variable| variable.name == ORDER_VARIABLE)?;
    Some(decode_order(variable.value.as_deref()?).map_err(|error| error.to_string()))
}

/// A report of one row a table, in a file that nobody opens.
fn report(order: &WorkOrder, pod_uid: &str) -> Result<TaskReport, Failure> {
    let run = RunTask::of(&order.identity).map_err(|error| error.to_string())?;
    let folder = run.attempt_folder(order.identity.attempt, pod_uid).map_err(|error| error.to_string())?;
    let tables = order.outputs.iter().filter(|output| output.kind == OutputKind::Table);
    let table = |name: &str| TableResult {
        name: name.to_owned(),
        files: vec![StoredFile {
            key: format!("{folder}/{name}.parquet"),
            bytes: 300,
            digest: pintail_storage::digest(name.as_bytes()),
        }],
        rows: 1,
        bytes: 300,
        columns: vec![ResultColumn { name: "a".to_owned(), data_type: "INTEGER".to_owned() }],
    };
    let now = jiff::Timestamp::now();
    Ok(TaskReport {
        format: FORMAT,
        identity: order.identity.clone(),
        pod_uid: pod_uid.to_owned(),
        reuse_key: order.reuse_key.clone(),
        started_at: now,
        ended_at: now,
        engine: "none".to_owned(),
        inputs: Vec::new(),
        reused_from: None,
        outcome: ReportOutcome::Succeeded(Results {
            tables: tables.map(|output| table(&output.name)).collect(),
            ..Results::default()
        }),
    })
}
