//! LaunchPlans: whatever stops, pauses or deceives the operator, each occurrence starts one run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::check::violations;
use crate::dice::Dice;
use crate::kubelet::script::Script;
use crate::server::line::{Fault, Faults};
use crate::server::objects::ChangeKind;
use crate::sweep::in_parallel;
use crate::world::World;
use crate::{say, seed, simulate};

/// Histories of faults that are tried of each story.
const HISTORIES: u64 = 24;

fn workflow(name: &str, publishes: Option<&str>, reads: Option<&str>) -> Value {
    let inputs = reads.map(|_| json!([{ "name": "given", "type": "table" }])).unwrap_or(json!([]));
    let uses = reads.map(|_| json!(["given"])).unwrap_or(json!([]));
    let publish = publishes.map(|dataset| json!({ "artifact": dataset }));
    let mut output = json!({ "name": "one", "value": "$(tasks.one)" });
    if let Some(publish) = publish {
        output["publish"] = publish;
    }
    json!({
        "apiVersion": "pintail.dev/v1alpha1", "kind": "Workflow", "metadata": { "name": name },
        "spec": {
            "inputs": inputs,
            "tasks": [{ "name": "one", "uses": uses, "duckdb": { "query": "SELECT 1 AS number" } }],
            "outputs": [output],
        },
    })
}

fn plan(name: &str, workflow: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["workflowRef"] = json!({ "name": workflow });
    json!({ "apiVersion": "pintail.dev/v1alpha1", "kind": "LaunchPlan", "metadata": { "name": name }, "spec": spec })
}

fn schedule(cron: &str, catch_up: &str) -> Value {
    json!([{ "name": "times", "schedule": { "cron": cron, "catchUp": catch_up } }])
}

/// A run of a plan, over all of its time.
#[derive(Clone, Debug, Default)]
struct Seen {
    occurrence: String,
    created: usize,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    reason: String,
    inputs: Value,
}

/// All runs of a plan that ever were, by name.
fn runs(world: &World, plan: &str) -> BTreeMap<String, Seen> {
    let mut runs: BTreeMap<String, Seen> = BTreeMap::new();
    for change in world.server.log().iter().filter(|change| change.key.plural == "executions") {
        if change.object["spec"]["trigger"]["plan"] != plan {
            continue;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let seen = runs.entry(change.key.name.clone()).or_default();
        seen.created += usize::from(change.kind == ChangeKind::Added);
        seen.occurrence = text(&change.object["spec"]["trigger"]["occurrence"]).unwrap();
        let status = &change.object["status"];
        seen.started = time(&status["startTime"]).or(seen.started);
        seen.ended = time(&status["completionTime"]).or(seen.ended);
        if let Some(condition) = crate::world::condition(&change.object, "Succeeded") {
            seen.reason = text(&condition["reason"]).unwrap();
        }
        if status["resolved"]["inputs"].is_array() {
            seen.inputs = status["resolved"]["inputs"].clone();
        }
    }
    runs
}

/// What goes wrong in a history: a number of writes of the operator, and how many replicas there are.
fn faults(dice: &mut Dice, writes: u64) -> Vec<(usize, Fault)> {
    let fault = |dice: &mut Dice| {
        let time = dice.between(Duration::from_millis(10), Duration::from_secs(60));
        let faults = [
            Fault::StopBefore,
            Fault::StopAfter,
            Fault::LoseReply,
            Fault::Pause(time),
            Fault::Slow(time),
            Fault::Refuse(500),
            Fault::Refuse(409),
        ];
        *dice.pick(&faults)
    };
    (0..dice.below(12)).map(|_| (usize::try_from(dice.below(writes)).unwrap() + 1, fault(dice))).collect()
}

/// Tries a story with many faults; `check` gives what is wrong with an end.
fn try_all(
    what: &str,
    writes: u64,
    work: (Duration, Duration),
    story: impl AsyncFn(&World) + Sync,
    check: impl Fn(&World) -> Vec<String> + Sync,
) {
    let cases: Vec<u64> = (0..HISTORIES).collect();
    let found = in_parallel(&cases, |case| {
        let seed = seed().wrapping_mul(1000).wrapping_add(*case);
        let mut dice = Dice::of(seed, &what);
        let planned = if *case == 0 { Vec::new() } else { faults(&mut dice, writes) };
        let replicas = if *case % 2 == 0 { 1 } else { 2 };
        let mut script = Script::new(seed);
        script.work = work;
        let shown = format!("{planned:?}, {replicas} replicas");
        let problems = simulate(async {
            let world = World::new(seed, script);
            let faults = Faults::new(planned);
            for name in ["a", "b"].into_iter().take(replicas) {
                world.operate(name, &faults, replicas > 1, |_, _| {});
            }
            world.through(story(&world)).await;
            world.tell();
            let mut problems = violations(&world);
            problems.extend(check(&world));
            problems
        });
        (!problems.is_empty()).then(|| format!("seed {seed}, {shown}: {problems:#?}"))
    });
    say(&format!("{what}: {HISTORIES} histories, seed {}: {} differences", seed(), found.len()));
    found.iter().take(5).for_each(|text| println!("{text}"));
    assert!(found.is_empty());
}

const SHORT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(8));
const LONG: (Duration, Duration) = (Duration::from_secs(40), Duration::from_secs(150));

