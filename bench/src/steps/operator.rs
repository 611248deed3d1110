//! The operator as it is installed, over the benchmark's API server and a store in a folder.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::measure::Failure;
use crate::program::bin;

use super::process::Process;
use super::server::ApiServer;
use super::{DEADLINE, STEPS};

const NAMESPACE: &str = "default";

/// By name of Execution.
type Ends = BTreeMap<String, End>;

struct End {
    /// Whether it succeeded, else what it says of itself.
    outcome: Result<(), Value>,
    /// Whether its record is in the store, so that nothing of it is left to do.
    is_recorded: bool,
}

pub struct Operator {
    pub process: Process,
    executions: Api<DynamicObject>,
    pods: Api<Pod>,
    ends: watch::Receiver<Ends>,
    metrics: String,
}

impl Operator {
    /// Returns when it is ready and the workflow of ten steps is, too.
    pub async fn start(server: &ApiServer, client: &Client, folder: &Path) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = listener.map_err(|error| format!("no free port: {error}"))?;
        let settings = folder.join("settings.json");
        let content = json!({
            "namespace": NAMESPACE,
            "store": { "uri": folder.join("store") },
            "runner": { "image": "none", "serviceAccount": "default", "podTtlSeconds": 3600 },
        });
        let explain = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::write(&settings, content.to_string()).map_err(explain)?;
        let log = std::fs::File::create(folder.join("operator.log")).map_err(explain)?;
        let mut command = Command::new(bin("pintail-operator"));
        command.arg("--settings").arg(&settings).arg("--listen").arg(address.to_string());
        command.env("KUBECONFIG", server.kubeconfig()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = Process::start(&mut command)?;

        create(&kind(client, "Workflow"), &workflow()).await?;
        let executions = kind(client, "Execution");
        let (sender, ends) = watch::channel(Ends::new());
        tokio::spawn(watch_ends(executions.clone(), sender));
        let pods = Api::namespaced(client.clone(), NAMESPACE);
        let operator = Self { process, executions, pods, ends, metrics: format!("http://{address}/metrics") };
        // The first run also shows that all is ready.
        operator.submit(&["first".to_owned()]).await?;
        operator.wait(&["first".to_owned()]).await?;
        Ok(operator)
    }

    /// Creates Executions of these names.
    pub async fn submit(&self, names: &[String]) -> Result<(), Failure> {
        let create = |name: &String| {
            let executions = self.executions.clone();
            let execution = json!({
                "apiVersion": "pintail.dev/v1alpha1", "kind": "Execution", "metadata": { "name": name },
                "spec": { "workflowRef": { "name": "chain" } },
            });
            async move { create(&executions, &execution).await }
        };
        stream::iter(names).map(create).buffer_unordered(32).try_for_each(|()| async { Ok(()) }).await
    }

    /// Waits until all of these have succeeded.
    pub async fn wait(&self, names: &[String]) -> Result<(), Failure> {
        self.wait_for(names, |_| true).await
    }

    /// Waits until all of these are recorded as well.
    pub async fn wait_until_recorded(&self, names: &[String]) -> Result<(), Failure> {
        self.wait_for(names, |end| end.is_recorded).await
    }

