//! From what happened to the Execution that it starts, and what an operator costs that has ten thousand LaunchPlans and
//! nothing to do.
//!
//! ```text
//! Artifact is Ready ─ seen ┐                          ┌─ POST ─ acknowledged ┐
//!                          │ lag                      │                      │ rival
//! Execution created ─ seen ┘     a plain Execution is └─ seen ───────────────┘
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::measure::{Failure, Times, text};
use crate::program::scratch;
use crate::steps::{ApiServer, DEADLINE, Kubelet, Operator, create, kind};

/// Versions that are published, one after another.
const VERSIONS: usize = 200;
/// Plans with a schedule of each minute.
const MINUTELY: usize = 100;
/// Plans that wait for what does not happen.
const IDLE_PLANS: usize = 10_000;
/// How long an operator is watched that has nothing to do.
const IDLE: Duration = Duration::from_secs(60);

pub fn run() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| format!("cannot start threads: {error}"))?.block_on(measure())
}

async fn measure() -> Result<(), Failure> {
    let folder = scratch()?;
    let server = ApiServer::start()?;
    let client = server.client().await?;
    let _kubelet = Kubelet::start(client.clone(), folder.path()).await?;
    let operator = Operator::start(&server, &client, folder.path()).await?;
    println!("Launches: from what happened to the Execution that it starts");
    let executions = Sightings::of(kind(&client, "Execution"), occurrence);
    versions(&client, &executions).await?;
    ticks(&client, &executions).await?;
    idle(&client, &operator).await
}

/// When objects were first seen, by a key of theirs.
#[derive(Clone, Default)]
struct Sightings(Arc<Mutex<HashMap<String, (Instant, Timestamp)>>>);

impl Sightings {
    fn of(objects: Api<DynamicObject>, key: fn(&DynamicObject) -> Option<String>) -> Self {
        let sightings = Self::default();
        let kept = sightings.clone();
        tokio::spawn(async move {
            let mut seen = watcher(objects, watcher::Config::default()).default_backoff().applied_objects().boxed();
            while let Some(object) = seen.next().await {
                let now = (Instant::now(), Timestamp::now());
                if let Some(key) = object.ok().as_ref().and_then(key) {
                    kept.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(now);
                }
            }
        });
        sightings
    }

