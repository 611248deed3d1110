//! A kubelet and a scheduler without a node: pods live as the script has it.

mod agent;
pub mod runner;
pub mod script;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pintail_protocol::{FailureClass, Identity, ORDER_OBJECT_VARIABLE, ORDER_VARIABLE, Work, WorkOrder, decode_order};
use pintail_storage::Store;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::dice::Dice;
use crate::server::Server;
use crate::server::objects::{Deletion, Key};
use runner::{Ending, Runner};
use script::{Fate, Script};

const AUTHOR: &str = "kubelet";

/// A process that ran.
#[derive(Clone, Debug)]
pub struct Process {
    pub identity: Identity,
    pub work: Work,
    pub pod_uid: String,
    pub from: Timestamp,
    pub to: Option<Timestamp>,
    pub fate: Fate,
}

#[derive(Clone)]
pub struct Kubelet {
    server: Server,
    store: Store,
    script: Arc<Script>,
    processes: Arc<Mutex<Vec<Process>>>,
    /// How many pods of a task there were.
    pods: Arc<Mutex<HashMap<(String, String), usize>>>,
}

/// One pod, from its creation to its end.
struct Life {
    kubelet: Kubelet,
    key: Key,
    uid: String,
    order: WorkOrder,
    fate: Fate,
    dice: Dice,
}

/// Why a process is told to stop.
enum Interruption {
    Deadline,
    Deletion,
}

/// How a container came to its end.
enum End {
    Exit(Ending),
    Killed {
        reason: &'static str,
    },
    Evicted,
    /// The node is gone, and nobody can say anything of the pod.
    NodeLost,
}

/// A pod that is no more.
struct Gone;

impl Kubelet {
    pub fn new(server: &Server, store: &Store, script: Script) -> Self {
        Self {
            server: server.clone(),
            store: store.clone(),
            script: Arc::new(script),
            processes: Arc::default(),
            pods: Arc::default(),
        }
    }

    /// What ran so far.
    pub fn processes(&self) -> Vec<Process> {
        self.processes.lock().unwrap().clone()
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut versions = self.server.versions();
        let mut known = BTreeSet::new();
        let mut lives = tokio::task::JoinSet::new();
        loop {
            versions.borrow_and_update();
            let pods: Vec<(Key, Arc<Value>)> = {
                let objects = self.server.objects();
                let pods = objects.all().filter(|(key, _)| key.plural == "pods");
                pods.map(|(key, pod)| (key.clone(), Arc::clone(pod))).collect()
            };
            for (key, pod) in pods {
                let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
                if known.insert(uid.clone()) {
                    let kubelet = self.clone();
                    lives.spawn(async move {
                        match agent::is_agent(&pod) {
                            true => agent::live(kubelet, key, uid).await,
                            false => kubelet.live(key, uid, &pod).await,
                        }
                    });
                }
            }
            tokio::select! {
                changed = versions.changed() => if changed.is_err() { return },
                Some(ended) = lives.join_next() => ended.unwrap(),
            }
        }
    }

    async fn live(self, key: Key, uid: String, pod: &Value) {
        let order = self.order(pod).await;
        let process = {
            let mut pods = self.pods.lock().unwrap();
            let count = pods.entry((order.identity.execution_uid.clone(), order.identity.task.clone())).or_default();
            *count += 1;
            *count - 1
        };
        let fate = self.script.fate(&order.identity, process);
        let dice = Dice::of(self.script.seed, &(&key, process));
        let _ = Life { kubelet: self, key, uid, order, fate, dice }.run().await;
    }

    async fn order(&self, pod: &Value) -> WorkOrder {
        let containers = pod["spec"]["containers"].as_array().unwrap();
        let task = containers.iter().find(|container| container["name"] == "task").expect("a container `task`");
        let variables = task["env"].as_array().unwrap();
        let value = |name: &str| variables.iter().find(|variable| variable["name"] == name)?["value"].as_str();
        let text = match (value(ORDER_VARIABLE), value(ORDER_OBJECT_VARIABLE)) {
            (Some(text), _) => text.to_owned(),
            (None, Some(object)) => self.store.read_order(object).await.expect("the order of the pod is in the store"),
            (None, None) => panic!("a pod without a work order: {pod}"),
        };
        decode_order(&text).unwrap()
    }
}

