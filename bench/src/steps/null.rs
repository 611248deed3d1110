//! The least that a controller of chains can do: when a pod has succeeded, create the next.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::measure::Failure;

use super::STEPS;
use super::kubelet::{CHAIN_LABEL, RIVAL_LABEL, STEP_LABEL};

const NAMESPACE: &str = "default";

/// The controller: until it is killed.
pub fn null_controller() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start: {error}"))?.block_on(control())
}

async fn control() -> Result<(), Failure> {
    let client = Client::try_default().await.map_err(|error| error.to_string())?;
    let pods = Api::<Pod>::namespaced(client, NAMESPACE);
    let config = watcher::Config::default().labels(&format!("{RIVAL_LABEL}=null"));
    // The watcher lists anew where the server cuts it.
    let mut seen = watcher(pods.clone(), config).default_backoff().applied_objects().boxed();
    // A pod that is seen again while its round is cleared away would begin the rest of its chain anew.
    let mut begun = HashSet::new();
    while let Some(pod) = seen.next().await {
        let Ok(pod) = pod else { continue };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let step: usize = pod.labels().get(STEP_LABEL).and_then(|step| step.parse().ok()).unwrap_or(STEPS);
        let chain = pod.labels().get(CHAIN_LABEL);
        if let (Some("Succeeded"), Some(chain), true) = (phase, chain, step + 1 < STEPS) {
            let (pods, next) = (pods.clone(), pod_of(chain, step + 1));
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

/// Creates the first pods of chains.
pub async fn submit(client: &Client, chains: &[String]) -> Result<(), Failure> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let create = |chain: &String| {
        let (pods, pod) = (pods.clone(), pod_of(chain, 0));
        async move { pods.create(&PostParams::default(), &pod).await.map_err(|error| error.to_string()) }
    };
    stream::iter(chains).map(create).buffer_unordered(32).try_for_each(|_| async { Ok(()) }).await
}

/// Makes room for the next round.
pub async fn delete_pods(client: &Client) -> Result<(), Failure> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let selected = ListParams::default().labels(&format!("{RIVAL_LABEL}=null"));
    let delete = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete_collection(&delete, &selected).await.map(|_| ()).map_err(|error| error.to_string())
}

fn pod_of(chain: &str, step: usize) -> Pod {
    let pod = json!({
        "metadata": {
            "name": format!("null-{chain}-{step}"),
            "labels": { RIVAL_LABEL: "null", CHAIN_LABEL: chain, STEP_LABEL: step.to_string() },
        },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "task", "image": "none" }] },
    });
    // The shape is fixed: it is a pod.
    serde_json::from_value(pod).unwrap_or_default()
}
