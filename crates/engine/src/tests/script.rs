//! A run as a script: the graph and what happens go in as text, and what was decided comes out below each line.
//!
//! ```text
//! max 2, on failure stop
//! a
//! b: needs a, after c, when, always, retries 2, timeout 10, items 3, lock file, share file
//! ---
//! 0                                  a pass in which nothing was seen, at second 0
//! 1 a started; b[2]#3 ended transient; b when true; cancel
//! 2 restore
//! 3 hold                             from now on, until `release`
//! ```
//!
//! An attempt is that which is under way, or `#N`; the item is 0, or `[N]`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use crate::state::RecordedState;
use crate::*;

/// Carries a script out and gives it back with all decisions.
pub(super) fn play(script: &str) -> String {
    let (head, body) = script.split_once("---").unwrap();
    let (mut graph, items) = read_graph(head);
    let mut state = RunState::restore(&graph, RecordedState::unstarted(items.into_iter())).unwrap();
    let mut told = String::new();
    for line in head.lines().map(str::trim).filter(|line| !line.is_empty()) {
        writeln!(told, "{line}").unwrap();
    }
    for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
        writeln!(told, "\n> {line}").unwrap();
        let (second, seen) = line.split_once(' ').unwrap_or((line, ""));
        let now = at(second.parse().unwrap());
        let mut events = Vec::new();
        for seen in seen.split(';').map(str::trim).filter(|seen| !seen.is_empty()) {
            if seen == "restore" {
                state = restored(&graph, &state);
            } else if matches!(seen, "hold" | "release") {
                graph.held = seen == "hold";
            } else {
                events.push(read_event(&graph, &state, seen, now));
            }
        }
        let before = state.clone();
        let decision = advance(&graph, state, &events, now);
        tell(&mut told, &graph, &before, &decision);
        state = decision.state;
    }
    told
}

/// The same run, as if it had been stored and read back.
pub(super) fn restored(graph: &Graph, state: &RunState) -> RunState {
    let text = serde_json::to_string(state.recorded()).unwrap();
    RunState::restore(graph, serde_json::from_str(&text).unwrap()).unwrap()
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn read_graph(text: &str) -> (Graph, Vec<usize>) {
    let mut graph = Graph { tasks: Vec::new(), on_failure: OnFailure::Finish, max_running: 10, held: false };
    let mut items = Vec::new();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let names: BTreeMap<&str, TaskIndex> = lines
        .iter()
        .filter(|line| !line.starts_with("max "))
        .zip(0..)
        .map(|(line, index)| (line.split(':').next().unwrap(), TaskIndex(index)))
        .collect();
    for line in lines {
        if let Some(settings) = line.strip_prefix("max ") {
            let (places, on_failure) = settings.split_once(',').unwrap_or((settings, ""));
            graph.max_running = places.parse().unwrap();
            if on_failure.trim() == "on failure stop" {
                graph.on_failure = OnFailure::Stop;
            }
            continue;
        }
        let (name, settings) = line.split_once(':').unwrap_or((line, ""));
        let mut node = node(name);
        items.push(1);
        for setting in settings.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            let (word, value) = setting.split_once(' ').unwrap_or((setting, ""));
            let lock = |mode| Lock { resource: value.to_owned(), mode };
            match word {
                "needs" => node.needs.push(Need { task: names[value], kind: NeedKind::Result }),
                "after" => node.needs.push(Need { task: names[value], kind: NeedKind::Order }),
                "when" => node.has_condition = true,
                "always" => node.runs = Runs::Always,
                "onfailure" => node.runs = Runs::OnFailure,
                "retries" => node.retries.limit = value.parse().unwrap(),
                "timeout" => node.timeout = Some(Duration::from_secs(value.parse().unwrap())),
                "items" => *items.last_mut().unwrap() = value.parse().unwrap(),
                "lock" => node.locks.push(lock(LockMode::Exclusive)),
                "share" => node.locks.push(lock(LockMode::Shared)),
                other => panic!("no setting {other:?}"),
            }
        }
        graph.tasks.push(node);
    }
    (graph, items)
}

