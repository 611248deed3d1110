use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::Connections;
use pintail_plan::{PlannedLaunch, compile_launch_plan};
use pintail_protocol::{
    ArrivedObject, FORMAT, Happened, ORDER_VARIABLE_BYTES, Occurrence, ReceivedEvent, StoreLocation, decode_agent,
};
use serde_json::{Value, json};

use super::occurrence::{Decided, Refused, decide};
use super::order::{KnownPlan, Wanted, needs_agent, wanted};
use super::pod::{build, is_agent, knows_until, order_text, service};
use super::steps::{Steps, steps};
use crate::Settings;
use crate::controllers::runner::OrderText;

const SINCE: &str = "2026-11-20T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn settings() -> Settings {
    let text = json!({
        "namespace": "pintail-system",
        "store": { "uri": "s3://lake/pintail", "environment": { "AWS_REGION": "eu-west-1" }, "secretName": "pintail-store" },
        "runner": { "image": "registry.example.com/pintail-runner@sha256:00", "imagePullSecrets": ["pull"],
                    "serviceAccount": "pintail-runner", "podTtlSeconds": 3600 },
    });
    Settings::parse(&text.to_string()).expect("settings")
}

fn connections() -> Connections {
    let secret = |name: &str, key: &str| json!({ "secretKeyRef": { "name": name, "key": key } });
    let specs = [
        (
            "raw",
            json!({ "s3": { "bucket": "raw", "prefix": "in", "accessKeyIdFrom": secret("raw", "id"), "secretAccessKeyFrom": secret("raw", "key") } }),
        ),
        ("hook", json!({ "webhook": { "urlFrom": secret("chat", "url"), "signingKeyFrom": secret("hook", "key") } })),
        ("laptop", json!({ "folder": { "path": "data" } })),
        ("mail", json!({ "smtp": { "host": "mail", "from": "a@example.com" } })),
    ];
    let connection = |(name, spec): (&str, Value)| {
        let spec = serde_json::from_value(spec).expect("a connection");
        (name.to_owned(), Arc::new(api::Connection::new(name, spec)))
    };
    specs.map(connection).into()
}

fn launch(name: &str, triggers: Value) -> PlannedLaunch {
    let plan =
        json!({ "metadata": { "name": name }, "spec": { "workflowRef": { "name": "w" }, "triggers": triggers } });
    compile_launch_plan(&serde_json::from_value(plan).expect("a plan")).expect("a valid plan")
}

/// Every trigger was recorded at [`SINCE`].
fn status(launch: &PlannedLaunch) -> api::LaunchPlanStatus {
    let triggers = launch.triggers.iter().map(|trigger| api::TriggerStatus {
        name: trigger.name.clone(),
        definition: trigger.definition.clone(),
        since: SINCE.to_owned(),
        ..api::TriggerStatus::default()
    });
    api::LaunchPlanStatus { triggers: triggers.collect(), ..api::LaunchPlanStatus::default() }
}

fn arrivals() -> PlannedLaunch {
    launch(
        "arrivals",
        json!([
            { "name": "files", "object": { "connection": "raw", "path": "*.csv", "every": "5s", "start": "Beginning" } },
            { "name": "nightly", "schedule": { "cron": "0 2 * * *" } },
        ]),
    )
}

fn orders() -> PlannedLaunch {
    launch("orders", json!([{ "name": "hook", "event": { "type": "order", "source": "/shop", "connection": "hook" } }]))
}

fn of(plans: &[(&PlannedLaunch, &api::LaunchPlanStatus)]) -> Option<Wanted> {
    let store = StoreLocation::S3 { bucket: "lake".to_owned(), prefix: "pintail".to_owned() };
    let known = plans.iter().map(|(launch, status)| KnownPlan { uid: "p1", launch, status });
    wanted(
        "data",
        &known.collect::<Vec<_>>(),
        &connections(),
        &store,
        "http://pintail-operator-agents.pintail-system.svc",
    )
}

fn both() -> Wanted {
    let (arrivals, orders) = (arrivals(), orders());
    of(&[(&arrivals, &status(&arrivals)), (&orders, &status(&orders))]).expect("an agent is needed")
}

#[test]
fn the_order_of_a_namespace_has_all_of_its_triggers_and_no_more_secrets_than_they_need() {
    let wanted = both();
    insta::assert_json_snapshot!(json!({ "order": wanted.order, "secrets": wanted.secrets, "since": wanted.since }));
}

#[test]
fn a_trigger_that_is_not_recorded_or_cannot_be_is_left_out() {
    let orders = orders();
    let recorded = status(&orders);
    assert!(of(&[(&orders, &recorded)]).is_some());
    assert_eq!(of(&[(&orders, &api::LaunchPlanStatus::default())]), None);
    let mut changed = recorded.clone();
    changed.triggers[0].definition = "another".to_owned();
    assert_eq!(of(&[(&orders, &changed)]), None);
    // It was resumed, and since when it counts is not written yet.
    assert_eq!(of(&[(&orders, &api::LaunchPlanStatus { suspended: true, ..recorded.clone() })]), None);
    let suspended = PlannedLaunch { suspended: true, ..orders.clone() };
    assert_eq!(of(&[(&suspended, &recorded)]), None);
    assert!(needs_agent(&orders) && !needs_agent(&suspended));
    for connection in ["laptop", "mail", "nowhere"] {
        let launch = launch("p", json!([{ "name": "t", "object": { "connection": connection, "path": "x" } }]));
        assert_eq!(of(&[(&launch, &status(&launch))]), None, "{connection}");
    }
}