    fn get(&self, key: &str) -> Option<(Instant, Timestamp)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    async fn wait(&self, key: &str) -> Result<Instant, Failure> {
        let start = Instant::now();
        loop {
            match self.get(key) {
                Some((at, _)) => return Ok(at),
                None if start.elapsed() > DEADLINE => return Err(format!("{key} was not seen")),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

/// What started an Execution: the plan and its occurrence; of others the name.
fn occurrence(execution: &DynamicObject) -> Option<String> {
    let trigger = &execution.data["spec"]["trigger"];
    match (trigger["plan"].as_str(), trigger["occurrence"].as_str()) {
        (Some(plan), Some(occurrence)) => Some(format!("{plan}/{occurrence}")),
        _ => Some(execution.name_any()),
    }
}

fn ready(object: &DynamicObject) -> Option<String> {
    let conditions = object.data["status"]["conditions"].as_array()?;
    let is_ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
    is_ready.then(|| object.name_any())
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "pintail.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn plan(name: &str, workflow: &str, trigger: &Value) -> Value {
    object("LaunchPlan", name, &json!({ "workflowRef": { "name": workflow }, "triggers": [trigger] }))
}

async fn versions(client: &Client, executions: &Sightings) -> Result<(), Failure> {
    let [workflows, plans, artifacts] = ["Workflow", "LaunchPlan", "Artifact"].map(|name| kind(client, name));
    let taker = json!({
        "inputs": [{ "name": "given", "type": "table" }],
        "tasks": [{ "name": "t0", "uses": ["given"], "duckdb": { "query": "FROM given" } }],
    });
    create(&workflows, &object("Workflow", "taker", &taker)).await?;
    let trigger = json!({
        "name": "published", "artifacts": [{ "name": "data" }], "inputs": { "given": "$(trigger.artifacts.data)" },
    });
    create(&plans, &plan("follow", "taker", &trigger)).await?;
    Sightings::of(plans.clone(), ready).wait("follow").await?;
    let published = Sightings::of(artifacts.clone(), ready);
    let plain = kind(client, "Execution");
    let (mut lags, mut rivals) = (Vec::new(), Vec::new());
    for number in 0..VERSIONS {
        let name = format!("data-{number}");
        create(&artifacts, &object("Artifact", &name, &version())).await?;
        let at = published.wait(&name).await?;
        lags.push(executions.wait(&format!("follow/{name}")).await?.saturating_duration_since(at));
        let (name, start) = (format!("plain-{number}"), Instant::now());
        create(&plain, &object("Execution", &name, &json!({ "workflowRef": { "name": "chain" } }))).await?;
        rivals.push(executions.wait(&name).await?.saturating_duration_since(start));
    }
    let (lags, rivals) = (Times::new(lags), Times::new(rivals));
    print("Artifact Ready to Execution created", &lags);
    println!(
        "    an Execution that is created by itself, to the sight of it: {}, ratio {:.2}",
        text(rivals.percentile(50)),
        lags.ratio(&rivals)
    );
    Ok(())
}

fn version() -> Value {
    json!({
        "artifact": "data", "createdAt": Timestamp::now().to_string(), "uri": "s3://elsewhere/data.parquet", "rows": 1,
        "bytes": 300, "columns": [{ "name": "a", "type": "INTEGER" }], "digest": format!("sha256:{:064}", 0),
    })
}

async fn ticks(client: &Client, executions: &Sightings) -> Result<(), Failure> {
    let plans = kind(client, "LaunchPlan");
    let minutely = |number| {
        plan(&format!("minutely-{number}"), "chain", &json!({ "name": "minute", "schedule": { "cron": "* * * * *" } }))
    };
    for number in 0..MINUTELY {
        create(&plans, &minutely(number)).await?;
    }
    let start = Instant::now();
    let of_ticks =
        || -> Vec<String> { executions.keys().into_iter().filter(|key| key.starts_with("minutely-")).collect() };
    while of_ticks().len() < 2 * MINUTELY {
        if start.elapsed() > DEADLINE {
            return Err(format!("{} of {} ticks started a run", of_ticks().len(), 2 * MINUTELY));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let lag = |key: &String| {
        let tick: Timestamp = key.split_once('/')?.1.parse().ok()?;
        Duration::try_from(executions.get(key)?.1.duration_since(tick)).ok()
    };
    print(
        &format!("tick to Execution created, {MINUTELY} plans at each minute"),
        &Times::new(of_ticks().iter().filter_map(lag).collect()),
    );
    for number in 0..MINUTELY {
        plans
            .delete(&format!("minutely-{number}"), &kube::api::DeleteParams::default())
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn idle(client: &Client, operator: &Operator) -> Result<(), Failure> {
    println!("  an operator with nothing to do, for {} s", IDLE.as_secs());
    until_tidy(client).await?;
    idle_for(operator, "without more LaunchPlans").await?;
    let plans = kind(client, "LaunchPlan");
    let made = |number: usize| {
        let plans = plans.clone();
        let trigger = match number % 2 {
            0 => json!({ "name": "yearly", "schedule": { "cron": "0 0 1 1 *", "timeZone": "Europe/Berlin" } }),
            _ => json!({ "name": "published", "artifacts": [{ "name": format!("never{number}") }] }),
        };
        async move { create(&plans, &plan(&format!("idle-{number}"), "chain", &trigger)).await }
    };
    let known = Sightings::of(plans.clone(), ready);
    let start = Instant::now();
    stream::iter(0..IDLE_PLANS).map(made).buffer_unordered(32).try_for_each(|()| async { Ok(()) }).await?;
    for number in 0..IDLE_PLANS {
        known.wait(&format!("idle-{number}")).await?;
    }
    println!("    {IDLE_PLANS} LaunchPlans are Ready {} after the first was created", text(start.elapsed()));
    idle_for(operator, &format!("with {IDLE_PLANS} LaunchPlans")).await
}

/// The operator deletes the pods of what ran a minute after they ended.
async fn until_tidy(client: &Client) -> Result<(), Failure> {
    let pods = Api::<Pod>::all(client.clone());
    let start = Instant::now();
    while !pods.list(&ListParams::default().limit(1)).await.map_err(|error| error.to_string())?.items.is_empty() {
        if start.elapsed() > DEADLINE {
            return Err("pods of runs that ended are still there".to_owned());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// The processor time and the requests of a minute in which nothing happens.
async fn idle_for(operator: &Operator, what: &str) -> Result<(), Failure> {
    // What was just made is to be done with.
    let start = Instant::now();
    while requests_within(operator, Duration::from_secs(5)).await?.keys().any(|name| name != "update leases") {
        if start.elapsed() > DEADLINE {
            return Err("the operator does not come to rest".to_owned());
        }
    }
    let before = operator.process.usage()?;
    let made = requests_within(operator, IDLE).await?;
    let after = operator.process.usage()?;
    let made: Vec<String> = made.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!(
        "    {what}: {:.2} ms of processor time a second, {} MiB at most, requests: {}",
        after.since(before).processor.as_secs_f64() * 1e3 / IDLE.as_secs_f64(),
        after.memory_bytes >> 20,
        if made.is_empty() { "none".to_owned() } else { made.join(", ") },
    );
    Ok(())
}

/// The requests that the operator makes meanwhile, by verb and resource.
async fn requests_within(operator: &Operator, time: Duration) -> Result<BTreeMap<String, f64>, Failure> {
    let before = operator.requests().await?;
    tokio::time::sleep(time).await;
    let after = operator.requests().await?;
    let made = after.into_iter().map(|(name, count)| {
        let count = count - before.get(&name).copied().unwrap_or_default();
        (name, count)
    });
    Ok(made.filter(|(_, count)| *count > 0.0).collect())
}

fn print(what: &str, times: &Times) {
    println!("  {what}: p50 {}, p99 {}, of {}", text(times.percentile(50)), text(times.percentile(99)), times.len());
}
