//! One part of the cluster that is looked after by itself: all of it, or one namespace of a list. References never leave a
//! namespace, so neither does anything here leave its unit.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ApiResource;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use pintail_api as api;
use pintail_execution::{Connections, sql_name};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::agent::{Agents, is_agent};
use super::checks::Checks;
use super::execution::memory::Memory;
use super::execution::{Stage, stage};
use super::launch::known::{Launches, PlanRuns, Waiting};
use super::object::decode;
use super::pods::{PodCache, trim};
use super::runner::{MANAGED_BY, MANAGED_BY_LABEL};
use super::work_queue::{Key, Urgency};
use crate::Context;

/// The objects of one kind, and who is told of those that change.
pub struct Kind {
    pub resource: ApiResource,
    pub objects: Store<DynamicObject>,
    /// Whether the first list is whole. Of several that wait for it, the store would wake the last only.
    ready: watch::Sender<bool>,
    queue: UnboundedSender<(Key, Urgency)>,
    written: Mutex<Option<Writer<DynamicObject>>>,
    queued: Mutex<Option<UnboundedReceiver<(Key, Urgency)>>>,
}

impl Kind {
    fn new<K: Resource<DynamicType = ()>>() -> Self {
        let resource = ApiResource::erase::<K>(&());
        let writer = Writer::new(resource.clone());
        let (queue, queued) = unbounded_channel();
        Self {
            objects: writer.as_reader(),
            resource,
            ready: watch::Sender::new(false),
            queue,
            written: Mutex::new(Some(writer)),
            queued: Mutex::new(Some(queued)),
        }
    }

    /// Asks for a reconcile.
    pub fn enqueue(&self, namespace: &str, name: &str) {
        self.ask(namespace, name, Urgency::InTurn);
    }

    /// Asks for a reconcile of what is in the middle of something.
    pub fn enqueue_begun(&self, namespace: &str, name: &str) {
        self.ask(namespace, name, Urgency::Begun);
    }

    fn ask(&self, namespace: &str, name: &str, urgency: Urgency) {
        // Nobody takes it once everything ends.
        let _ = self.queue.send(((namespace.to_owned(), name.to_owned()), urgency));
    }

    /// What is to be reconciled; for the one controller of the kind.
    pub fn take_queue(&self) -> Option<UnboundedReceiver<(Key, Urgency)>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn take_writer(&self) -> Option<Writer<DynamicObject>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn reference(&self, object: &DynamicObject) -> ObjectRef<DynamicObject> {
        ObjectRef::from_obj_with(object, self.resource.clone())
    }

    /// Whether the object is still there, as far as is known; another of the same name is not it.
    pub fn knows(&self, object: &DynamicObject) -> bool {
        self.objects.get(&self.reference(object)).is_some_and(|known| known.metadata.uid == object.metadata.uid)
    }

    /// The object of that name, as it was seen last.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        self.objects.get(&ObjectRef::new_with(name, self.resource.clone()).within(namespace))
    }

    /// Waits for the first whole list.
    pub async fn wait_until_ready(&self) {
        // The sender lives as long as the unit.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// All of a namespace, by name.
    pub fn within(&self, namespace: &str) -> Vec<Arc<DynamicObject>> {
        let mut objects = self.objects.state_filter(|object| object.metadata.namespace.as_deref() == Some(namespace));
        objects.sort_unstable_by(|left, right| left.metadata.name.cmp(&right.metadata.name));
        objects
    }
}

pub struct Unit {
    pub context: Context,
    /// None: the whole cluster.
    namespace: Option<String>,
    pub workflows: Kind,
    pub connections: Kind,
    pub executions: Kind,
    pub artifacts: Kind,
    pub launch_plans: Kind,
    pub launches: Launches,
    pub waiting: Waiting,
    pub plan_runs: PlanRuns,
    pub agents: Agents,
    pub pods: PodCache,
    pub memory: Memory,
    pub checks: Checks,
    /// By namespace: every step of every run needs them.
    decoded_connections: Mutex<HashMap<String, Connections>>,
    /// Held for reading from when a revision is made sure of until a status names it; for writing to collect revisions.
    pub revisions: tokio::sync::RwLock<()>,
}

impl Unit {
    pub fn new(context: Context, namespace: Option<String>) -> Self {
        Self {
            context,
            namespace,
            workflows: Kind::new::<api::Workflow>(),
            connections: Kind::new::<api::Connection>(),
            executions: Kind::new::<api::Execution>(),
            artifacts: Kind::new::<api::Artifact>(),
            launch_plans: Kind::new::<api::LaunchPlan>(),
            launches: Launches::default(),
            waiting: Waiting::default(),
            plan_runs: PlanRuns::default(),
            agents: Agents::default(),
            pods: PodCache::default(),
            memory: Memory::default(),
            checks: Checks::default(),
            decoded_connections: Mutex::default(),
            revisions: tokio::sync::RwLock::new(()),
        }
    }