#[test]
fn the_pod_of_an_agent_is_restricted_and_holds_the_names_of_secrets_only() {
    let wanted = both();
    let (text, stored) = order_text(&wanted).expect("a text");
    assert_eq!(stored, None);
    let mut pod = build(&wanted, &text, &settings());
    assert!(is_agent(&pod));
    assert_eq!(knows_until(&pod), Some(at(SINCE)));
    let variables = pod.spec.as_mut().unwrap().containers[0].env.as_mut().unwrap();
    let order = variables.iter_mut().find(|variable| variable.name == "PINTAIL_AGENT").unwrap().value.as_mut().unwrap();
    assert_eq!(decode_agent(order).unwrap(), wanted.order);
    // zstd may pack it otherwise some day.
    *order = "the order".to_owned();
    pod.metadata.name = Some("pintail-agent-digest".to_owned());
    insta::assert_json_snapshot!(json!([pod, service("data")]));
}

#[test]
fn another_order_is_another_pod_and_the_same_is_the_same() {
    let name = |wanted: &Wanted| build(wanted, &order_text(wanted).unwrap().0, &settings()).name_any();
    let wanted = both();
    assert_eq!(name(&wanted), name(&both()));
    let later = Wanted { since: wanted.since + SignedDuration::from_secs(1), ..wanted.clone() };
    assert_ne!(name(&wanted), name(&later));
    let mut other = wanted.clone();
    other.order.events.clear();
    assert_ne!(name(&wanted), name(&other));
}

#[test]
fn an_order_that_is_too_long_for_a_variable_is_an_object_of_the_store() {
    let mut wanted = both();
    let hook = wanted.order.events[0].clone();
    // Packing makes little of what repeats.
    wanted.order.events = (0..4000u64)
        .map(|index| {
            let noise = pintail_execution::label_digest(&[&index.to_string()]);
            pintail_protocol::EventHook { plan: format!("{noise}{noise}"), ..hook.clone() }
        })
        .collect();
    let (text, stored) = order_text(&wanted).unwrap();
    let stored = stored.unwrap();
    assert!(stored.len() > ORDER_VARIABLE_BYTES);
    let OrderText::Object(object) = &text else { panic!("{text:?}") };
    assert!(object.starts_with("data/agents/") && object.contains("#blake3:"), "{object}");
    let pod = build(&wanted, &text, &settings());
    let variables = pod.spec.unwrap().containers.remove(0).env.unwrap();
    let value =
        |name: &str| variables.iter().find(|variable| variable.name == name).and_then(|found| found.value.clone());
    assert_eq!(value("PINTAIL_AGENT_OBJECT").as_ref(), Some(object));
    assert_eq!(value("PINTAIL_STORE").as_deref(), Some("s3://lake/pintail"));
    assert_eq!(value("PINTAIL_AGENT"), None);
}

// --- what becomes of pods

fn pod(name: &str, made_at: &str, status: Value) -> Arc<Pod> {
    let metadata = json!({ "name": name, "uid": name, "creationTimestamp": made_at });
    Arc::new(serde_json::from_value(json!({ "metadata": metadata, "status": status })).expect("a pod"))
}

fn ready() -> Value {
    json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] })
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({ "phase": "Pending", "containerStatuses": [{
        "name": "agent", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": reason, "message": message } } }] })
}

const NOW: &str = "2026-11-20T13:00:00Z";
const JUST_NOW: &str = "2026-11-20T12:59:58Z";

fn taken(pods: &[Arc<Pod>], wanted: Option<&str>) -> Steps {
    steps(pods, wanted, Some("pintail-store"), at(NOW))
}

fn deleted(steps: &Steps) -> Vec<&str> {
    steps.delete.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_pod_gives_way_when_the_next_is_ready() {
    let (old, new) = (pod("old", SINCE, ready()), |status| pod("new", JUST_NOW, status));
    let made = taken(std::slice::from_ref(&old), Some("new"));
    assert!(made.create && made.delete.is_empty());
    let starting = taken(&[new(json!({ "phase": "Pending" })), old.clone()], Some("new"));
    assert!(!starting.create && starting.delete.is_empty() && starting.look_again.is_some());
    assert_eq!(deleted(&taken(&[new(ready()), old.clone()], Some("new"))), ["old"]);
    // One that never worked is of no use.
    let stuck = pod("stuck", SINCE, waiting("ErrImagePull", "not found"));
    assert_eq!(deleted(&taken(&[old.clone(), stuck.clone()], Some("new"))), ["stuck"]);
    assert_eq!(deleted(&taken(&[old, stuck], None)), ["old", "stuck"]);
    assert_eq!(taken(&[], None), Steps::default());
}

#[test]
fn a_pod_that_ended_is_made_again_and_not_at_once() {
    let ended = json!({ "phase": "Failed", "reason": "Evicted" });
    let young = taken(&[pod("a", JUST_NOW, ended.clone())], Some("a"));
    assert!(young.delete.is_empty() && !young.create);
    assert_eq!(young.look_again, Some(std::time::Duration::from_secs(28)));
    assert_eq!(deleted(&taken(&[pod("a", SINCE, ended)], Some("a"))), ["a"]);
    let mut leaving = (*pod("a", SINCE, ready())).clone();
    leaving.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(JUST_NOW)));
    let steps = taken(&[Arc::new(leaving.clone())], Some("a"));
    assert!(!steps.create && steps.delete.is_empty() && steps.by_force.is_empty() && steps.look_again.is_some());
    // Its node is lost.
    leaving.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(SINCE)));
    assert_eq!(taken(&[Arc::new(leaving)], Some("a")).by_force.len(), 1);
}

