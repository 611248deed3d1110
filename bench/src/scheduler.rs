//! Cost of one pass of the scheduler, with one event, by the size of the workflow.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use pintail_engine::{
    Action, Event, Graph, Need, NeedKind, OnFailure, Outcome, RetryPolicy, RunState, Runs, TaskIndex, TaskNode, advance,
};

use crate::measure::{Failure, Times};

/// Chains that run side by side: task n needs task n - WIDTH.
const WIDTH: u32 = 10;
const SIZES: [u32; 3] = [100, 1_000, 20_000];
/// Passes of every size are measured this often at least.
const PASSES: usize = 20_000;

pub fn run() -> Result<(), Failure> {
    println!("One pass of the scheduler with one event, {WIDTH} chains side by side");
    let mut smallest = None;
    for size in SIZES {
        let times = passes(size)?;
        let first = smallest.get_or_insert_with(|| times.clone());
        println!("  {size:>6} tasks: {times}, {:.2} x the smallest", times.ratio(first));
    }
    Ok(())
}

/// Times of single passes over whole runs.
fn passes(size: u32) -> Result<Times, Failure> {
    let graph = graph(size);
    let mut times = Vec::new();
    while times.len() < PASSES {
        times.extend(whole_run(&graph)?);
    }
    Ok(Times::new(times))
}

fn whole_run(graph: &Graph) -> Result<Vec<Duration>, Failure> {
    let now = Timestamp::UNIX_EPOCH;
    let mut decision = advance(graph, RunState::new(graph), &[], now);
    let mut started: std::collections::VecDeque<Action> = decision.actions.drain(..).collect();
    let mut times = Vec::new();
    while let Some(action) = started.pop_front() {
        let Action::Start { task, item, attempt } = action else { continue };
        let events = [
            [Event::Started { task, item, attempt, at: now }],
            [Event::Ended { task, item, attempt, outcome: Outcome::Succeeded }],
        ];
        for event in events {
            let start = Instant::now();
            decision = advance(graph, decision.state, &event, now);
            times.push(start.elapsed());
            started.extend(decision.actions.drain(..));
        }
    }
    if decision.outcome.is_none() {
        return Err("the scheduler's run came to no end".to_owned());
    }
    Ok(times)
}

fn graph(size: u32) -> Graph {
    let needs = |task: u32| task.checked_sub(WIDTH).map(|task| Need { task: TaskIndex(task), kind: NeedKind::Result });
    let task = |task: u32| TaskNode {
        name: format!("task_{task}"),
        needs: needs(task).into_iter().collect(),
        runs: Runs::OnSuccess,
        has_condition: false,
        locks: Vec::new(),
        retries: RetryPolicy::default(),
        timeout: None,
    };
    Graph { tasks: (0..size).map(task).collect(), on_failure: OnFailure::Finish, max_running: 8, held: false }
}
