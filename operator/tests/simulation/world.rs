//! A cluster with everything in it, and the operator, which may be stopped at any write.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pintail_operator::lease::{Candidate, Leadership};
use pintail_operator::{
    AgentSettings, CheckerSettings, Context, Desk, Metrics, RunnerSettings, Scope, Settings, StoreSettings,
    run_controllers,
};
use pintail_storage::Store;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::SimulatedClock;
use crate::dice::Dice;
use crate::examples::Example;
use crate::kubelet::Kubelet;
use crate::kubelet::script::Script;
use crate::server::line::{Faults, Line};
use crate::server::objects::{Change, Key};
use crate::server::resource::Resource;
use crate::server::{Server, manager};
use crate::store::Bucket;

pub const NAMESPACE: &str = "work";
const SYSTEM: &str = "pintail-system";
/// How soon a container that ended is started again.
const RESTART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// Longer than finished and failed pods are kept.
const TIDY: Duration = Duration::from_secs(900);
/// No run of a simulation takes longer.
const LONGEST_RUN: Duration = Duration::from_secs(4 * 3600);

pub struct World {
    seed: u64,
    pub server: Server,
    pub bucket: Bucket,
    /// A store on which nothing goes wrong.
    pub store: Store,
    pub kubelet: Kubelet,
    /// Where the replicas are told of occurrences.
    pub desks: Mutex<Vec<Desk>>,
    /// What goes on by itself.
    background: Mutex<JoinSet<()>>,
}

/// One replica of the operator.
pub struct Replica {
    pub name: &'static str,
    pub faults: Arc<Faults>,
    pub has_lease: bool,
    /// Called with the line of each process at its start.
    pub disturb: fn(&Line, &Server),
    seed: u64,
    server: Server,
    bucket: Bucket,
    desk: Desk,
}

impl World {
    pub fn new(seed: u64, script: Script) -> Self {
        let server = Server::new(seed, SimulatedClock::start());
        let bucket = Bucket::default();
        let store = Store::in_memory(bucket.over(&Line::calm(&server, "kubelet")));
        let kubelet = Kubelet::new(&server, &store, script);
        let mut background = JoinSet::new();
        background.spawn(manager::run(server.clone()));
        background.spawn(kubelet.clone().run());
        let world =
            Self { seed, server, bucket, store, kubelet, desks: Mutex::default(), background: Mutex::new(background) };
        world.install();
        world
    }

    fn install(&self) {
        for name in [SYSTEM, NAMESPACE, "kube-system"] {
            self.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }));
        }
        for name in ["default", "pintail-runner"] {
            self.apply(&json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } }));
        }
        for kind in ["workflows", "executions", "artifacts", "connections", "launchplans"] {
            let name = format!("{kind}.pintail.dev");
            let (api_version, kind) = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
            self.apply(&json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name } }));
        }
    }

    /// Creates the object in the namespace of the work, unless it is there.
    pub fn apply(&self, object: &Value) {
        let text = |field: &str| object[field].as_str().unwrap();
        let resource = Resource::of_kind(text("apiVersion"), text("kind")).unwrap();
        let created = self.server.apply("user", |objects| objects.create(resource, NAMESPACE, object.clone(), false));
        assert!(created.as_ref().err().is_none_or(|refusal| refusal.reason == "AlreadyExists"), "{created:?}");
    }

    pub fn get(&self, plural: &str, name: &str) -> Option<Arc<Value>> {
        self.server.objects().get(&Key::new(Resource::named(plural), NAMESPACE, name)).ok()
    }

    pub fn list(&self, plural: &str) -> Vec<Arc<Value>> {
        self.server.objects().list(Resource::named(plural), Some(NAMESPACE), &Default::default())
    }

    /// A replica of the operator that runs from now on.
    pub fn operate(&self, name: &'static str, faults: &Arc<Faults>, has_lease: bool, disturb: fn(&Line, &Server)) {
        let (server, bucket, faults) = (self.server.clone(), self.bucket.clone(), Arc::clone(faults));
        let desk = Desk::default();
        self.desks.lock().unwrap().push(desk.clone());
        let replica = Replica { name, faults, has_lease, disturb, seed: self.seed, server, bucket, desk };
        self.background.lock().unwrap().spawn(replica.run());
    }

    /// Runs the workflows of an example one after another, each to its end.
    pub async fn run(&self, example: &Example) {
        example.objects.iter().for_each(|object| self.apply(object));
        for workflow in &example.workflows {
            self.start(workflow);
            self.finished(workflow).await;
        }
    }

    /// Prints all that happened, where `PINTAIL_TRACE` asks for it.
    pub fn tell(&self) {
        if std::env::var_os("PINTAIL_TRACE").is_none() {
            return;
        }
        for change in self.server.log() {
            let Change { at, author, key, kind, object, .. } = change;
            let status = &object["status"];
            let said: Vec<String> = status["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|condition| format!("{}={} {}", condition["type"], condition["status"], condition["reason"]))
                .collect();
            let (plural, name, phase) = (key.plural, &key.name, &status["phase"]);
            println!("{at:.3} {author:14} {kind:?} {plural}/{name} {phase} {said:?} {}", status["taskList"]);
        }
    }

    /// Creates an Execution with the name of its workflow.
    pub fn start(&self, workflow: &str) {
        self.apply(&json!({
            "apiVersion": "pintail.dev/v1alpha1", "kind": "Execution", "metadata": { "name": workflow },
            "spec": { "workflowRef": { "name": workflow } },
        }));
    }

    /// Waits for the end of an Execution.
    pub async fn finished(&self, name: &str) {
        let waited = timeout(
            LONGEST_RUN,
            self.until(|| self.get("executions", name).is_none_or(|execution| is_finished(&execution))),
        );
        if waited.await.is_err() {
            let status = self.get("executions", name).map(|execution| execution["status"].clone());
            panic!("{name} has not finished in {LONGEST_RUN:?}: {:#}", status.unwrap_or_default());
        }
    }

    /// Waits until it holds.
    pub async fn until(&self, holds: impl Fn() -> bool) {
        let mut versions = self.server.versions();
        loop {
            versions.borrow_and_update();
            if holds() {
                return;
            }
            versions.changed().await.unwrap();
        }
    }

    /// Does `work`, and then waits until everything is tidied up. Whatever fails in the background fails this.
    pub async fn through(&self, work: impl Future<Output = ()>) {
        let mut background = std::mem::take(&mut *self.background.lock().unwrap());
        let work = async {
            work.await;
            sleep(TIDY).await;
        };
        tokio::select! {
            Some(ended) = background.join_next() => match ended {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                ended => panic!("something in the background ended: {ended:?}"),
            },
            () = work => *self.background.lock().unwrap() = background,
        }
    }
}

