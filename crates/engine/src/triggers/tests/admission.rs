//! Admission by example and under any mix of members.

use proptest::prelude::*;

use super::at;
use crate::triggers::{Admission, Member, RunStage, WhenFull, admit};

fn waiting(name: &str, minute: u32) -> Member {
    Member {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        occurred_at: at(&format!("2026-01-01T00:{minute:02}:00Z")),
        stage: RunStage::Waiting,
        admitted: false,
        cancelling: false,
    }
}

fn running(name: &str, minute: u32) -> Member {
    Member { stage: RunStage::Running, admitted: true, ..waiting(name, minute) }
}

fn decided(members: &[Member], limit: u32, when_full: WhenFull, queue_limit: u32) -> String {
    let Admission { active, skip, cancel, queue } = admit(members, limit, when_full, queue_limit);
    let lists = [("active", active), ("skip", skip), ("cancel", cancel), ("queue", queue)];
    let lists = lists.iter().filter(|(_, uids)| !uids.is_empty());
    let lists = lists.map(|(list, uids)| format!("{list} {}", uids.join(" ").replace("uid-", "")));
    lists.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_queue_admits_by_occurrence_and_skips_the_newest_beyond_its_limit() {
    let members = [waiting("d", 4), waiting("b", 2), running("z", 9), waiting("c", 3), waiting("a", 2)];
    assert_eq!(decided(&members, 1, WhenFull::Queue, 2), "active z, skip c d, queue a b");
    assert_eq!(decided(&members, 2, WhenFull::Queue, 2), "active a z, skip d, queue b c");
    assert_eq!(decided(&members, 9, WhenFull::Queue, 0), "active a b c d z");
}

#[test]
fn skip_has_no_queue() {
    let members = [waiting("b", 2), waiting("a", 1), running("z", 0)];
    assert_eq!(decided(&members, 2, WhenFull::Skip, 100), "active z a, skip b");
}

#[test]
fn the_newest_replaces_and_waits_until_there_is_room() {
    let mut members = vec![running("a", 1), waiting("b", 2), waiting("c", 3)];
    assert_eq!(decided(&members, 1, WhenFull::Replace, 0), "active a, skip b, cancel a, queue c");
    members[0].cancelling = true;
    members.remove(1);
    assert_eq!(decided(&members, 1, WhenFull::Replace, 0), "active a, queue c");
    members[0].stage = RunStage::Ended;
    assert_eq!(decided(&members, 1, WhenFull::Replace, 0), "active c");
}

#[test]
fn what_is_admitted_is_replaced_like_what_runs() {
    let admitted = Member { admitted: true, ..waiting("a", 1) };
    assert_eq!(decided(&[admitted, waiting("b", 2)], 1, WhenFull::Replace, 0), "active a, cancel a, queue b");
}

#[test]
fn nothing_is_replaced_while_there_is_room_or_for_what_is_older() {
    assert_eq!(decided(&[running("a", 1), waiting("b", 2)], 2, WhenFull::Replace, 0), "active a b");
    assert_eq!(decided(&[running("b", 2), waiting("a", 1)], 1, WhenFull::Replace, 0), "active b, skip a");
    // The limit was lowered: what runs goes on until somebody wants the room.
    assert_eq!(decided(&[running("a", 1), running("b", 2)], 1, WhenFull::Replace, 0), "active a b");
}

#[test]
fn what_runs_counts_although_its_admission_was_not_kept() {
    let unrecorded = Member { admitted: false, ..running("a", 1) };
    assert_eq!(decided(&[unrecorded, waiting("b", 2)], 1, WhenFull::Queue, 9), "active a, queue b");
}

#[test]
fn what_is_being_cancelled_holds_its_room_and_never_gets_one() {
    let leaving = Member { cancelling: true, ..running("a", 1) };
    let gone = Member { cancelling: true, ..waiting("b", 2) };
    assert_eq!(decided(&[leaving, gone, waiting("c", 3)], 1, WhenFull::Queue, 9), "active a, queue c");
}

/// Carries the decision out: what it asks for has happened, and nothing else.
fn carried_out(members: &[Member], admission: &Admission) -> Vec<Member> {
    let mut members = members.to_vec();
    for member in &mut members {
        member.admitted |= admission.active.contains(&member.uid);
        member.cancelling |= admission.cancel.contains(&member.uid);
        if admission.skip.contains(&member.uid) {
            member.stage = RunStage::Ended;
        }
    }
    members
}

fn member() -> impl Strategy<Value = Member> {
    let stage = prop_oneof![3 => Just(RunStage::Waiting), 2 => Just(RunStage::Running), 1 => Just(RunStage::Ended)];
    (0..6_u32, stage, any::<bool>(), prop::bool::weighted(0.2))
        .prop_map(|(minute, stage, admitted, cancelling)| Member { stage, admitted, cancelling, ..waiting("", minute) })
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let named = |(position, member): (usize, Member)| Member {
        name: format!("run-{position}"),
        uid: format!("uid-{position}"),
        ..member
    };
    prop::collection::vec(member(), 0..12).prop_map(move |members| members.into_iter().enumerate().map(named).collect())
}

fn when_full() -> impl Strategy<Value = WhenFull> {
    prop::sample::select(&[WhenFull::Queue, WhenFull::Skip, WhenFull::Replace])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn the_limit_holds_and_each_member_has_one_place(
        members in members(), limit in 1..5_u32, when_full in when_full(), queue_limit in 0..5_u32,
    ) {
        let admission = admit(&members, limit, when_full, queue_limit);
        let already = members.iter().filter(|m| m.stage != RunStage::Ended && (m.admitted || m.stage == RunStage::Running));
        prop_assert!(admission.active.len() <= already.clone().count().max(limit as usize));
        prop_assert!(already.clone().all(|member| admission.active.contains(&member.uid)));
        prop_assert!(admission.cancel.iter().all(|uid| admission.active.contains(uid)));
        let mut places = [&admission.active[..], &admission.skip, &admission.queue].concat();
        places.sort();
        let mut expected: Vec<String> = members.iter()
            .filter(|m| m.stage == RunStage::Running || m.stage == RunStage::Waiting && (m.admitted || !m.cancelling))
            .map(|member| member.uid.clone()).collect();
        expected.sort();
        prop_assert_eq!(places, expected);
        if when_full == WhenFull::Queue {
            prop_assert!(admission.queue.len() <= queue_limit as usize);
        }
    }

    #[test]
    fn the_order_of_members_does_not_matter(
        (members, shuffled) in members().prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle())),
        limit in 1..5_u32, when_full in when_full(), queue_limit in 0..5_u32,
    ) {
        prop_assert_eq!(
            admit(&members, limit, when_full, queue_limit), admit(&shuffled, limit, when_full, queue_limit)
        );
    }

    #[test]
    fn a_decision_that_was_carried_out_is_not_made_again(
        members in members(), limit in 1..5_u32, when_full in when_full(), queue_limit in 0..5_u32,
    ) {
        let first = admit(&members, limit, when_full, queue_limit);
        let second = admit(&carried_out(&members, &first), limit, when_full, queue_limit);
        prop_assert_eq!(second, Admission { skip: Vec::new(), cancel: Vec::new(), ..first });
    }

    #[test]
    fn whoever_waits_runs_once_the_others_have_ended(
        members in members(), limit in 1..5_u32, when_full in when_full(), queue_limit in 0..5_u32,
    ) {
        let mut members = members;
        for _ in 0..members.len() {
            let admission = admit(&members, limit, when_full, queue_limit);
            members = carried_out(&members, &admission);
            for member in members.iter_mut().filter(|member| admission.active.contains(&member.uid)) {
                member.stage = RunStage::Ended;
            }
        }
        prop_assert_eq!(admit(&members, limit, when_full, queue_limit), Admission::default());
    }
}
