//! A tiny world that carries actions out: attempts that start, run, hang, fail and commit, all under a seed, seen in
//! any order, twice or late, by a driver that may lose its last few passes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, ToSpan};

use super::script::{at, restored};
use crate::queue::Key;
use crate::state::RecordedState;
use crate::*;

/// What a world is made of. Equal `behaviour` makes every attempt end in the same way, whatever the order.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub graph: Graph,
    pub items: Vec<usize>,
    pub behaviour: u64,
    pub order: u64,
    /// The pass in which the run is cancelled.
    pub cancel_in: Option<usize>,
}

pub(super) struct World {
    setting: Setting,
    dice: Dice,
    now: Timestamp,
    attempts: BTreeMap<(Key, u32), Attempt>,
    asked: BTreeSet<TaskIndex>,
    /// Starts that the present driver was told.
    told: BTreeSet<(Key, u32)>,
    past: Vec<Event>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    life: Life,
    is_reported: bool,
    is_told_to_stop: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Ordered,
    Runs { since: Timestamp },
    Ended(Outcome),
}

/// Passes after which a run of this size must have ended.
const PASS_LIMIT: usize = 5_000;

impl World {
    /// Runs the world to its end and gives the last decision.
    pub fn run(setting: Setting) -> Decision {
        let mut world = Self {
            dice: Dice(setting.order),
            now: at(0),
            attempts: BTreeMap::new(),
            asked: BTreeSet::new(),
            told: BTreeSet::new(),
            past: Vec::new(),
            setting,
        };
        let unstarted = RecordedState::unstarted(world.setting.items.iter().copied());
        let mut state = RunState::restore(&world.setting.graph, unstarted).unwrap();
        let mut older = state.clone();
        let mut has_waited = false;
        for pass in 0..PASS_LIMIT {
            // No driver loses passes over a wait: an attempt that ended meanwhile could be taken to have timed out.
            if has_waited || world.dice.one_in(5) {
                older = state.clone();
            }
            if world.dice.one_in(10) {
                state = world.driver_restarts(&state, &older);
            }
            let mut events = world.look();
            if world.setting.cancel_in == Some(pass) {
                events.push(Event::CancelRequested);
            }
            let decision = advance(&world.setting.graph, state.clone(), &events, world.now);
            world.check(&state, &events, &decision);
            world.carry_out(&decision.actions);
            if decision.outcome.is_some() {
                return decision;
            }
            has_waited = world.possible().is_empty();
            if has_waited {
                let wake = decision.wake.expect("something is awaited");
                world.now = world.now.max(wake) + i64::from(world.dice.below(3)).seconds();
            }
            state = decision.state;
        }
        panic!("the run does not end: {:?}", world.setting);
    }

    /// Another driver goes on from what was recorded, perhaps a while ago, and reads the whole world again.
    fn driver_restarts(&mut self, state: &RunState, older: &RunState) -> RunState {
        // A cancel request stands in the object and is read again; here it is asked for once, so it must be recorded.
        let loses_passes = self.dice.one_in(2) && older.is_cancelled() == state.is_cancelled();
        for attempt in self.attempts.values_mut() {
            attempt.is_reported = false;
        }
        self.told.clear();
        restored(&self.setting.graph, if loses_passes { older } else { state })
    }

    /// Some of what there is to see, in any order, amid old news and nonsense.
    fn look(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..self.dice.below(4) {
            let possible = self.possible();
            let Some(pick) = self.dice.pick(&possible) else { break };
            events.push(self.happens(pick));
        }
        self.past.extend(events.iter().cloned());
        for _ in 0..self.dice.below(3) {
            events.extend(self.dice.pick(&self.past));
        }
        if self.dice.one_in(4) {
            let (task, item) = (TaskIndex(self.dice.below(9)), ItemIndex(self.dice.below(4)));
            events.push(Event::Started { task, item, attempt: 99, at: self.now });
            events.push(Event::Ended { task, item, attempt: 0, outcome: Outcome::Succeeded });
        }
        for position in (1..events.len()).rev() {
            let other = self.dice.below(u32::try_from(position + 1).unwrap()) as usize;
            events.swap(position, other);
        }
        events
    }

