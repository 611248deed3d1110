//! Everything at once, by seeds: pods that fail in all ways, writes that go wrong, watches that are cut, frozen or repeat
//! themselves, servers that are behind, and two replicas of which any may be paused.

use std::collections::BTreeMap;
use std::time::Duration;

use pintail_protocol::FailureClass;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::check::violations;
use crate::dice::Dice;
use crate::examples::{Example, examples};
use crate::kubelet::script::{Fate, Script};
use crate::server::Server;
use crate::server::line::{Fault, Faults, Line};
use crate::sweep::in_parallel;
use crate::world::{World, condition};
use crate::{say, seed, simulate};

/// How many histories are tried; `PINTAIL_HISTORIES` asks for others.
const HISTORIES: u64 = 30;

/// What of an end must be the same whatever went wrong.
type Outcome = BTreeMap<String, Value>;

struct Case<'a> {
    seed: u64,
    example: &'a Example,
    script: Script,
    faults: Vec<(usize, Fault)>,
    replicas: usize,
}

fn fate(dice: &mut Dice) -> Fate {
    let time = dice.between(Duration::from_secs(1), Duration::from_secs(240));
    let fates = [
        Fate::Success,
        Fate::Success,
        Fate::Success,
        Fate::Failure(FailureClass::Transient),
        Fate::Failure(FailureClass::Infrastructure),
        Fate::Failure(FailureClass::Busy),
        Fate::Evicted,
        Fate::OutOfMemory,
        Fate::ImageMissing(time),
        Fate::Unschedulable(time),
        Fate::Deleted,
        Fate::Lost,
        Fate::LostAfterCommit,
        Fate::RemovedAfterSuccess,
    ];
    *dice.pick(&fates)
}

fn fault(dice: &mut Dice) -> Fault {
    let time = dice.between(Duration::from_millis(10), Duration::from_secs(40));
    let code = *dice.pick(&[409, 429, 500, 503]);
    let faults = [
        Fault::StopBefore,
        Fault::StopAfter,
        Fault::LoseReply,
        Fault::Late(time),
        Fault::Slow(time),
        Fault::Pause(time),
        Fault::Refuse(code),
    ];
    *dice.pick(&faults)
}

fn case(seed: u64, examples: &[Example]) -> Case<'_> {
    let mut dice = Dice::new(seed);
    let example = dice.pick(examples);
    let mut script = Script::new(seed);
    script.values.clone_from(&example.values);
    if dice.one_in(2) {
        // A task has two processes at most that come to a bad end, so that no budget runs out.
        for task in tasks(example) {
            for process in 0..dice.below(3) {
                script.fates.insert((task.clone(), usize::try_from(process).unwrap()), fate(&mut dice));
            }
        }
    }
    let faults = (0..dice.below(6)).map(|_| (usize::try_from(dice.below(80)).unwrap() + 1, fault(&mut dice))).collect();
    let replicas = usize::try_from(dice.below(3)).unwrap();
    Case { seed, example, script, faults, replicas }
}

fn tasks(example: &Example) -> Vec<String> {
    let workflows = example.objects.iter().filter(|object| object["kind"] == "Workflow");
    let tasks = workflows.flat_map(|workflow| workflow["spec"]["tasks"].as_array().unwrap());
    tasks.map(|task| task["name"].as_str().unwrap().to_owned()).collect()
}

/// Disturbs how a process sees the world, again and again.
async fn disturb(line: Line, server: Server) {
    let mut dice = Dice::of(server.seed(), &line.author());
    for _ in 0..12 {
        sleep(dice.between(Duration::from_millis(100), Duration::from_secs(15))).await;
        let time = dice.between(Duration::from_millis(100), Duration::from_secs(30));
        match dice.below(6) {
            0 => line.cut_watches(),
            1 => {
                line.freeze(true);
                sleep(time).await;
                line.freeze(false);
            }
            2 => {
                let behind = server.objects().version.saturating_sub(dice.below(30)).max(100);
                line.talk_to_a_server_at(Some(behind));
                line.cut_watches();
                sleep(time).await;
                line.talk_to_a_server_at(None);
            }
            3 => {
                line.repeat_old_events(dice.below(40));
                line.cut_watches();
            }
            4 => {
                server.compact();
                line.cut_watches();
            }
            _ => {}
        }
    }
}