impl Life {
    async fn run(mut self) -> Result<(), Gone> {
        self.pause(1, 60).await;
        self.schedule().await?;
        self.pause(5, 200).await;
        let now = format!("{:.0}", self.kubelet.server.now());
        self.status(|status| status["startTime"] = json!(now))?;
        if let Fate::ImageMissing(time) = self.fate {
            self.image_missing(time).await?;
        }
        let started_at = self.kubelet.server.now();
        let running = json!({ "running": { "startedAt": format!("{started_at:.0}") } });
        self.status(|status| {
            status["phase"] = json!("Running");
            status["containerStatuses"] = containers(&running, true);
        })?;
        let index = self.begin(started_at);
        let end = self.work(started_at).await;
        self.kubelet.processes.lock().unwrap()[index].to = Some(self.kubelet.server.now());
        self.end(end, started_at).await
    }

    fn begin(&self, from: Timestamp) -> usize {
        let mut processes = self.kubelet.processes.lock().unwrap();
        let identity = self.order.identity.clone();
        let work = self.order.work.clone();
        processes.push(Process { identity, work, pod_uid: self.uid.clone(), from, to: None, fate: self.fate });
        processes.len() - 1
    }

    async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        sleep(self.dice.between(Duration::from_millis(from_ms), Duration::from_millis(to_ms))).await;
    }

    fn pod(&self) -> Option<Arc<Value>> {
        let pod = self.kubelet.server.objects().get(&self.key).ok()?;
        (pod["metadata"]["uid"] == self.uid.as_str()).then_some(pod)
    }

    fn modify(&self, change: impl FnOnce(&mut Value)) -> Result<(), Gone> {
        self.pod().ok_or(Gone)?;
        self.kubelet.server.apply(AUTHOR, |objects| objects.modify(&self.key, change)).map_err(|_| Gone)?;
        Ok(())
    }

    fn status(&self, change: impl FnOnce(&mut Value)) -> Result<(), Gone> {
        self.modify(|pod| change(&mut pod["status"]))
    }

    async fn schedule(&mut self) -> Result<(), Gone> {
        if let Fate::Unschedulable(time) = self.fate {
            self.status(|status| {
                status["conditions"] = json!([{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/1 nodes are available: 1 Insufficient memory.",
                }]);
            })?;
            sleep(time).await;
        }
        self.modify(|pod| {
            pod["spec"]["nodeName"] = json!("node");
            pod["status"]["conditions"] = json!([{ "type": "PodScheduled", "status": "True" }]);
        })
    }

    async fn image_missing(&mut self, time: Duration) -> Result<(), Gone> {
        for reason in ["ErrImagePull", "ImagePullBackOff"] {
            let message = "Back-off pulling image \"runner\": not found";
            let waiting = json!({ "waiting": { "reason": reason, "message": message } });
            self.status(|status| status["containerStatuses"] = containers(&waiting, false))?;
            sleep(Duration::from_millis(500)).await;
        }
        tokio::select! {
            () = sleep(time) => Ok(()),
            why = self.interruption() => {
                let waiting = json!({ "waiting": { "reason": "ContainerCreating" } });
                self.finish("Failed", &waiting, matches!(why, Interruption::Deadline).then_some(DEADLINE))?;
                Err(Gone)
            }
        }
    }

    async fn work(&mut self, started_at: Timestamp) -> End {
        let (from, to) = self.kubelet.script.work;
        let time = self.dice.between(from, to);
        let stopping = self.dice.between(Duration::from_millis(20), Duration::from_millis(900));
        let store = self.kubelet.store.clone();
        let values = self.kubelet.script.values.get(&self.order.identity.task).cloned().unwrap_or_default();
        let runner = Runner { order: &self.order, pod_uid: &self.uid, store: &store, started_at, values };
        if let Some(ending) = runner.earlier_result().await {
            return End::Exit(ending);
        }
        let clock = self.kubelet.server.clock;
        let work = async {
            match self.fate {
                Fate::Endless => std::future::pending().await,
                Fate::Deleted | Fate::Lost => sleep(time / 2).await,
                _ => sleep(time).await,
            }
            match self.fate {
                Fate::Failure(class) => End::Exit(runner.fail(clock.timestamp(), class).await),
                Fate::Evicted => End::Evicted,
                Fate::OutOfMemory => End::Killed { reason: "OOMKilled" },
                Fate::Lost => End::NodeLost,
                Fate::Deleted => {
                    self.delete("someone", Deletion::default());
                    std::future::pending().await
                }
                Fate::LostAfterCommit => {
                    runner.commit(clock.timestamp()).await.unwrap();
                    End::NodeLost
                }
                _ => End::Exit(runner.commit(clock.timestamp()).await.unwrap()),
            }
        };
        tokio::select! {
            biased;
            end = work => end,
            _ = self.interruption() => {
                sleep(stopping).await;
                End::Exit(runner.fail(clock.timestamp(), FailureClass::Interrupted).await)
            }
        }
    }

    /// Waits until the pod is deleted or its time is over, and the kubelet has noticed.
    async fn interruption(&self) -> Interruption {
        let mut versions = self.kubelet.server.versions();
        loop {
            versions.borrow_and_update();
            let Some(pod) = self.pod() else { return Interruption::Deletion };
            if pod["metadata"]["deletionTimestamp"].is_string() {
                sleep(Duration::from_millis(30)).await;
                return Interruption::Deletion;
            }
            let now = self.kubelet.server.now();
            let left = deadline(&pod).map(|deadline| deadline.duration_since(now));
            if left.is_some_and(|left| left <= SignedDuration::ZERO) {
                sleep(Duration::from_millis(200)).await;
                return Interruption::Deadline;
            }
            let left = left.map_or(Duration::from_secs(1 << 30), |left| left.try_into().unwrap());
            tokio::select! {
                _ = versions.changed() => {}
                () = sleep(left) => {}
            }
        }
    }

    async fn end(&mut self, end: End, started_at: Timestamp) -> Result<(), Gone> {
        self.pause(5, 80).await;
        let pod = self.pod().ok_or(Gone)?;
        let late = deadline(&pod).is_some_and(|deadline| deadline <= self.kubelet.server.now());
        let finished_at = format!("{:.0}", self.kubelet.server.now());
        let terminated = |code: i64, reason: &str, message: Option<String>| {
            let mut state = json!({ "terminated": {
                "exitCode": code, "reason": reason, "startedAt": format!("{started_at:.0}"), "finishedAt": finished_at,
            }});
            if let Some(message) = message {
                state["terminated"]["message"] = json!(message);
            }
            state
        };
        match end {
            End::Exit(ending) => {
                let code = ending.code as i64;
                let (phase, reason) = if code == 0 { ("Succeeded", "Completed") } else { ("Failed", "Error") };
                let message = serde_json::to_string(&ending.message).unwrap();
                let why = (late && code != 0).then_some(DEADLINE);
                self.finish(phase, &terminated(code, reason, Some(message)), why)?;
            }
            End::Killed { reason } => self.finish("Failed", &terminated(137, reason, None), None)?,
            End::Evicted => {
                let why = ("Evicted", "The node was low on resource: memory.");
                self.finish("Failed", &terminated(137, "Error", None), Some(why))?;
            }
            End::NodeLost => {
                self.delete("pod-garbage-collector", Deletion { grace_seconds: Some(0), ..Deletion::default() });
                return Err(Gone);
            }
        }
        if self.fate == Fate::RemovedAfterSuccess {
            self.delete("someone", Deletion::default());
        }
        let deleting = pod["metadata"]["deletionTimestamp"].is_string();
        if deleting {
            self.pause(5, 80).await;
            self.delete(AUTHOR, Deletion { grace_seconds: Some(0), ..Deletion::default() });
        }
        Ok(())
    }

    fn finish(&self, phase: &str, state: &Value, why: Option<(&str, &str)>) -> Result<(), Gone> {
        self.status(|status| {
            status["phase"] = json!(phase);
            status["containerStatuses"] = containers(state, false);
            if let Some((reason, message)) = why {
                status["reason"] = json!(reason);
                status["message"] = json!(message);
            }
        })
    }

    fn delete(&self, author: &str, options: Deletion) {
        let options = Deletion { uid: Some(self.uid.clone()), ..options };
        let _ = self.kubelet.server.apply(author, |objects| objects.delete(&self.key, &options));
    }
}

const DEADLINE: (&str, &str) = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");

fn containers(state: &Value, ready: bool) -> Value {
    json!([{
        "name": "task", "image": "runner", "imageID": "", "ready": ready, "started": ready, "restartCount": 0, "state": state,
    }])
}

/// When the pod's time is over.
fn deadline(pod: &Value) -> Option<Timestamp> {
    let start: Timestamp = pod["status"]["startTime"].as_str()?.parse().ok()?;
    Some(start + SignedDuration::from_secs(pod["spec"]["activeDeadlineSeconds"].as_i64()?))
}