    /// The objects of a kind in one namespace, for reading and writing.
    pub fn api(&self, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.context.client.clone(), namespace, &kind.resource)
    }

    /// All objects of a type that the unit looks after.
    pub fn all<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.context.client.clone(), namespace),
            None => Api::all(self.context.client.clone()),
        }
    }

    pub fn all_of(&self, kind: &Kind) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.context.client.clone(), namespace, &kind.resource),
            None => Api::all_with(self.context.client.clone(), &kind.resource),
        }
    }

    /// The one namespace of the unit; none where it is the whole cluster.
    pub fn only_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The Connections of a namespace that can be read, by their SQL names, once they are known.
    pub async fn connections_of(&self, namespace: &str) -> Connections {
        self.connections.wait_until_ready().await;
        // Held while they are read: whoever forgets them has changed what is read before.
        let mut decoded = self.decoded_connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = decoded.get(namespace) {
            return connections.clone();
        }
        let readable = self.connections.within(namespace).into_iter().filter_map(|object| {
            let connection: api::Connection = decode(&object).ok()?;
            Some((sql_name(&object.name_any()), Arc::new(connection)))
        });
        let connections: Connections = readable.collect();
        if !connections.is_empty() {
            decoded.insert(namespace.to_owned(), connections.clone());
        }
        connections
    }

    /// Connections of a namespace have changed.
    pub fn forget_connections_of(&self, namespace: &str) {
        self.decoded_connections.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
    }

    /// Keeps the objects of a kind known, and hands each that changes to `changed`, once it can be read as it is then; with
    /// `true` one that is gone. `around` is then told its namespace: once, however much of it was listed anew.
    pub async fn follow(&self, kind: &Kind, changed: impl Fn(&DynamicObject, bool), around: impl Fn(&str)) {
        let Some(mut writer) = kind.take_writer() else { return };
        let events = watcher(self.all_of(kind), watcher::Config::default()).modify(|object| {
            object.metadata.managed_fields = None;
        });
        let mut events = std::pin::pin!(events.backoff(Doubling::default()));
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(kind = kind.resource.kind, "the watch was interrupted: {error}");
                    continue;
                }
            };
            let before = if matches!(event, Event::InitDone) { kind.objects.state() } else { Vec::new() };
            writer.apply_watcher_event(&event);
            match &event {
                Event::Apply(object) | Event::Delete(object) => {
                    changed(object, matches!(event, Event::Delete(_)));
                    around(object.namespace().as_deref().unwrap_or_default());
                }
                // What is listed anew cannot be read before the list is whole.
                Event::Init | Event::InitApply(_) => {}
                Event::InitDone => {
                    let is_gone = |object: &&Arc<DynamicObject>| kind.objects.get(&kind.reference(object)).is_none();
                    let gone: Vec<_> = before.iter().filter(is_gone).cloned().collect();
                    let listed = kind.objects.state();
                    gone.iter().for_each(|object| changed(object, true));
                    listed.iter().for_each(|object| changed(object, false));
                    kind.ready.send_replace(true);
                    namespaces(gone.iter().chain(&listed)).into_iter().for_each(&around);
                }
            }
        }
    }

    /// Keeps the pods of attempts known, and asks for a reconcile of the Execution of each that changes.
    pub async fn follow_pods(&self) {
        let selector = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
        let events = watcher(self.all::<Pod>(), watcher::Config::default().labels(&selector)).modify(trim);
        let mut events = std::pin::pin!(events.backoff(Doubling::default()));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    self.pods.apply(&event);
                    match &event {
                        Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod) => self.enqueue_owner(pod),
                        // An agent may have gone unseen.
                        Event::InitDone => self.agents.ask_all(),
                        Event::Init => {}
                    }
                }
                Err(error) => tracing::warn!(kind = "Pod", "the watch was interrupted: {error}"),
            }
        }
    }

    fn enqueue_owner(&self, pod: &Pod) {
        if is_agent(pod) {
            self.agents.ask(&pod.namespace().unwrap_or_default());
        }
        let owner = pod.owner_references().iter().find(|owner| owner.kind == "Execution");
        if let Some(owner) = owner {
            let namespace = pod.namespace().unwrap_or_default();
            let execution = self.executions.find(&namespace, &owner.name);
            match execution.map(|execution| stage(&execution)) {
                Some(Stage::Closed) => self.executions.enqueue(&namespace, &owner.name),
                // Its start may be known here before it is seen.
                _ => self.executions.enqueue_begun(&namespace, &owner.name),
            }
        }
    }

    /// Plans whose runs, Workflow or Connections changed.
    pub fn enqueue_plans(&self, namespace: &str) {
        for object in self.launch_plans.within(namespace) {
            self.launch_plans.enqueue(namespace, &object.name_any());
        }
    }

    /// Runs of a plan that have not started: there may be room now.
    pub fn enqueue_waiting_of(&self, namespace: &str, plan: &str) {
        let runs = self.plan_runs.of(namespace, plan);
        let waiting = runs.iter().filter(|run| run.stage == pintail_engine::RunStage::Waiting);
        waiting.for_each(|run| self.executions.enqueue(namespace, &run.name));
    }

    /// Executions that have not started: what they wait for may be there now.
    pub fn enqueue_waiting(&self, namespace: &str) {
        for object in self.executions.within(namespace) {
            if stage(&object) == Stage::Waiting {
                self.executions.enqueue(namespace, &object.name_any());
            }
        }
    }
}

/// The namespaces of objects, each once.
fn namespaces<'a>(objects: impl Iterator<Item = &'a Arc<DynamicObject>>) -> BTreeSet<&'a str> {
    objects.filter_map(|object| object.metadata.namespace.as_deref()).collect()
}

/// Waits of half a second, one, two, … up to half a minute, the same in every run.
struct Doubling(Duration);

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(30);

impl Default for Doubling {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Iterator for Doubling {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0;
        self.0 = wait.saturating_mul(2).min(LAST_WAIT);
        Some(wait)
    }
}

impl Backoff for Doubling {
    fn reset(&mut self) {
        self.0 = FIRST_WAIT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_looked_around_in_once_however_much_of_it_is_listed() {
        let resource = ApiResource::erase::<api::Artifact>(&());
        let object = |namespace: &str, name: &str| Arc::new(DynamicObject::new(name, &resource).within(namespace));
        let listed = [object("b", "1"), object("a", "1"), object("b", "2")];
        assert_eq!(namespaces(listed.iter()).into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
