//! Who is told of the end of a run, whatever goes wrong meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use pintail_protocol::{FailureClass, Work};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::check::{differences, end_state, violations};
use crate::examples::example;
use crate::kubelet::Process;
use crate::kubelet::script::{Fate, Script};
use crate::server::line::{Fault, Faults};
use crate::server::objects::{ChangeKind, Key};
use crate::server::resource::Resource;
use crate::sweep::in_parallel;
use crate::world::{NAMESPACE, World, condition};
use crate::{say, seed, simulate};

const RUN: &str = "told";
/// All attempts with their waits.
const LONGEST: Duration = Duration::from_secs(3 * 3600);

fn connection(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "pintail.dev/v1alpha1", "kind": "Connection", "metadata": { "name": name }, "spec": spec })
}

/// The plan, its sinks, the workflow `hello`, and a run of the plan.
fn objects(workflow: &str) -> Vec<Value> {
    let mut objects = example("hello").objects;
    objects.push(connection("mail", &json!({ "smtp": { "host": "mail", "from": "pintail@example.com" } })));
    let url = json!({ "secretKeyRef": { "name": "chat", "key": "url" } });
    objects.push(connection("chat", &json!({ "webhook": { "urlFrom": url } })));
    objects.push(json!({
        "apiVersion": "pintail.dev/v1alpha1", "kind": "LaunchPlan", "metadata": { "name": "summary" },
        "spec": {
            "workflowRef": { "name": workflow },
            "notifications": [
                { "phases": ["Failed", "Succeeded"], "connection": "mail", "to": ["data@example.com"] },
                { "phases": ["Failed", "Succeeded"], "connection": "chat" },
            ],
        },
    }));
    let time = "2026-11-28T02:00:00Z";
    objects.push(json!({
        "apiVersion": "pintail.dev/v1alpha1", "kind": "Execution", "metadata": { "name": RUN },
        "spec": {
            "workflowRef": { "name": workflow }, "startDeadline": "1m",
            "trigger": { "plan": "summary", "occurrence": "by-hand-1", "time": time },
        },
    }));
    objects
}

fn world(fates: &[(&str, usize, Fate)], faults: &std::sync::Arc<Faults>) -> World {
    let mut script = Script::new(seed());
    script.values = example("hello").values;
    script.fates = fates.iter().map(|(task, process, fate)| (((*task).to_owned(), *process), *fate)).collect();
    let world = World::new(script.seed, script);
    world.operate("a", faults, false, |_, _| {});
    world
}

/// Runs until everybody is told or given up.
async fn told(world: &World, workflow: &str) {
    objects(workflow).iter().for_each(|object| world.apply(object));
    let all = world.until(|| {
        let run = world.get("executions", RUN).unwrap();
        run["status"]["completionTime"].is_string() && states(&run).iter().all(|(state, _)| state != "Pending")
    });
    timeout(LONGEST, all).await.expect("everybody is told or given up");
}

fn states(run: &Value) -> Vec<(String, i64)> {
    let told = run["status"]["notifications"].as_array().cloned().unwrap_or_default();
    told.iter().map(|told| (told["state"].as_str().unwrap().to_owned(), told["attempt"].as_i64().unwrap())).collect()
}

fn verdict(world: &World) -> Value {
    let run = world.get("executions", RUN).unwrap();
    let succeeded = condition(&run, "Succeeded").unwrap();
    json!([succeeded["status"], succeeded["reason"]])
}

fn attempts(world: &World, index: usize) -> Vec<Process> {
    let task = format!("notify-{index}");
    world.kubelet.processes().into_iter().filter(|process| process.identity.task == task).collect()
}

fn ids(processes: &[Process]) -> BTreeSet<String> {
    let id = |process: &Process| match &process.work {
        Work::Notify(work) => work.message_id.clone(),
        other => panic!("{other:?}"),
    };
    processes.iter().map(id).collect()
}

