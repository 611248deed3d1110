//! Agents and what they tell: whatever stops the operator, an occurrence that is told again starts no second run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pintail_operator::Teller;
use pintail_protocol::{Happened, Occurrence, OccurrenceAnswer, ReceivedEvent};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::check::violations;
use crate::dice::Dice;
use crate::kubelet::script::Script;
use crate::server::line::{Fault, Faults};
use crate::server::objects::{ChangeKind, Deletion, Key};
use crate::server::resource::Resource;
use crate::sweep::in_parallel;
use crate::world::{NAMESPACE, World, condition};
use crate::{say, seed, simulate};

/// Histories of faults that are tried.
const HISTORIES: u64 = 40;
const EVENTS: usize = 8;

fn install(world: &World) {
    let object = |kind: &str, name: &str, spec: Value| {
        world.apply(
            &json!({ "apiVersion": "pintail.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec }),
        );
    };
    let secret = |name: &str| json!({ "secretKeyRef": { "name": name, "key": "key" } });
    object("Connection", "hook", json!({ "webhook": { "signingKeyFrom": secret("hook") } }));
    object(
        "Connection",
        "raw",
        json!({ "s3": { "bucket": "raw", "accessKeyIdFrom": secret("raw"), "secretAccessKeyFrom": secret("raw") } }),
    );
    object(
        "Workflow",
        "work",
        json!({
            "tasks": [{ "name": "one", "duckdb": { "query": "SELECT 1 AS number" } }],
            "outputs": [{ "name": "one", "value": "$(tasks.one)" }],
        }),
    );
    object(
        "LaunchPlan",
        "orders",
        json!({
            "workflowRef": { "name": "work" },
            "triggers": [
                { "name": "hook", "event": { "type": "order", "connection": "hook" } },
                { "name": "arrivals", "object": { "connection": "raw", "path": "in/*.csv", "every": "5s" } },
            ],
            "history": { "keepSucceeded": 2 },
        }),
    );
}

fn change(world: &World, change: impl FnOnce(&mut Value)) {
    let key = Key::new(Resource::named("launchplans"), NAMESPACE, "orders");
    world.server.apply("user", |objects| objects.modify(&key, change)).unwrap();
}

fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition["status"] == "True")
}

fn agents(world: &World) -> Vec<Arc<Value>> {
    let pods = world.list("pods");
    pods.into_iter().filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/name"] == "pintail-agent").collect()
}

/// An agent that could tell of something now.
fn teller(world: &World) -> Option<Teller> {
    let pod = agents(world).into_iter().find(|pod| is_ready(pod))?;
    let text = |field: &str| pod["metadata"][field].as_str().unwrap().to_owned();
    Some(Teller { namespace: NAMESPACE.to_owned(), pod: text("name"), pod_uid: text("uid") })
}

fn event(world: &World, id: usize) -> Occurrence {
    let event = ReceivedEvent {
        id: id.to_string(),
        source: "/shop".to_owned(),
        event_type: "order".to_owned(),
        subject: None,
        time: world.server.now(),
        data: json!({}),
    };
    let (plan, trigger) = ("orders".to_owned(), "hook".to_owned());
    Occurrence { format: 1, namespace: NAMESPACE.to_owned(), plan, trigger, happened: Happened::Event(event) }
}

/// Tells as an agent does: of whatever replica answers, and again until there is an answer.
async fn tell(world: &World, occurrence: &Occurrence, dice: &mut Dice) -> OccurrenceAnswer {
    loop {
        let desk = dice.pick(&world.desks.lock().unwrap().clone()).clone();
        if let Some(teller) = teller(world)
            && let Ok(Ok(answer)) = timeout(Duration::from_secs(10), desk.tell(&teller, occurrence)).await
        {
            return answer;
        }
        sleep(dice.between(Duration::from_millis(100), Duration::from_secs(2))).await;
    }
}

fn name_of(answer: OccurrenceAnswer) -> String {
    match answer {
        OccurrenceAnswer::Execution { name } => name,
        other => panic!("{other:?}"),
    }
}

/// How often each run was created, and how often one was that ran.
fn created(world: &World) -> BTreeMap<String, usize> {
    let mut created = BTreeMap::new();
    for change in world.server.log().iter().filter(|change| change.key.plural == "executions") {
        *created.entry(change.key.name.clone()).or_default() += usize::from(change.kind == ChangeKind::Added);
    }
    created
}