fn more_than_one(runs: &BTreeMap<String, Seen>) -> Vec<String> {
    let mut found = Vec::new();
    let mut started = BTreeSet::new();
    for (name, run) in runs {
        if run.started.is_some() && !started.insert(&run.occurrence) {
            found.push(format!("two runs of {}", run.occurrence));
        }
        if run.created > 1 {
            // A paused leader may create it anew; it must then have come to nothing.
            found.push(format!("{name} was created {} times", run.created));
        }
    }
    found
}

#[test]
fn each_tick_starts_one_run_and_none_is_missed() {
    let story = async |world: &World| {
        world.apply(&workflow("work", None, None));
        world.apply(&plan(
            "ticks",
            "work",
            json!({
                "triggers": schedule("*/5 * * * *", "All"), "history": { "keepSucceeded": 2 },
            }),
        ));
        sleep(Duration::from_secs(2 * 3600)).await;
    };
    try_all("each tick", 150, SHORT, story, |world| {
        let runs = runs(world, "ticks");
        let mut found = more_than_one(&runs);
        let finished = runs.values().filter(|run| run.reason == "Succeeded").count();
        // The first tick is five minutes after the beginning, and time goes on while all is tidied up.
        if !(24..=27).contains(&finished) || finished != runs.len() {
            found.push(format!("{finished} of {} runs succeeded", runs.len()));
        }
        let left = world.list("executions").len();
        if left > 3 {
            found.push(format!("{left} runs are kept"));
        }
        found
    });
}

#[test]
fn runs_of_a_plan_that_allows_one_never_overlap() {
    let story = async |world: &World| {
        world.apply(&workflow("work", None, None));
        world.apply(&plan(
            "queue",
            "work",
            json!({
                "triggers": schedule("* * * * *", "All"), "concurrency": { "limit": 1, "queueLimit": 100 },
            }),
        ));
        sleep(Duration::from_secs(1800)).await;
        world
            .server
            .apply("user", |objects| {
                let key = crate::server::objects::Key::new(
                    crate::server::resource::Resource::named("launchplans"),
                    crate::world::NAMESPACE,
                    "queue",
                );
                objects.modify(&key, |plan| plan["spec"]["suspend"] = json!(true))
            })
            .unwrap();
        sleep(Duration::from_secs(2 * 3600)).await;
    };
    try_all("one at a time", 150, LONG, story, |world| {
        let runs = runs(world, "queue");
        let mut found = more_than_one(&runs);
        let mut spans: Vec<_> = runs.values().map(|run| (run.started, run.ended, run.occurrence.clone())).collect();
        spans.sort();
        for pair in spans.windows(2) {
            if pair[0].1.is_none() || pair[1].0 < pair[0].1 {
                found.push(format!("two at once: {pair:?}"));
            }
            if pair[1].2 < pair[0].2 {
                found.push(format!("out of order: {pair:?}"));
            }
        }
        if !(28..=31).contains(&runs.len()) || runs.values().any(|run| run.reason != "Succeeded") {
            found.push(format!("{} runs, {:?}", runs.len(), runs.values().map(|run| &run.reason).collect::<Vec<_>>()));
        }
        found
    });
}

#[test]
fn without_room_a_run_is_skipped_or_takes_the_place_of_another() {
    for (when_full, reason) in [("Skip", "Skipped"), ("Replace", "Cancelled")] {
        let story = async |world: &World| {
            world.apply(&workflow("work", None, None));
            world.apply(&plan(
                "full",
                "work",
                json!({
                    "triggers": schedule("* * * * *", "All"), "concurrency": { "limit": 1, "whenFull": when_full },
                    "history": { "keepFailed": 1000 },
                }),
            ));
            sleep(Duration::from_secs(1200)).await;
        };
        try_all(when_full, 80, (Duration::from_secs(80), Duration::from_secs(150)), story, |world| {
            let runs = runs(world, "full");
            let mut found = more_than_one(&runs);
            let count = |reason: &str| runs.values().filter(|run| run.reason == reason).count();
            if count(reason) < 5 || runs.len() < 18 {
                found.push(format!("of {} runs {} are {reason}", runs.len(), count(reason)));
            }
            let mut spans: Vec<_> =
                runs.values().filter(|run| run.started.is_some()).map(|run| (run.started, run.ended)).collect();
            spans.sort();
            found.extend(
                spans
                    .windows(2)
                    .filter(|pair| pair[0].1.is_none() || pair[1].0 < pair[0].1)
                    .map(|pair| format!("two at once: {pair:?}")),
            );
            found
        });
    }
}