fn settled(world: &World, expected: &[(&str, i64)]) {
    let run = world.get("executions", RUN).unwrap();
    let expected: Vec<_> = expected.iter().map(|(state, attempt)| ((*state).to_owned(), *attempt)).collect();
    assert_eq!(states(&run), expected, "{:#}", run["status"]["notifications"]);
    assert!(world.list("pods").is_empty(), "{:?}", world.list("pods"));
    assert_eq!(violations(world), Vec::<String>::new());
}

#[test]
fn a_broken_sink_is_tried_five_times_and_changes_nothing_of_the_result() {
    simulate(async {
        let broken: Vec<_> =
            (0..9).map(|process| ("notify-0", process, Fate::Failure(FailureClass::Transient))).collect();
        let world = world(&broken, &Faults::new([]));
        world.through(told(&world, "hello")).await;
        settled(&world, &[("Failed", 5), ("Sent", 1)]);
        assert_eq!(verdict(&world), json!(["True", "Succeeded"]));
        let run = world.get("executions", RUN).unwrap();
        let message = run["status"]["notifications"][0]["message"].as_str().unwrap();
        assert_eq!(message, "ConnectionRefused: as the script has it");
        let attempts = attempts(&world, 0);
        let starts: Vec<Timestamp> = attempts.iter().map(|process| process.from).collect();
        let waits: Vec<i64> = starts.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
        assert!(waits.windows(2).all(|pair| pair[0] < pair[1]) && waits[0] >= 10, "{waits:?}");
        assert_eq!((attempts.len(), ids(&attempts).len()), (5, 1));
    });
}

#[test]
fn what_a_sink_refuses_is_not_sent_again() {
    simulate(async {
        let refused = [("notify-0", 0, Fate::Failure(FailureClass::Permanent))];
        let world = world(&refused, &Faults::new([]));
        world.through(told(&world, "hello")).await;
        settled(&world, &[("Failed", 1), ("Sent", 1)]);
        assert_eq!(verdict(&world), json!(["True", "Succeeded"]));
    });
}

#[test]
fn a_message_whose_pod_is_lost_is_sent_again_under_its_id() {
    for (fate, attempt, processes) in [(Fate::Lost, 2, 2), (Fate::Deleted, 2, 2), (Fate::LostAfterCommit, 1, 1)] {
        simulate(async {
            let world = world(&[("notify-0", 0, fate)], &Faults::new([]));
            world.through(told(&world, "hello")).await;
            settled(&world, &[("Sent", attempt), ("Sent", 1)]);
            let attempts = attempts(&world, 0);
            assert_eq!((attempts.len(), ids(&attempts).len()), (processes, 1), "{fate:?}");
        });
    }
}

#[test]
fn a_pod_that_finds_no_place_is_given_up_in_time() {
    simulate(async {
        let nowhere: Vec<_> =
            (0..9).map(|process| ("notify-0", process, Fate::Unschedulable(Duration::from_secs(9 * 3600)))).collect();
        let world = world(&nowhere, &Faults::new([]));
        world.through(told(&world, "hello")).await;
        let run = world.get("executions", RUN).unwrap();
        assert_eq!(states(&run), [("Failed".to_owned(), 5), ("Sent".to_owned(), 1)]);
        let message = run["status"]["notifications"][0]["message"].as_str().unwrap();
        assert!(message.starts_with("Unschedulable: 0/1 nodes"), "{message}");
        assert!(world.list("pods").is_empty(), "{:?}", world.list("pods"));
    });
}

#[test]
fn a_run_that_could_not_start_is_told_as_failed() {
    simulate(async {
        let world = world(&[], &Faults::new([]));
        world.through(told(&world, "missing")).await;
        settled(&world, &[("Sent", 1), ("Sent", 1)]);
        assert_eq!(verdict(&world), json!(["False", "StartDeadlineExceeded"]));
        let Work::Notify(work) = attempts(&world, 0)[0].work.clone() else { panic!("another work") };
        assert_eq!(work.event.unwrap().event_type, "dev.pintail.execution.failed");
    });
}