#[test]
fn a_pod_that_does_not_start_is_told_of_with_the_words_of_the_cluster() {
    let trouble = |made_at: &str, status: Value| taken(&[pod("a", made_at, status)], Some("a")).trouble;
    let missing = waiting("CreateContainerConfigError", "secret \"hook\" not found");
    assert_eq!(trouble(JUST_NOW, missing.clone()), None);
    assert_eq!(trouble(SINCE, missing).unwrap(), "the pod a waits (SecretMissing): secret \"hook\" not found");
    assert_eq!(trouble(SINCE, json!({ "phase": "Running" })).unwrap(), "the pod a is not ready yet");
    let mut crashing = waiting("CrashLoopBackOff", "back-off 10s");
    crashing["containerStatuses"][0]["lastState"] =
        json!({ "terminated": { "exitCode": 2, "message": "a\nInvalidOrder: the order is of a newer format" } });
    let expected = "the pod a ends again and again: InvalidOrder: the order is of a newer format";
    assert_eq!(trouble(SINCE, crashing).unwrap(), expected);
    assert_eq!(trouble(SINCE, ready()), None);
}

// --- what is told

fn event(time: &str) -> Happened {
    Happened::Event(ReceivedEvent {
        id: "1".to_owned(),
        source: "/shop".to_owned(),
        event_type: "order".to_owned(),
        subject: None,
        time: at(time),
        data: json!({ "secret": "x" }),
    })
}

fn object() -> Happened {
    Happened::Object(ArrivedObject {
        path: "a.csv".to_owned(),
        uri: "s3://raw/in/a.csv".to_owned(),
        bytes: 1,
        version: "e1".to_owned(),
        // Long before the trigger was: whether it counts is the agent's business.
        modified_at: Timestamp::UNIX_EPOCH,
    })
}

fn told(launch: &PlannedLaunch, trigger: &str, happened: Happened, knows_until: &str) -> Result<Decided, Refused> {
    let (namespace, plan) = ("data".to_owned(), launch.name.clone());
    let occurrence = Occurrence { format: FORMAT, namespace, plan, trigger: trigger.to_owned(), happened };
    decide(launch, &status(launch), &occurrence, at(knows_until))
}

#[test]
fn what_is_told_starts_the_run_that_is_named_after_it() {
    let name = |decided: Result<Decided, Refused>| match decided {
        Ok(Decided::Run(run)) => run.name_any(),
        other => panic!("{other:?}"),
    };
    let (orders, arrivals) = (orders(), arrivals());
    let first = name(told(&orders, "hook", event(NOW), SINCE));
    assert!(first.starts_with("orders-"), "{first}");
    // A sender may repeat an event with another time.
    assert_eq!(first, name(told(&orders, "hook", event("2026-11-20T13:00:01Z"), NOW)));
    assert!(name(told(&arrivals, "files", object(), SINCE)).starts_with("arrivals-"));
}

#[test]
fn what_starts_nothing_is_dropped_and_what_is_not_known_yet_is_to_be_told_again() {
    let orders = orders();
    let dropped = |decided: Result<Decided, Refused>| matches!(decided, Ok(Decided::Nothing(_)));
    assert!(dropped(told(&orders, "gone", event(NOW), SINCE)));
    assert!(dropped(told(&orders, "hook", object(), SINCE)));
    assert!(dropped(told(&orders, "hook", event("2026-11-20T11:59:59Z"), SINCE)));
    assert!(dropped(told(&PlannedLaunch { suspended: true, ..orders.clone() }, "hook", event(NOW), SINCE)));
    // The agent is from before the trigger was changed.
    assert!(matches!(told(&orders, "hook", event(NOW), "2026-11-20T11:59:59Z"), Err(Refused::Later(_))));
    let occurrence = Occurrence {
        format: FORMAT,
        namespace: "data".to_owned(),
        plan: "orders".to_owned(),
        trigger: "hook".to_owned(),
        happened: event(NOW),
    };
    let unseen = decide(&orders, &api::LaunchPlanStatus::default(), &occurrence, at(NOW));
    assert!(matches!(unseen, Err(Refused::Later(_))));
}