    /// What may be seen next: `Ok` of an attempt, `Err` of a condition.
    fn possible(&self) -> Vec<Result<(Key, u32), TaskIndex>> {
        let may_be_seen = |((key, number), attempt): (&(Key, u32), &Attempt)| {
            let hangs = self.hangs(*key, *number) && !attempt.is_told_to_stop;
            match attempt.life {
                Life::Ordered => true,
                Life::Runs { .. } => !hangs || !attempt.is_reported,
                Life::Ended(_) => !attempt.is_reported,
            }
        };
        let attempts = self.attempts.iter().filter(|entry| may_be_seen(*entry)).map(|(name, _)| Ok(*name));
        attempts.chain(self.asked.iter().copied().map(Err)).collect()
    }

    fn happens(&mut self, pick: Result<(Key, u32), TaskIndex>) -> Event {
        let (key, number) = match pick {
            Ok(name) => name,
            Err(task) => {
                self.asked.remove(&task);
                return Event::ConditionEvaluated { task, holds: self.condition(task) };
            }
        };
        let hangs = self.hangs(key, number);
        let outcome = self.outcome(key, number);
        let attempt = self.attempts.get_mut(&(key, number)).unwrap();
        let is_known = std::mem::replace(&mut attempt.is_reported, true);
        attempt.life = match attempt.life {
            Life::Ordered => Life::Runs { since: self.now },
            Life::Runs { .. } if is_known && hangs => Life::Ended(Outcome::Transient),
            Life::Runs { .. } if is_known => Life::Ended(outcome),
            as_before => as_before,
        };
        let Key { task, item } = key;
        match attempt.life {
            Life::Ended(outcome) => Event::Ended { task, item, attempt: number, outcome },
            Life::Ordered => unreachable!("it has just moved on"),
            Life::Runs { since } => Event::Started { task, item, attempt: number, at: since },
        }
    }

    fn carry_out(&mut self, actions: &[Action]) {
        for action in actions {
            match *action {
                Action::Start { task, item, attempt } => {
                    let ordered = Attempt { life: Life::Ordered, is_reported: false, is_told_to_stop: false };
                    let attempt = self.attempts.entry((Key { task, item }, attempt)).or_insert(ordered);
                    attempt.is_reported = false;
                }
                Action::Stop { task, item, attempt, .. } => {
                    let ended = Attempt {
                        life: Life::Ended(Outcome::Infrastructure),
                        is_reported: false,
                        is_told_to_stop: true,
                    };
                    let attempt = self.attempts.entry((Key { task, item }, attempt)).or_insert(ended);
                    attempt.is_told_to_stop = true;
                    attempt.is_reported &= !matches!(attempt.life, Life::Ended(_));
                }
                Action::EvaluateCondition { task } => drop(self.asked.insert(task)),
            }
        }
    }

    fn fate(&self, key: Key, number: u32) -> u64 {
        let name = (u64::from(key.task.0) << 40) | (u64::from(key.item.0) << 20) | u64::from(number);
        Dice(self.setting.behaviour ^ name).roll() % 10
    }

    fn hangs(&self, key: Key, number: u32) -> bool {
        self.fate(key, number) == 9 && self.setting.graph.tasks[key.task.position()].timeout.is_some()
    }

    fn outcome(&self, key: Key, number: u32) -> Outcome {
        match self.fate(key, number) {
            0 => Outcome::Permanent,
            1 | 2 => Outcome::Transient,
            3 => Outcome::Infrastructure,
            // Whoever reports it bounds it.
            4 if number < 4 => Outcome::Busy,
            _ => Outcome::Succeeded,
        }
    }

    fn condition(&self, task: TaskIndex) -> Result<bool, String> {
        match self.fate(Key { task, item: ItemIndex(0) }, 0) {
            0 => Err("it cannot be evaluated".to_owned()),
            1..=3 => Ok(false),
            _ => Ok(true),
        }
    }