pub(super) fn node(name: &str) -> TaskNode {
    TaskNode {
        name: name.to_owned(),
        needs: Vec::new(),
        runs: Runs::OnSuccess,
        has_condition: false,
        locks: Vec::new(),
        retries: RetryPolicy::default(),
        timeout: None,
    }
}

fn read_event(graph: &Graph, state: &RunState, text: &str, now: Timestamp) -> Event {
    if text == "cancel" {
        return Event::CancelRequested;
    }
    let (who, what) = text.split_once(' ').unwrap();
    let (who, attempt) = who.split_once('#').map_or((who, None), |(who, number)| (who, number.parse().ok()));
    let (name, item) = who.split_once('[').unwrap_or((who, "0]"));
    let item = ItemIndex(item.trim_end_matches(']').parse().unwrap());
    let position = graph.tasks.iter().position(|node| node.name == name).unwrap_or(graph.tasks.len());
    let task = TaskIndex(position.try_into().unwrap());
    let under_way = || state.phase(task, item).and_then(Phase::live_attempt).unwrap_or(1);
    let attempt = attempt.unwrap_or_else(under_way);
    let ended = |outcome| Event::Ended { task, item, attempt, outcome };
    match what {
        "started" => Event::Started { task, item, attempt, at: now },
        "ended well" => ended(Outcome::Succeeded),
        "ended permanent" => ended(Outcome::Permanent),
        "ended transient" => ended(Outcome::Transient),
        "ended infrastructure" => ended(Outcome::Infrastructure),
        "ended busy" => ended(Outcome::Busy),
        "when true" => Event::ConditionEvaluated { task, holds: Ok(true) },
        "when false" => Event::ConditionEvaluated { task, holds: Ok(false) },
        "when broken" => Event::ConditionEvaluated { task, holds: Err("no such column".to_owned()) },
        other => panic!("nothing like {other:?} is ever seen"),
    }
}

fn tell(told: &mut String, graph: &Graph, before: &RunState, decision: &Decision) {
    let name = |task: &TaskIndex| graph.tasks[task.position()].name.as_str();
    let called = |task: &TaskIndex, item: &ItemIndex| match before.task(*task).unwrap().phase {
        Some(_) => name(task).to_owned(),
        None => format!("{}[{}]", name(task), item.0),
    };
    for ignored in &decision.ignored {
        writeln!(told, "  ignored event {}: {:?}", ignored.position, ignored.why).unwrap();
    }
    for key in before.tasks().flat_map(|task| before.keys(task.task)) {
        let phase = decision.state.phase(key.task, key.item).unwrap();
        if before.phase(key.task, key.item) != Some(phase) {
            writeln!(told, "  {} is {}", called(&key.task, &key.item), plain(graph, &phase)).unwrap();
        } else if !phase.is_terminal() {
            let readiness = decision.state.readiness(graph, key.task, key.item);
            if readiness != Readiness::Started {
                writeln!(told, "  {} still {}", called(&key.task, &key.item), plain(graph, &readiness)).unwrap();
            }
        }
    }
    for action in &decision.actions {
        match action {
            Action::Start { task, item, attempt } => writeln!(told, "  -> start {}#{attempt}", called(task, item)),
            Action::Stop { task, item, attempt, why } => {
                writeln!(told, "  -> stop {}#{attempt}: {}", called(task, item), plain(graph, why))
            }
            Action::EvaluateCondition { task } => writeln!(told, "  -> evaluate the when of {}", name(task)),
        }
        .unwrap();
    }
    if let Some(wake) = decision.wake {
        writeln!(told, "  wake at {}", wake.as_second()).unwrap();
    }
    if let Some(outcome) = decision.outcome {
        writeln!(told, "  the run ended: {}", plain(graph, &outcome)).unwrap();
    }
}

/// The debug form, with names of tasks for their numbers and seconds for times.
fn plain(graph: &Graph, value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    for (position, node) in graph.tasks.iter().enumerate() {
        text = text.replace(&format!("TaskIndex({position})"), &node.name);
    }
    for second in 0..1000 {
        text = text.replace(&at(second).to_string(), &second.to_string());
    }
    text
}