impl Replica {
    /// A process, started again whenever it was stopped.
    async fn run(self) {
        let mut dice = Dice::of(self.seed, &self.name);
        for process in 0.. {
            let name = format!("operator-{}-{process}", self.name);
            let line = Line::new(&self.server, &name, &self.faults, self.seed);
            (self.disturb)(&line, &self.server);
            if self.has_lease {
                line.live(self.leading(&line)).await;
            } else {
                line.live(self.alone(&line)).await;
            }
            sleep(dice.between(RESTART.0, RESTART.1)).await;
        }
    }

    fn context(&self, line: &Line) -> Context {
        let settings = Settings {
            namespace: SYSTEM.to_owned(),
            scope: Scope::Cluster,
            store: StoreSettings { uri: "s3://memory".to_owned(), environment: Default::default(), secret_name: None },
            runner: RunnerSettings {
                image: "runner".to_owned(),
                image_pull_policy: None,
                image_pull_secrets: Vec::new(),
                service_account: "pintail-runner".to_owned(),
                allowed_service_accounts: Vec::new(),
                pod_ttl_seconds: 300,
            },
            agents: AgentSettings::default(),
            checker: CheckerSettings::default(),
            admission: None,
        };
        Context {
            client: line.client(),
            store: Store::in_memory(self.bucket.over(line)),
            clock: Arc::new(self.server.clock),
            settings: Arc::new(settings),
            metrics: Metrics::new().unwrap(),
            desk: self.desk.clone(),
            checker: None,
        }
    }

    /// A process of the operator, without a lease.
    async fn alone(&self, line: &Line) {
        let ended = run_controllers(self.context(line), CancellationToken::new()).await;
        panic!("the controllers ended: {ended:?}");
    }

    /// A process of the operator: it waits for the lease and works for as long as it has it.
    async fn leading(&self, line: &Line) {
        let candidate = Candidate::new(line.client(), SYSTEM, line.author().to_owned(), Arc::new(self.server.clock));
        let (context, stop) = (self.context(line), CancellationToken::new());
        match candidate.lead(&stop, |stop| run_controllers(context, stop)).await {
            Leadership::Ended(result) => panic!("the controllers ended: {result:?}"),
            // Whatever it has begun ends with the process.
            Leadership::Lost(_) => line.stop(),
        }
    }
}

pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

pub fn is_finished(execution: &Value) -> bool {
    condition(execution, "Succeeded").is_some_and(|condition| condition["status"] != "Unknown")
}
