//! The least that a controller of chains can do: when a pod has succeeded, create the next.

use std::collections::HashSet;
use std::process::{Command, Stdio};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use pintail_protocol::ORDER_VARIABLE;

use crate::measure::Failure;

use super::STEPS;
use super::kubelet::{CHAIN_LABEL, RIVAL_LABEL, STEP_LABEL};
use super::process::Process;
use super::server::ApiServer;

const NAMESPACE: &str = "default";
/// The rival's name and the pod of a step, as JSON, for the process that is the controller.
const RIVAL_VARIABLE: &str = "BENCH_RIVAL";
const POD_VARIABLE: &str = "BENCH_POD";
/// In the place of the order, for the stub kubelet has nothing to commit for a rival.
const NO_ORDER_VARIABLE: &str = "BENCH_ORDER";

/// A null controller as a process.
pub struct Null {
    pub rival: &'static str,
    pub process: Process,
    client: Client,
    /// Of every step, but for its name and labels.
    pod: Pod,
}

impl Null {
    /// Its pods are as `pod`.
    pub fn start(server: &ApiServer, client: &Client, rival: &'static str, pod: Pod) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| format!("the benchmark's own program: {error}"))?;
        let text = serde_json::to_string(&pod).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg(super::NULL_CONTROLLER).env("KUBECONFIG", server.kubeconfig()).stdin(Stdio::null());
        command.env(RIVAL_VARIABLE, rival).env(POD_VARIABLE, text);
        Ok(Self { rival, process: Process::start(&mut command)?, client: client.clone(), pod })
    }

    /// Creates the first pods of chains.
    pub async fn submit(&self, chains: &[String]) -> Result<(), Failure> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), NAMESPACE);
        let create = |chain: &String| {
            let (pods, pod) = (pods.clone(), pod_of(&self.pod, self.rival, chain, 0));
            async move { pods.create(&PostParams::default(), &pod).await.map_err(|error| error.to_string()) }
        };
        stream::iter(chains).map(create).buffer_unordered(32).try_for_each(|_| async { Ok(()) }).await
    }

    /// Makes room for the next round.
    pub async fn delete_pods(&self) -> Result<(), Failure> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), NAMESPACE);
        let selected = ListParams::default().labels(&format!("{RIVAL_LABEL}={}", self.rival));
        let delete = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        pods.delete_collection(&delete, &selected).await.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// The least that a pod may be.
pub fn bare_pod() -> Pod {
    let container = Container { name: "task".to_owned(), image: Some("none".to_owned()), ..Container::default() };
    let restart_policy = Some("Never".to_owned());
    Pod { spec: Some(PodSpec { restart_policy, containers: vec![container], ..PodSpec::default() }), ..Pod::default() }
}

/// A pod of the operator's as a rival's: as large, but nobody else's.
pub fn like(pod: &Pod) -> Pod {
    let mut like = pod.clone();
    like.status = None;
    like.metadata.managed_fields = None;
    like.metadata.labels.get_or_insert_default().retain(|label, _| !label.starts_with("app.kubernetes.io/"));
    like.metadata.uid = None;
    like.metadata.resource_version = None;
    for container in like.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
        let variables = container.env.iter_mut().flatten();
        let order = variables.filter(|variable| variable.name == ORDER_VARIABLE);
        order.for_each(|variable| variable.name = NO_ORDER_VARIABLE.to_owned());
    }
    like
}

/// The controller: until it is killed.
pub fn null_controller() -> Result<(), Failure> {
    let variable = |name| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let (rival, text) = (variable(RIVAL_VARIABLE)?, variable(POD_VARIABLE)?);
    let pod = serde_json::from_str(&text).map_err(|error| format!("{POD_VARIABLE}: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start: {error}"))?.block_on(control(&rival, &pod))
}

async fn control(rival: &str, pod: &Pod) -> Result<(), Failure> {
    let client = Client::try_default().await.map_err(|error| error.to_string())?;
    let pods = Api::<Pod>::namespaced(client, NAMESPACE);
    let config = watcher::Config::default().labels(&format!("{RIVAL_LABEL}={rival}"));
    // The watcher lists anew where the server cuts it.
    let mut seen = watcher(pods.clone(), config).default_backoff().applied_objects().boxed();
    // A pod that is seen again while its round is cleared away would begin the rest of its chain anew.
    let mut begun = HashSet::new();
    while let Some(ended) = seen.next().await {
        let Ok(ended) = ended else { continue };
        let phase = ended.status.as_ref().and_then(|status| status.phase.as_deref());
        let step: usize = ended.labels().get(STEP_LABEL).and_then(|step| step.parse().ok()).unwrap_or(STEPS);
        let chain = ended.labels().get(CHAIN_LABEL);
        if let (Some("Succeeded"), Some(chain), true) = (phase, chain, step + 1 < STEPS) {
            let (pods, next) = (pods.clone(), pod_of(pod, rival, chain, step + 1));
            if !begun.insert(next.name_any()) {
                continue;
            }
            tokio::spawn(async move {
                if let Err(error) = pods.create(&PostParams::default(), &next).await {
                    eprintln!("{}: {error}", next.name_any());
                }
            });
        }
    }
    Ok(())
}

fn pod_of(like: &Pod, rival: &str, chain: &str, step: usize) -> Pod {
    let mut pod = like.clone();
    pod.metadata.name = Some(format!("{rival}-{chain}-{step}"));
    let labels = [(RIVAL_LABEL, rival.to_owned()), (CHAIN_LABEL, chain.to_owned()), (STEP_LABEL, step.to_string())];
    let labels = labels.map(|(label, value)| (label.to_owned(), value));
    pod.metadata.labels.get_or_insert_default().extend(labels);
    pod
}