#[test]
fn a_failed_task_is_told_with_the_end_of_its_log() {
    simulate(async {
        let world = world(&[("trip_time", 0, Fate::Failure(FailureClass::Permanent))], &Faults::new([]));
        world.through(told(&world, "hello")).await;
        settled(&world, &[("Sent", 1), ("Sent", 1)]);
        assert_eq!(verdict(&world), json!(["False", "TaskFailed"]));
        let Work::Notify(work) = attempts(&world, 0)[0].work.clone() else { panic!("another work") };
        assert_eq!(work.subject, "hello failed at task trip_time: told");
        assert_eq!(work.log.unwrap().task, "trip_time");
    });
}

#[test]
fn nobody_is_told_of_a_run_that_was_cancelled() {
    simulate(async {
        let world = world(&[], &Faults::new([]));
        let work = async {
            objects("hello").iter().for_each(|object| world.apply(object));
            let key = Key::new(Resource::named("executions"), NAMESPACE, RUN);
            let cancel = |run: &mut Value| run["spec"]["cancel"] = json!(true);
            world.server.apply("user", |objects| objects.modify(&key, cancel)).unwrap();
            world.finished(RUN).await;
        };
        world.through(work).await;
        settled(&world, &[]);
    });
}

#[test]
fn a_plan_that_went_meanwhile_is_not_needed() {
    simulate(async {
        let broken = [("notify-0", 0, Fate::Failure(FailureClass::Transient))];
        let world = world(&broken, &Faults::new([]));
        let work = async {
            let gone = async {
                world.until(|| !attempts(&world, 0).is_empty()).await;
                let key = Key::new(Resource::named("launchplans"), NAMESPACE, "summary");
                world.server.apply("user", |objects| objects.delete(&key, &Default::default())).unwrap();
            };
            tokio::join!(told(&world, "hello"), gone);
        };
        world.through(work).await;
        settled(&world, &[("Sent", 2), ("Sent", 1)]);
    });
}

struct Told {
    end: BTreeMap<String, String>,
    writes: Vec<String>,
    wrong: Vec<String>,
}

/// One sink is broken at first, so that there are attempts in between.
fn history(faults: &std::sync::Arc<Faults>) -> Told {
    simulate(async {
        let world = world(&[("notify-0", 0, Fate::Failure(FailureClass::Transient))], faults);
        world.through(told(&world, "hello")).await;
        let mut wrong = violations(&world);
        for index in [0, 1] {
            let attempts = attempts(&world, index);
            let sent = attempts.iter().filter(|process| matches!(process.fate, Fate::Success)).count();
            if sent == 0 || ids(&attempts).len() != 1 {
                wrong.push(format!("notification {index}: {sent} were sent, with the ids {:?}", ids(&attempts)));
            }
        }
        let log = world.server.log();
        let verdicts = log.iter().filter(|change| change.key.name == RUN && change.kind == ChangeKind::Modified);
        let verdicts: BTreeSet<String> = verdicts
            .filter(|change| change.object["status"]["completionTime"].is_string())
            .map(|change| condition(&change.object, "Succeeded").map(ToString::to_string).unwrap_or_default())
            .collect();
        if verdicts.len() != 1 {
            wrong.push(format!("the result changed: {verdicts:?}"));
        }
        Told { end: end_state(&world).await, writes: faults.writes(), wrong }
    })
}

#[test]
fn whatever_write_goes_wrong_everybody_is_told_under_one_id_and_the_result_stays() {
    let calm = history(&Faults::new([]));
    assert_eq!(calm.wrong, Vec::<String>::new());
    let faults = [Fault::StopBefore, Fault::StopAfter, Fault::LoseReply];
    let cases: Vec<_> = (1..=calm.writes.len()).flat_map(|write| faults.map(|fault| (write, fault))).collect();
    let found = in_parallel(&cases, |(write, fault)| {
        let told = history(&Faults::new([(*write, *fault)]));
        let mut found = told.wrong;
        found.extend(differences(&calm.end, &told.end));
        (!found.is_empty()).then(|| format!("{fault:?} at write {write} ({}): {found:#?}", calm.writes[write - 1]))
    });
    let (writes, kinds) = (calm.writes.len(), faults.len());
    say(&format!("swept {writes} writes x {kinds} of a run that tells of its end: {} differences", found.len()));
    assert!(found.is_empty(), "{found:#?}");
}
