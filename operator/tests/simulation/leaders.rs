//! Two replicas of the operator. The one that leads is paused at a write, mostly beyond its lease, and goes on afterwards as
//! if nothing had happened.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::check::{differences, end_state, violations};
use crate::dice::Dice;
use crate::examples::{Example, example};
use crate::kubelet::script::Script;
use crate::server::line::{Fault, Faults};
use crate::sweep::{History, in_parallel};
use crate::world::World;
use crate::{say, seed, simulate};

fn history(example: &Example, script: &Script, planned: Option<(usize, Fault)>) -> History {
    simulate(async {
        let mut script = script.clone();
        script.values.clone_from(&example.values);
        let world = World::new(script.seed, script);
        let faults = Faults::new(planned);
        world.operate("a", &faults, true, |_, _| {});
        world.operate("b", &faults, true, |_, _| {});
        let writes = Mutex::new(Vec::new());
        let work = async {
            world.run(example).await;
            // What comes later tidies up.
            *writes.lock().unwrap() = faults.writes();
        };
        world.through(work).await;
        let writes = writes.into_inner().unwrap();
        History { end: end_state(&world).await, writes, violations: violations(&world) }
    })
}

#[test]
fn a_leader_that_is_paused_at_any_write_does_no_harm() {
    let script = Script::new(seed());
    let mut cases = Vec::new();
    let examples: Vec<Example> = ["hello", "monthly-report", "join-and-export"].map(example).into();
    let calm: Vec<History> = examples.iter().map(|example| history(example, &script, None)).collect();
    for (index, calm) in calm.iter().enumerate() {
        assert!(calm.violations.is_empty(), "{:?}", calm.violations);
        cases.extend((1..=calm.writes.len()).map(|write| (index, write)));
    }
    let handovers = AtomicUsize::new(0);
    let found = in_parallel(&cases, |(index, write)| {
        let time = Dice::of(script.seed, &(index, write)).between(Duration::from_secs(4), Duration::from_secs(60));
        let history = history(&examples[*index], &script, Some((*write, Fault::Pause(time))));
        handovers.fetch_add(usize::from(time > Duration::from_secs(25)), Ordering::Relaxed);
        let mut found = history.violations;
        found.extend(differences(&calm[*index].end, &history.end));
        let what = &calm[*index].writes[write - 1];
        (!found.is_empty())
            .then(|| format!("{} paused for {time:?} at write {write} ({what}): {found:#?}", examples[*index].name))
    });
    say(&format!(
        "paused the leader at {} writes of {} examples, {} times far beyond its lease, seed {}: {} differences",
        cases.len(),
        examples.len(),
        handovers.into_inner(),
        script.seed,
        found.len()
    ));
    found.iter().take(10).for_each(|text| println!("{text}"));
    assert!(found.is_empty());
}