/// The uids under which each run had pods: one, though a leader that was paused may create it anew for it to come to nothing.
fn ran(world: &World) -> BTreeMap<String, BTreeSet<String>> {
    let mut ran: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for process in world.kubelet.processes() {
        ran.entry(process.identity.execution).or_default().insert(process.identity.execution_uid);
    }
    ran
}

/// Two agents tell of each event at once, and later again of all.
async fn story(world: &World, dice: &mut Dice) -> Vec<String> {
    install(world);
    world.until(|| teller(world).is_some()).await;
    let mut names = Vec::new();
    let mut events = Vec::new();
    for id in 0..EVENTS {
        let event = event(world, id);
        let mut other = Dice::of(dice.next(), &id);
        let (first, second) = futures::join!(tell(world, &event, dice), tell(world, &event, &mut other));
        names.push(name_of(first));
        assert_eq!(names.last(), Some(&name_of(second)));
        events.push(event);
        sleep(dice.between(Duration::from_millis(10), Duration::from_secs(20))).await;
    }
    // All have run, and all but two are pruned.
    world.until(|| world.list("executions").len() <= 2).await;
    sleep(Duration::from_secs(120)).await;
    for (event, name) in events.iter().zip(&names) {
        assert_eq!(&name_of(tell(world, event, dice).await), name);
    }
    names
}

#[test]
fn an_event_that_is_told_again_over_any_crash_starts_one_run() {
    let cases: Vec<u64> = (0..HISTORIES).collect();
    let found = in_parallel(&cases, |case| {
        let seed = seed().wrapping_mul(1000).wrapping_add(*case);
        let mut dice = Dice::of(seed, &"occurrences");
        let fault = |dice: &mut Dice| {
            let time = dice.between(Duration::from_millis(10), Duration::from_secs(60));
            *dice.pick(&[
                Fault::StopBefore,
                Fault::StopAfter,
                Fault::LoseReply,
                Fault::Pause(time),
                Fault::Slow(time),
                Fault::Refuse(500),
            ])
        };
        let count = if *case == 0 { 0 } else { dice.below(12) };
        let planned: Vec<_> =
            (0..count).map(|_| (usize::try_from(dice.below(160)).unwrap() + 1, fault(&mut dice))).collect();
        let replicas = if *case % 2 == 0 { 1 } else { 2 };
        let shown = format!("{planned:?}, {replicas} replicas");
        let problems = simulate(async {
            let world = World::new(seed, Script::new(seed));
            let faults = Faults::new(planned);
            for name in ["a", "b"].into_iter().take(replicas) {
                world.operate(name, &faults, replicas > 1, |_, _| {});
            }
            let mut names = Vec::new();
            world.through(async { names = story(&world, &mut dice).await }).await;
            world.tell();
            let mut problems = violations(&world);
            names.sort();
            names.dedup();
            let created = created(&world);
            if names.len() != EVENTS || created.keys().ne(&names) {
                problems.push(format!("{EVENTS} events started {created:?}, and {names:?} was answered"));
            }
            problems.extend(
                ran(&world).into_iter().filter(|(_, uids)| uids.len() != 1).map(|run| format!("ran twice: {run:?}")),
            );
            problems
        });
        (!problems.is_empty()).then(|| format!("seed {seed}, {shown}: {problems:#?}"))
    });
    say(&format!(
        "{HISTORIES} histories of {EVENTS} events, each told three times, seed {}: {} differences",
        seed(),
        found.len()
    ));
    found.iter().take(5).for_each(|text| println!("{text}"));
    assert!(found.is_empty());
}

#[test]
fn an_agent_is_replaced_when_it_is_ready_and_goes_when_nothing_waits() {
    simulate(async {
        let world = World::new(seed(), Script::new(seed()));
        world.operate("a", &Faults::new([]), false, |_, _| {});
        let work = async {
            install(&world);
            world.until(|| teller(&world).is_some() && world.get("services", "pintail-agent").is_some()).await;
            let first = teller(&world).unwrap();
            change(&world, |plan| plan["spec"]["triggers"][1]["object"]["path"] = json!("in/**/*.csv"));
            world.until(|| agents(&world).iter().all(|pod| pod["metadata"]["name"] != first.pod.as_str())).await;
            assert_eq!(agents(&world).iter().filter(|pod| is_ready(pod)).count(), 1);
            assert_eq!(without_an_agent(&world), Vec::<String>::new());
            // Someone deletes it: another is made.
            let second = teller(&world).unwrap();
            let key = Key::new(Resource::named("pods"), NAMESPACE, &second.pod);
            world.server.apply("user", |objects| objects.delete(&key, &Deletion::default())).unwrap();
            world.until(|| teller(&world).is_some_and(|teller| teller.pod_uid != second.pod_uid)).await;
            // Without events there is no Service, and when all is suspended nothing.
            change(&world, |plan| drop(plan["spec"]["triggers"].as_array_mut().unwrap().remove(0)));
            world.until(|| world.get("services", "pintail-agent").is_none()).await;
            world.until(|| teller(&world).is_some()).await;
            change(&world, |plan| plan["spec"]["suspend"] = json!(true));
            world.until(|| agents(&world).is_empty()).await;
        };
        world.through(work).await;
        assert!(agents(&world).is_empty() && world.list("services").is_empty());
    });
}