    /// Waits until it has deleted the pods of all that have ended.
    pub async fn wait_until_tidy(&self) -> Result<(), Failure> {
        let one = ListParams::default().labels("app.kubernetes.io/managed-by=pintail").limit(1);
        let gone = async {
            while !self.pods.list(&one).await.map_err(|error| error.to_string())?.items.is_empty() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(DEADLINE, gone).await;
        waited.unwrap_or_else(|_| Err(format!("not all pods were deleted within {} s", DEADLINE.as_secs())))
    }

    async fn wait_for(&self, names: &[String], is_far: impl Fn(&End) -> bool) -> Result<(), Failure> {
        let mut ends = self.ends.clone();
        let all_known = |ends: &Ends| names.iter().all(|name| ends.get(name).is_some_and(&is_far));
        let waited = tokio::time::timeout(DEADLINE, ends.wait_for(all_known)).await;
        let stuck = || format!("not all of {} Executions ended within {} s", names.len(), DEADLINE.as_secs());
        let ends = waited.map_err(|_| stuck())?.map_err(|error| error.to_string())?;
        let failed = names.iter().find_map(|name| Some((name, ends.get(name)?.outcome.as_ref().err()?)));
        failed.map_or(Ok(()), |(name, status)| Err(format!("Execution {name} failed: {status}")))
    }

    /// Requests to the Kubernetes API since the operator started, by verb and resource.
    pub async fn requests(&self) -> Result<BTreeMap<String, f64>, Failure> {
        let explain = |error: reqwest::Error| format!("{}: {error}", self.metrics);
        let text = reqwest::get(&self.metrics).await.map_err(explain)?.text().await.map_err(explain)?;
        let mut counts: BTreeMap<String, f64> = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("pintail_api_requests_total{")) {
            let (labels, count) = line.rsplit_once(' ').unwrap_or((line, "0"));
            let label = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\""))?;
                rest.split('"').next()
            };
            let what = format!("{} {}", label("verb").unwrap_or("?"), label("resource").unwrap_or("?"));
            *counts.entry(what).or_default() += count.parse::<f64>().unwrap_or_default();
        }
        Ok(counts)
    }

    /// The same for each finished task.
    pub async fn requests_per_task(&self, tasks: usize) -> Result<String, Failure> {
        let counts = self.requests().await?;
        let shown = counts.iter().filter(|(_, count)| **count / tasks as f64 >= 0.005);
        let shown = shown.map(|(what, count)| format!("{what} {:.2}", count / tasks as f64));
        Ok(shown.collect::<Vec<_>>().join(", "))
    }

    /// Of the finished Executions: the whole object, and the encoded state in it.
    pub async fn stored_bytes_per_task(&self) -> Result<String, Failure> {
        let list = self.executions.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let tasks = (list.items.len() * STEPS) as f64;
        let whole =
            list.items.iter().map(|item| serde_json::to_vec(item).map_or(0, |bytes| bytes.len())).sum::<usize>();
        let state = |item: &DynamicObject| item.data["status"]["state"].as_str().map_or(0, str::len);
        let state = list.items.iter().map(state).sum::<usize>();
        Ok(format!(
            "{:.0} in the Execution, {:.0} of them its encoded state",
            whole as f64 / tasks,
            state as f64 / tasks
        ))
    }
}

/// Objects of a kind of Pintail's.
pub fn kind(client: &Client, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("pintail.dev", "v1alpha1", kind));
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

pub async fn create(api: &Api<DynamicObject>, object: &Value) -> Result<(), Failure> {
    let object = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    api.create(&PostParams::default(), &object).await.map(|_| ()).map_err(|error| error.to_string())
}

async fn watch_ends(executions: Api<DynamicObject>, ends: watch::Sender<Ends>) {
    let mut seen = watcher(executions, watcher::Config::default()).default_backoff().applied_objects().boxed();
    while let Some(execution) = seen.next().await {
        let Ok(execution) = execution else { continue };
        let outcome = match succeeded(&execution.data) {
            Some("True") => Ok(()),
            Some("False") => Err(execution.data.clone()),
            _ => continue,
        };
        let is_recorded = execution.data["status"]["state"].is_null();
        ends.send_modify(|ends| {
            ends.insert(execution.name_any(), End { outcome, is_recorded });
        });
    }
}

fn succeeded(execution: &Value) -> Option<&str> {
    let conditions = execution["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Succeeded")?["status"].as_str()
}

fn workflow() -> Value {
    let task = |step: usize| {
        if step == 0 {
            return json!({ "name": "t0", "duckdb": { "query": "SELECT 1 AS a" } });
        }
        let before = format!("t{}", step - 1);
        json!({ "name": format!("t{step}"), "uses": [before], "duckdb": { "query": format!("SELECT a FROM {before}") } })
    };
    json!({
        "apiVersion": "pintail.dev/v1alpha1", "kind": "Workflow", "metadata": { "name": "chain" },
        "spec": { "tasks": (0..STEPS).map(task).collect::<Vec<_>>() },
    })
}
