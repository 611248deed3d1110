//! Random graphs in a random world. The invariants are checked in every pass, in `world.rs`.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::script::node;
use super::world::{Setting, World};
use crate::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_reaches_the_same_end(setting in setting(Just(OnFailure::Finish)), order in any::<u64>()) {
        let one = World::run(setting.clone());
        let other = World::run(Setting { order, ..setting });
        prop_assert_eq!(one.outcome, other.outcome);
        prop_assert_eq!(phases(&one.state), phases(&other.state));
    }

    #[test]
    fn every_run_ends_also_if_it_is_cancelled_or_stopped(
        setting in setting(prop_oneof![Just(OnFailure::Finish), Just(OnFailure::Stop)]),
        cancel_in in prop::option::of(0..60_usize),
    ) {
        let last = World::run(Setting { cancel_in, ..setting });
        prop_assert!(last.wake.is_none());
        prop_assert!(last.state.tasks().all(|task| task.counts.all_ended()));
        let failed = last.state.tasks().find(|task| task.counts.failed > 0).map(|task| task.task);
        let expected = match failed {
            _ if last.state.is_cancelled() => RunOutcome::Cancelled,
            Some(task) => RunOutcome::Failed(task),
            None => RunOutcome::Succeeded,
        };
        prop_assert_eq!(last.outcome, Some(expected));
    }
}

fn phases(state: &RunState) -> Vec<Phase> {
    let keys = state.tasks().flat_map(|task| state.keys(task.task));
    keys.filter_map(|key| state.phase(key.task, key.item)).collect()
}

fn setting(on_failure: impl Strategy<Value = OnFailure>) -> impl Strategy<Value = Setting> {
    let tasks = prop::collection::vec(task(), 1..9);
    (tasks, on_failure, 1..4_usize, any::<u64>(), any::<u64>()).prop_map(
        |(mut tasks, on_failure, max_running, behaviour, order)| {
            for (position, (node, _, needs)) in tasks.iter_mut().enumerate().skip(1) {
                node.needs = needs
                    .iter()
                    .map(|(index, kind)| Need { task: TaskIndex(index.index(position) as u32), kind: *kind })
                    .collect();
            }
            let items = tasks.iter().map(|(_, items, _)| *items).collect();
            let tasks = tasks.into_iter().map(|(node, _, _)| node).collect();
            Setting {
                graph: Graph { tasks, on_failure, max_running, held: false },
                items,
                behaviour,
                order,
                cancel_in: None,
            }
        },
    )
}

/// A task, its number of items, and what it needs among the tasks before it.
fn task() -> impl Strategy<Value = (TaskNode, usize, Vec<(Index, NeedKind)>)> {
    let kind = prop_oneof![Just(NeedKind::Result), Just(NeedKind::Order)];
    let needs = prop::collection::vec((any::<Index>(), kind), 0..3);
    let runs = prop_oneof![4 => Just(Runs::OnSuccess), 1 => Just(Runs::OnFailure), 1 => Just(Runs::Always)];
    let mode = prop_oneof![Just(LockMode::Shared), Just(LockMode::Exclusive)];
    let lock = ("[xy]", mode).prop_map(|(resource, mode)| Lock { resource, mode });
    let locks = prop::collection::vec(lock, 0..3);
    (needs, runs, prop::bool::weighted(0.3), locks, 0..3_u32, any::<bool>(), 1..4_usize).prop_map(
        |(needs, runs, has_condition, locks, limit, has_timeout, items)| {
            let retries = RetryPolicy { limit, ..RetryPolicy::default() };
            let timeout = has_timeout.then_some(Duration::from_secs(60));
            (TaskNode { runs, has_condition, locks, retries, timeout, ..node("task") }, items, needs)
        },
    )
}
