//! Every write of every example: the operator is stopped before it and after it, and its reply is lost. The end is the same.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::check::{differences, end_state, violations};
use crate::examples::{Example, examples};
use crate::kubelet::script::Script;
use crate::server::line::{Fault, Faults};
use crate::world::World;
use crate::{say, seed, simulate};

const FAULTS: [Fault; 3] = [Fault::StopBefore, Fault::StopAfter, Fault::LoseReply];

/// What came of one history.
pub struct History {
    pub end: BTreeMap<String, String>,
    /// Those until the runs had finished; what comes later tidies up.
    pub writes: Vec<String>,
    pub violations: Vec<String>,
}

fn history(example: &Example, script: &Script, faults: &Arc<Faults>) -> History {
    simulate(async {
        let mut script = script.clone();
        script.values.clone_from(&example.values);
        let world = World::new(script.seed, script);
        world.operate("a", faults, false, |_, _| {});
        world.through(world.run(example)).await;
        world.tell();
        History { end: end_state(&world).await, writes: faults.writes(), violations: violations(&world) }
    })
}

/// Runs the cases on two threads, and gives what is wrong with them. A case that panics is wrong.
pub fn in_parallel<C: Sync>(cases: &[C], run: impl Fn(&C) -> Option<String> + Sync) -> Vec<String> {
    let found = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let wrong = catch_unwind(AssertUnwindSafe(|| run(case))).unwrap_or_else(|panic| {
                        let text = panic.downcast_ref::<String>().cloned();
                        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    });
                    found.lock().unwrap().extend(wrong);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// `PINTAIL_EXAMPLE` asks for one only.
fn only() -> Option<String> {
    std::env::var("PINTAIL_EXAMPLE").ok()
}

#[test]
fn every_write_can_go_wrong_and_the_end_is_the_same() {
    let script = Script::new(seed());
    let examples: Vec<Example> =
        examples().into_iter().filter(|example| only().is_none_or(|name| example.name == name)).collect();
    let calm: Vec<History> = examples.iter().map(|example| history(example, &script, &Faults::new([]))).collect();
    let mut cases = Vec::new();
    for (index, (example, calm)) in examples.iter().zip(&calm).enumerate() {
        println!("{}: {} writes, {} things in the end", example.name, calm.writes.len(), calm.end.len());
        assert!(calm.violations.is_empty(), "{}: {:?}", example.name, calm.violations);
        cases.extend((1..=calm.writes.len()).flat_map(|write| FAULTS.map(|fault| (index, write, fault))));
    }
    let found = in_parallel(&cases, |(index, write, fault)| {
        let (example, calm) = (&examples[*index], &calm[*index]);
        let what = format!("{} {fault:?} at write {write} ({})", example.name, calm.writes[write - 1]);
        let history = catch_unwind(AssertUnwindSafe(|| history(example, &script, &Faults::new([(*write, *fault)]))));
        let Ok(history) = history else { return Some(format!("{what}: it panicked")) };
        let mut found = history.violations;
        found.extend(differences(&calm.end, &history.end));
        (!found.is_empty()).then(|| format!("{what}: {found:#?}"))
    });
    let (writes, kinds) = (cases.len() / FAULTS.len(), FAULTS.len());
    let (examples, seed, count) = (examples.len(), script.seed, found.len());
    say(&format!("swept {writes} writes x {kinds} of {examples} examples, seed {seed}: {count} differences"));
    found.iter().take(10).for_each(|text| println!("{text}"));
    assert!(found.is_empty());
}
