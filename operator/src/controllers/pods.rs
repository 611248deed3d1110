//! The pods of all attempts as one watch saw them last, trimmed to what is read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::agent::is_agent;
use super::execution::pod::EXECUTION_UID_LABEL;

/// `(namespace, name)`.
type Key = (String, String);

/// Pods by name and by the Execution that they are of.
#[derive(Debug)]
pub struct PodCache {
    inner: RwLock<Inner>,
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Inner {
    pods: HashMap<Key, Arc<Pod>>,
    by_execution: HashMap<String, BTreeSet<Key>>,
    /// While the watch lists: what it has listed so far.
    listed: Option<HashSet<Key>>,
}

impl Default for PodCache {
    fn default() -> Self {
        Self { inner: RwLock::default(), ready: watch::Sender::new(false) }
    }
}

impl PodCache {
    /// Takes in an event of the watch.
    pub fn apply(&self, event: &Event<Pod>) {
        let mut inner = self.write();
        match event {
            Event::Apply(pod) => inner.insert(pod),
            Event::Delete(pod) => inner.remove(&key(pod)),
            Event::Init => inner.listed = Some(HashSet::new()),
            Event::InitApply(pod) => {
                if let Some(listed) = &mut inner.listed {
                    listed.insert(key(pod));
                }
                inner.insert(pod);
            }
            Event::InitDone => {
                let listed = inner.listed.take().unwrap_or_default();
                let gone: Vec<Key> = inner.pods.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                gone.iter().for_each(|key| inner.remove(key));
                self.ready.send_replace(true);
            }
        }
    }

    /// Waits for the first whole list.
    pub async fn wait_until_ready(&self) {
        // The sender lives as long as this.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.read().pods.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    pub fn of_execution(&self, uid: &str) -> Vec<Arc<Pod>> {
        let inner = self.read();
        let keys = inner.by_execution.get(uid).into_iter().flatten();
        keys.filter_map(|key| inner.pods.get(key).cloned()).collect()
    }

    /// The agents of a namespace, by name.
    pub fn agents(&self, namespace: &str) -> Vec<Arc<Pod>> {
        let inner = self.read();
        let agents = inner.pods.iter().filter(|((within, _), pod)| within == namespace && is_agent(pod));
        let mut agents: Vec<_> = agents.map(|(_, pod)| Arc::clone(pod)).collect();
        agents.sort_unstable_by_key(|pod| pod.name_any());
        agents
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn insert(&mut self, pod: &Pod) {
        let key = key(pod);
        if let Some(uid) = pod.labels().get(EXECUTION_UID_LABEL) {
            self.by_execution.entry(uid.clone()).or_default().insert(key.clone());
        }
        self.pods.insert(key, Arc::new(pod.clone()));
    }

    fn remove(&mut self, key: &Key) {
        let Some(pod) = self.pods.remove(key) else { return };
        let Some(uid) = pod.labels().get(EXECUTION_UID_LABEL) else { return };
        if let Some(keys) = self.by_execution.get_mut(uid) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_execution.remove(uid);
            }
        }
    }
}

/// Takes away what nobody reads: most of a pod is its spec.
pub fn trim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    if let Some(spec) = &mut pod.spec {
        *spec = k8s_openapi::api::core::v1::PodSpec {
            active_deadline_seconds: spec.active_deadline_seconds,
            ..k8s_openapi::api::core::v1::PodSpec::default()
        };
    }
}

fn key(pod: &Pod) -> Key {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pod(name: &str, uid: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.namespace = Some("data".to_owned());
        pod.metadata.labels = Some(BTreeMap::from([(EXECUTION_UID_LABEL.to_owned(), uid.to_owned())]));
        pod
    }

    fn names(cache: &PodCache, uid: &str) -> Vec<String> {
        cache.of_execution(uid).iter().map(|pod| pod.name_any()).collect()
    }

    #[test]
    fn a_new_list_takes_the_place_of_what_was_known() {
        let cache = PodCache::default();
        cache.apply(&Event::Apply(pod("a", "u")));
        cache.apply(&Event::Apply(pod("b", "u")));
        cache.apply(&Event::Apply(pod("c", "v")));
        assert_eq!(names(&cache, "u"), ["a", "b"]);
        cache.apply(&Event::Delete(pod("a", "u")));
        assert!(cache.get("data", "a").is_none());
        for event in [Event::Init, Event::InitApply(pod("c", "v")), Event::InitDone] {
            cache.apply(&event);
        }
        assert!(names(&cache, "u").is_empty());
        assert_eq!(names(&cache, "v"), ["c"]);
    }
}