#[test]
fn each_version_starts_one_run_that_reads_it() {
    let story = async |world: &World| {
        world.apply(&workflow("make", Some("numbers"), None));
        world.apply(&workflow("take", None, Some("numbers")));
        world.apply(&plan("maker", "make", json!({ "triggers": schedule("*/10 * * * *", "All") })));
        world.apply(&plan(
            "taker",
            "take",
            json!({ "triggers": [{
            "name": "numbers", "artifacts": [{ "name": "numbers", "where": "$(artifact.rows >= 0)" }],
            "inputs": { "given": "$(trigger.artifacts.numbers)" },
        }] }),
        ));
        sleep(Duration::from_secs(2 * 3600)).await;
    };
    try_all("each version", 200, SHORT, story, |world| {
        let runs = runs(world, "taker");
        let mut found = more_than_one(&runs);
        let versions: BTreeSet<String> = world
            .list("artifacts")
            .iter()
            .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        let read: BTreeSet<String> = runs
            .values()
            .filter(|run| run.reason == "Succeeded" && run.inputs[0]["artifact"] == run.occurrence.as_str())
            .map(|run| run.occurrence.clone())
            .collect();
        if versions != read || versions.len() < 12 {
            found.push(format!("{} versions, {} read, runs {runs:#?}", versions.len(), read.len()));
        }
        found
    });
}

#[test]
fn a_run_of_several_datasets_reads_a_new_version_of_each() {
    let story = async |world: &World| {
        world.apply(&workflow("east", Some("east"), None));
        world.apply(&workflow("west", Some("west"), None));
        world.apply(&workflow("take", None, Some("east")));
        world.apply(&plan("maker-east", "east", json!({ "triggers": schedule("*/7 * * * *", "All") })));
        world.apply(&plan("maker-west", "west", json!({ "triggers": schedule("*/13 * * * *", "All") })));
        world.apply(&plan(
            "both",
            "take",
            json!({ "triggers": [{
            "name": "both", "artifacts": [{ "name": "east" }, { "name": "west" }],
            "inputs": { "given": "$(trigger.artifacts.east)" },
        }] }),
        ));
        sleep(Duration::from_secs(2 * 3600)).await;
    };
    try_all("several datasets", 250, SHORT, story, |world| {
        let runs = runs(world, "both");
        let mut found = more_than_one(&runs);
        let mut used = BTreeSet::new();
        for version in runs.values().flat_map(|run| run.occurrence.split(',').map(str::to_owned).collect::<Vec<_>>()) {
            if !used.insert(version.clone()) {
                found.push(format!("{version} was read twice"));
            }
        }
        if !(7..=13).contains(&runs.len()) {
            found.push(format!("{} runs: {runs:#?}", runs.len()));
        }
        found
    });
}

#[test]
fn a_circle_that_nobody_could_see_ends() {
    let story = async |world: &World| {
        world.apply(&workflow("ring", Some("ring"), Some("ring")));
        world.apply(&workflow("first", Some("ring"), None));
        world.apply(&plan(
            "ring",
            "ring",
            json!({ "triggers": [{
            "name": "again", "artifacts": [{ "name": "ring", "where": "$(artifact.rows >= 0)" }],
            "inputs": { "given": "$(trigger.artifacts.ring)" },
        }], "history": { "keepSucceeded": 100 } }),
        ));
        sleep(Duration::from_secs(5)).await;
        world.start("first");
        sleep(Duration::from_secs(3600)).await;
    };
    simulate(async {
        let world = World::new(seed(), Script::new(seed()));
        world.operate("a", &Faults::new([]), false, |_, _| {});
        world.through(story(&world)).await;
        assert_eq!(runs(&world, "ring").len(), 20);
        let objects = world.server.objects();
        let mut events = objects.all().map(|(_, object)| object).filter(|object| object["kind"] == "Event");
        assert!(
            events
                .any(|event| event["reason"] == "OccurrenceDropped"
                    && event["note"].as_str().unwrap().contains("circle"))
        );
    });
}

#[test]
fn what_is_pruned_does_not_fire_again() {
    simulate(async {
        let world = World::new(seed(), Script::new(seed()));
        let faults = Faults::new([]);
        world.operate("a", &faults, false, |_, _| {});
        let work = async {
            world.apply(&workflow("make", Some("numbers"), None));
            world.apply(&workflow("take", None, Some("numbers")));
            world.apply(&plan(
                "maker",
                "make",
                json!({
                    "triggers": schedule("*/10 * * * *", "All"), "history": { "keepSucceeded": 0 },
                }),
            ));
            world.apply(&plan("taker", "take", json!({ "history": { "keepSucceeded": 0 }, "triggers": [{
                "name": "numbers", "artifacts": [{ "name": "numbers" }], "inputs": { "given": "$(trigger.artifacts.numbers)" },
            }] })));
            sleep(Duration::from_secs(3600)).await;
            assert_eq!(world.list("executions").len(), 0);
            // Another process, which remembers nothing.
            world.operate("b", &faults, false, |_, _| {});
            sleep(Duration::from_secs(600)).await;
        };
        world.through(work).await;
        for plan in ["maker", "taker"] {
            let runs = runs(&world, plan);
            assert_eq!(more_than_one(&runs), Vec::<String>::new());
            assert!(runs.values().all(|run| run.reason == "Succeeded"), "{runs:#?}");
        }
    });
}