fn run(case: &Case<'_>, calm: bool) -> (Outcome, Vec<String>) {
    simulate(async {
        let world = World::new(case.seed, case.script.clone());
        let faults = Faults::new(if calm { Vec::new() } else { case.faults.clone() });
        let trouble: fn(&Line, &Server) = |line, server| {
            tokio::spawn(disturb(line.clone(), server.clone()));
        };
        let trouble = if calm { |_: &Line, _: &Server| {} } else { trouble };
        for name in ["a", "b"].into_iter().take(case.replicas.max(1)) {
            world.operate(name, &faults, case.replicas > 0, trouble);
        }
        world.through(world.run(case.example)).await;
        world.tell();
        (outcome(&world), violations(&world))
    })
}

fn outcome(world: &World) -> Outcome {
    let mut outcome = Outcome::new();
    for execution in world.list("executions") {
        let status = &execution["status"];
        let verdict =
            condition(&execution, "Succeeded").map(|condition| json!([condition["status"], condition["reason"]]));
        let tasks = status["taskList"].as_array().cloned().unwrap_or_default();
        let tasks: Vec<Value> = tasks.iter().map(|task| json!([task["name"], task["state"], task["rows"]])).collect();
        let outputs = status["outputs"].as_array().cloned().unwrap_or_default();
        let outputs: Vec<Value> =
            outputs.iter().map(|output| json!([output["name"], output["rows"], output["artifact"]])).collect();
        let name = format!("execution {}", execution["metadata"]["name"]);
        outcome.insert(name, json!({ "verdict": verdict, "tasks": tasks, "outputs": outputs }));
    }
    for artifact in world.list("artifacts") {
        let spec = &artifact["spec"];
        let name = format!("artifact {}", artifact["metadata"]["name"]);
        outcome.insert(name, json!([spec["artifact"], spec["rows"], spec["digest"], spec["partition"]]));
    }
    for pod in world.list("pods") {
        outcome.insert(format!("pod {}", pod["metadata"]["name"]), Value::Null);
    }
    outcome
}

/// `PINTAIL_HISTORY` asks for one only.
fn seeds() -> Vec<u64> {
    let count = std::env::var("PINTAIL_HISTORIES").map_or(HISTORIES, |text| text.parse().expect("a number"));
    match std::env::var("PINTAIL_HISTORY") {
        Ok(one) => vec![one.parse().expect("a number")],
        Err(_) => (0..count).map(|number| seed().wrapping_mul(1_000_003).wrapping_add(number)).collect(),
    }
}

#[test]
fn whatever_goes_wrong_the_outcome_is_the_same() {
    let examples = examples();
    let seeds = seeds();
    let found = in_parallel(&seeds, |seed| {
        let case = case(*seed, &examples);
        println!(
            "seed {seed}: {} {:?} {:?}, {} replicas",
            case.example.name, case.faults, case.script.fates, case.replicas
        );
        let (calm, mut found) = run(&case, true);
        let (disturbed, more) = run(&case, false);
        found.extend(more);
        if calm != disturbed {
            found.push(format!("{calm:?} became {disturbed:?}"));
        }
        (!found.is_empty()).then(|| format!("seed {seed} ({}, {:?}): {found:#?}", case.example.name, case.faults))
    });
    let histories = seeds.len();
    say(&format!("{histories} histories of mixed faults from seed {}: {} differences", seed(), found.len()));
    found.iter().take(10).for_each(|text| println!("{text}"));
    assert!(found.is_empty());
}
