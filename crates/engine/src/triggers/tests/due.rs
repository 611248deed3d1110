//! What fires, what is dropped, and what is told of it.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::at;
use crate::triggers::{CATCH_UP_MAX, CatchUp, DROPPED_COUNT_MAX, Due, GRACE, Schedule, due};

fn hourly() -> Schedule {
    Schedule::parse("0 * * * *", "UTC").unwrap()
}

fn fired(due: &Due) -> Vec<String> {
    due.fire.iter().map(|tick| tick.at.to_string()).collect()
}

#[test]
fn nothing_is_due_before_the_tick_and_one_at_it() {
    let handled = at("2026-01-01T00:00:00Z");
    let early = due(&hourly(), handled, at("2026-01-01T00:59:59Z"), CatchUp::All);
    assert_eq!((fired(&early), early.handled_through, early.dropped), (vec![], handled, 0));
    assert_eq!(early.next, Some(at("2026-01-01T01:00:00Z")));
    let now = at("2026-01-01T01:00:00Z");
    let on_time = due(&hourly(), handled, now, CatchUp::None);
    assert_eq!(fired(&on_time), ["2026-01-01T01:00:00Z"]);
    assert_eq!((on_time.handled_through, on_time.next), (now, Some(at("2026-01-01T02:00:00Z"))));
    let tick = on_time.fire[0];
    assert_eq!((tick.interval_start, tick.interval_end), (handled, now));
    assert_eq!(due(&hourly(), on_time.handled_through, now, CatchUp::All).fire, []);
}

#[test]
fn each_way_to_catch_up_tells_what_it_drops() {
    let (handled, now) = (at("2026-01-01T00:30:00Z"), at("2026-01-01T05:00:30Z"));
    let told = |catch_up| {
        let due = due(&hourly(), handled, now, catch_up);
        assert_eq!((due.handled_through, due.next), (at("2026-01-01T05:00:00Z"), Some(at("2026-01-01T06:00:00Z"))));
        (due.fire.len(), due.fire[0].at, due.dropped, due.dropped_from, due.dropped_to)
    };
    let (one, four, five) = (at("2026-01-01T01:00:00Z"), at("2026-01-01T04:00:00Z"), at("2026-01-01T05:00:00Z"));
    assert_eq!(told(CatchUp::None), (1, five, 4, Some(one), Some(four)));
    assert_eq!(told(CatchUp::Latest), (1, five, 4, Some(one), Some(four)));
    assert_eq!(told(CatchUp::All), (5, one, 0, None, None));
}

#[test]
fn without_catching_up_a_tick_may_be_a_minute_late() {
    let handled = at("2026-01-01T00:00:00Z");
    let tick = at("2026-01-01T01:00:00Z");
    assert_eq!(due(&hourly(), handled, tick + GRACE, CatchUp::None).fire.len(), 1);
    let late = due(&hourly(), handled, tick + GRACE + SignedDuration::from_nanos(1), CatchUp::None);
    assert_eq!((late.fire.len(), late.dropped, late.handled_through), (0, 1, tick));
    assert_eq!((late.dropped_from, late.dropped_to), (Some(tick), Some(tick)));
    let latest = due(&hourly(), handled, at("2026-01-01T01:59:00Z"), CatchUp::Latest);
    assert_eq!((latest.fire.len(), latest.dropped), (1, 0));
}

#[test]
fn all_is_bounded_and_the_rest_is_told() {
    let minutely = Schedule::parse("* * * * *", "UTC").unwrap();
    let (handled, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
    let day = due(&minutely, handled, now, CatchUp::All);
    assert_eq!((day.fire.len(), day.dropped), (CATCH_UP_MAX, 440));
    assert_eq!(day.fire.last().unwrap().at, now);
    assert_eq!(day.dropped_from, Some(at("2026-01-01T00:01:00Z")));
    assert_eq!(day.dropped_to, Some(at("2026-01-01T07:20:00Z")));
    assert_eq!(day.fire[0].interval_start, at("2026-01-01T07:20:00Z"));
}

#[test]
fn years_that_were_missed_are_counted_up_to_a_bound() {
    let minutely = Schedule::parse("* * * * *", "Europe/Paris").unwrap();
    let years = due(&minutely, at("2000-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"), CatchUp::None);
    assert_eq!((years.fire.len(), years.dropped), (2, DROPPED_COUNT_MAX));
    assert_eq!(years.dropped_from, Some(at("2000-01-01T00:01:00Z")));
    assert_eq!(years.dropped_to, Some(at("2025-12-31T23:58:00Z")));
}

#[test]
fn a_clock_that_was_put_back_fires_nothing_again() {
    let handled = at("2026-01-01T05:00:00Z");
    let back = due(&hourly(), handled, at("2026-01-01T04:00:00Z"), CatchUp::All);
    assert_eq!((fired(&back), back.dropped, back.handled_through), (vec![], 0, handled));
    assert_eq!(back.next, Some(at("2026-01-01T06:00:00Z")));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_tick_is_fired_or_dropped_once_however_often_it_is_looked(
        catch_up in prop::sample::select(&[CatchUp::None, CatchUp::Latest, CatchUp::All]),
        // Forward by up to three hours, or back by one.
        steps in prop::collection::vec(-3600..10_800_i64, 1..40),
    ) {
        let quarterly = Schedule::parse("*/15 * * * *", "Europe/Paris").unwrap();
        let start = at("2025-10-25T18:00:00Z");
        let (mut handled, mut now) = (start, start);
        let mut told: Vec<Timestamp> = Vec::new();
        for step in steps {
            now += SignedDuration::from_secs(step);
            let due = due(&quarterly, handled, now, catch_up);
            prop_assert!(due.handled_through >= handled);
            prop_assert_eq!(due.next, quarterly.next_after(due.handled_through.max(handled)));
            let first = due.dropped_from.and_then(|from| quarterly.previous_before(from));
            let dropped: Vec<Timestamp> = std::iter::successors(first.and_then(|at| quarterly.next_after(at)), |at| {
                quarterly.next_after(*at)
            }).take_while(|at| Some(*at) <= due.dropped_to).collect();
            prop_assert_eq!(dropped.len() as u64, due.dropped);
            told.extend(dropped);
            told.extend(due.fire.iter().map(|tick| tick.at));
            handled = due.handled_through;
        }
        let ticks = std::iter::successors(quarterly.next_after(start), |at| quarterly.next_after(*at));
        let expected: Vec<Timestamp> = ticks.take_while(|at| *at <= handled).collect();
        prop_assert_eq!(told, expected);
    }
}
