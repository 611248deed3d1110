//! The pod of an agent: it becomes ready, and runs until it is deleted. What it tells is up to the story.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{AUTHOR, Kubelet};
use crate::dice::Dice;
use crate::server::objects::{Deletion, Key};

pub fn is_agent(pod: &Value) -> bool {
    pod["metadata"]["labels"]["app.kubernetes.io/name"] == "pintail-agent"
}

pub async fn live(kubelet: Kubelet, key: Key, uid: String) {
    let mut dice = Dice::of(kubelet.script.seed, &(&key, &uid));
    let mut versions = kubelet.server.versions();
    sleep(dice.between(Duration::from_millis(300), Duration::from_secs(4))).await;
    let ready = json!([{ "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "True" }]);
    let _ = kubelet.server.apply(AUTHOR, |objects| {
        objects.modify(&key, |pod| {
            if pod["metadata"]["uid"] == uid.as_str() {
                pod["status"]["phase"] = json!("Running");
                pod["status"]["conditions"] = ready;
            }
        })
    });
    loop {
        versions.borrow_and_update();
        let Ok(pod) = kubelet.server.objects().get(&key) else { return };
        if pod["metadata"]["uid"] != uid.as_str() {
            return;
        }
        if pod["metadata"]["deletionTimestamp"].is_string() {
            break;
        }
        if versions.changed().await.is_err() {
            return;
        }
    }
    sleep(dice.between(Duration::from_millis(10), Duration::from_secs(2))).await;
    let options = Deletion { uid: Some(uid), grace_seconds: Some(0), ..Deletion::default() };
    let _ = kubelet.server.apply(AUTHOR, |objects| objects.delete(&key, &options));
}