/// Moments at which the operator took a ready agent away while no other was ready.
fn without_an_agent(world: &World) -> Vec<String> {
    let mut ready: BTreeMap<String, bool> = BTreeMap::new();
    let mut found = Vec::new();
    for change in world.server.log().iter().filter(|change| change.key.plural == "pods") {
        let is_there = change.kind != ChangeKind::Deleted && change.object["metadata"]["deletionTimestamp"].is_null();
        let before = ready.values().any(|ready| *ready);
        ready.insert(change.key.name.clone(), is_there && is_ready(&change.object));
        if before && !ready.values().any(|ready| *ready) {
            found.push(change.key.name.clone());
        }
    }
    found
}

#[test]
fn a_plan_whose_agent_cannot_be_made_says_so_until_it_is() {
    simulate(async {
        let world = World::new(seed(), Script::new(seed()));
        world.operate("a", &Faults::new([]), false, |_, _| {});
        let work = async {
            let account = Key::new(Resource::named("serviceaccounts"), NAMESPACE, "pintail-runner");
            world.server.apply("user", |objects| objects.delete(&account, &Deletion::default())).unwrap();
            install(&world);
            let ready =
                || condition(&world.get("launchplans", "orders").unwrap(), "Ready").cloned().unwrap_or_default();
            world.until(|| ready()["reason"] == "AgentUnavailable").await;
            assert_eq!(ready()["status"], "False");
            assert!(ready()["message"].as_str().unwrap().contains("pintail-runner"), "{}", ready());
            world.apply(
                &json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "pintail-runner" } }),
            );
            world.until(|| ready()["status"] == "True").await;
            world.until(|| teller(&world).is_some()).await;
        };
        world.through(work).await;
    });
}

#[test]
fn only_an_agent_of_the_namespace_is_listened_to_and_none_that_is_out_of_date() {
    simulate(async {
        let world = World::new(seed(), Script::new(seed()));
        world.operate("a", &Faults::new([]), false, |_, _| {});
        let work = async {
            install(&world);
            world.until(|| teller(&world).is_some()).await;
            let desk = world.desks.lock().unwrap()[0].clone();
            let agent = teller(&world).unwrap();
            let told = event(&world, 1);
            let stranger = Teller { pod_uid: "another".to_owned(), ..agent.clone() };
            let refused = desk.tell(&stranger, &told).await.unwrap_err();
            assert!(refused.to_string().contains("is no agent that the operator made"), "{refused}");
            let elsewhere = Occurrence { namespace: "default".to_owned(), ..told.clone() };
            assert!(
                desk.tell(&agent, &elsewhere).await.unwrap_err().to_string().contains("tells of namespace default")
            );
            // The trigger is another one now.
            change(&world, |plan| plan["spec"]["triggers"][0]["event"]["type"] = json!("other"));
            sleep(Duration::from_millis(500)).await;
            let refused = desk.tell(&agent, &told).await.unwrap_err();
            assert!(refused.to_string().contains("another takes its place"), "{refused}");
            world.until(|| teller(&world).is_some_and(|now| now.pod != agent.pod)).await;
            let agent = teller(&world).unwrap();
            // It happened before the trigger was changed.
            let answer = desk.tell(&agent, &told).await.unwrap();
            assert!(matches!(answer, OccurrenceAnswer::Dropped { .. }), "{answer:?}");
            let answer = desk.tell(&agent, &event(&world, 2)).await.unwrap();
            assert!(matches!(answer, OccurrenceAnswer::Execution { .. }), "{answer:?}");
        };
        world.through(work).await;
        assert_eq!(created(&world).len(), 1);
    });
}