    fn check(&mut self, before: &RunState, events: &[Event], decision: &Decision) {
        let graph = &self.setting.graph;
        let after = &decision.state;
        nothing_moved_back(before, after);
        locks_and_places_are_kept(graph, after);

        for action in &decision.actions {
            if let Action::Start { task, item, attempt } = *action {
                assert!(self.told.insert((Key { task, item }, attempt)), "{action:?} comes twice");
                what_it_needs_has_ended(graph, after, task);
            }
        }

        let again = advance(graph, after.clone(), &[], self.now);
        assert_eq!(again.actions, [], "a pass without news");
        let elsewhere = advance(graph, restored(graph, before), events, self.now);
        assert_eq!(elsewhere.state.recorded(), after.recorded(), "a restored run decides as the live one");
        assert_eq!((elsewhere.wake, elsewhere.outcome), (decision.wake, decision.outcome));
        assert_eq!(elsewhere.ignored, decision.ignored);
        for action in &decision.actions {
            assert!(elsewhere.actions.contains(action), "{action:?} is missing after a restore");
        }
    }
}

/// Grows with every move: the attempt first, then how far it has come; a terminal phase is above all.
fn progress(phase: Phase) -> (u32, u32) {
    match phase {
        Phase::Waiting => (0, 0),
        Phase::Starting { attempt } => (attempt, 0),
        Phase::Running { attempt, .. } => (attempt, 1),
        Phase::Stopping { attempt, why: StopReason::Superseded | StopReason::Timeout } => (attempt, 2),
        Phase::Stopping { attempt, why: StopReason::TaskFailed(_) } => (attempt, 3),
        Phase::Stopping { attempt, why: StopReason::Cancelled } => (attempt, 4),
        Phase::BackingOff { attempt, .. } => (attempt, 5),
        _ => (u32::MAX, 0),
    }
}

fn nothing_moved_back(before: &RunState, after: &RunState) {
    for key in before.tasks().flat_map(|task| before.keys(task.task)) {
        let (from, to) = (before.phase(key.task, key.item).unwrap(), after.phase(key.task, key.item).unwrap());
        assert!(from == to || progress(from) < progress(to), "{key:?}: {from:?} to {to:?}");
    }
}

fn locks_and_places_are_kept(graph: &Graph, state: &RunState) {
    let mut running = 0;
    let mut holders: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for key in state.tasks().flat_map(|task| state.keys(task.task)) {
        if state.phase(key.task, key.item).unwrap().live_attempt().is_some() {
            running += 1;
            let mut held = BTreeMap::new();
            for lock in &graph.tasks[key.task.position()].locks {
                *held.entry(lock.resource.as_str()).or_insert(false) |= lock.mode == LockMode::Exclusive;
            }
            for (resource, is_exclusive) in held {
                holders.entry(resource).or_default().push(is_exclusive);
            }
        }
    }
    assert!(running <= graph.max_running, "{running} under way");
    for (resource, exclusive) in holders {
        assert!(exclusive.len() == 1 || !exclusive.contains(&true), "{resource}: {exclusive:?}");
    }
    for key in state.tasks().flat_map(|task| state.keys(task.task)) {
        let readiness = state.readiness(graph, key.task, key.item);
        assert_ne!(readiness, Readiness::Ready, "{key:?} could start and did not");
    }
}

fn what_it_needs_has_ended(graph: &Graph, state: &RunState, task: TaskIndex) {
    let node = &graph.tasks[task.position()];
    for need in &node.needs {
        let counts = state.task(need.task).unwrap().counts;
        assert!(counts.all_ended());
        assert!(need.kind == NeedKind::Order || counts.skipped == 0, "a result of {need:?} is missing");
        assert!(node.runs != Runs::OnSuccess || counts.failed == 0, "{need:?} failed");
    }
}

/// A sequence of numbers that depends on its seed alone (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.roll() % u64::from(limit)).unwrap()
    }

    fn one_in(&mut self, chances: u32) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Clone>(&mut self, among: &[T]) -> Option<T> {
        let position = self.below(u32::try_from(among.len().max(1)).unwrap());
        among.get(position as usize).cloned()
    }
}
