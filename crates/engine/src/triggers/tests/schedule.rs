//! Ticks against a calendar that is walked minute by minute, and by example.

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;

use super::at;
use crate::triggers::{Schedule, ScheduleError};

/// Zones with shifts of 30 and 60 minutes, at midnight and at night, in both hemispheres; offsets of quarters; a day that
/// is skipped; none.
const ZONES: &[&str] = &[
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Scoresbysund",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
];

const PATTERNS: &[&str] = &[
    "* * * * *",
    "*/15 * * * *",
    "*/7 1-3 * * *",
    "0 * * * *",
    "30 2 * * *",
    "15 0 * * *",
    "0 0 * * *",
    "59 23 * * *",
    "0,30 0-3 * * SUN",
    "45 2 * MAR,OCT,NOV SUN#2",
    "0 0 L * *",
    "30 1 1-7 * +SUN",
    "0 12 29 2 *",
    "0 0 1 1 *",
];

/// Every minute of wall time that the pattern names, one after another, with its instant: the first of two, or the end
/// of the gap, found by looking at each minute of the zone.
fn oracle(pattern: &str, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let cron = crate::triggers::cron::parse(pattern).unwrap();
    let mut ticks = Vec::new();
    let mut seen: Option<DateTime> = None;
    // A day before, so that what was seen of the wall clock is known at `from`; zones shift by whole minutes since 1972.
    let mut minute = from - SignedDuration::from_hours(48);
    while minute <= to {
        let wall = zone.to_datetime(minute);
        let first = seen.map_or(wall, |seen| seen + 1.minute());
        let mut any = false;
        let mut skipped = first;
        while skipped <= wall {
            any |= cron.is_time_matching(&skipped).unwrap();
            skipped += 1.minute();
        }
        // A clock that is put back shows nothing new until it has caught up.
        seen = Some(seen.map_or(wall, |seen| seen.max(wall)));
        if any && minute >= from {
            ticks.push(minute);
        }
        minute += SignedDuration::from_mins(1);
    }
    ticks
}

fn forward(schedule: &Schedule, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let before = from - SignedDuration::from_nanos(1);
    std::iter::successors(schedule.next_after(before), |tick| schedule.next_after(*tick))
        .take_while(|tick| *tick <= to)
        .collect()
}

fn backward(schedule: &Schedule, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let after = to + SignedDuration::from_nanos(1);
    let mut ticks: Vec<Timestamp> =
        std::iter::successors(schedule.previous_before(after), |tick| schedule.previous_before(*tick))
            .take_while(|tick| *tick >= from)
            .collect();
    ticks.reverse();
    ticks
}

fn assert_ticks(cron: &str, zone: &str, from: &str, expected: &[&str]) {
    let schedule = Schedule::parse(cron, zone).unwrap();
    let expected: Vec<Timestamp> = expected.iter().map(|tick| at(tick)).collect();
    let last = *expected.last().unwrap();
    assert_eq!(forward(&schedule, at(from), last), expected, "{cron} in {zone}");
    assert_eq!(backward(&schedule, at(from), last), expected, "{cron} in {zone}, backwards");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn ticks_are_those_of_a_calendar_walked_by_the_minute(
        pattern in prop::sample::select(PATTERNS),
        zone in prop::sample::select(ZONES),
        // Beside a change of the clock, where there is one: any minute of the year is dull.
        change in 0..120_usize,
        hours in 1..60_i64,
    ) {
        let tz = TimeZoneDatabase::bundled().get(zone).unwrap();
        let start = at("1990-01-01T00:00:00Z");
        let change = tz.following(start).nth(change).map_or(start, |change| change.timestamp());
        let (from, to) = (change - SignedDuration::from_hours(hours), change + SignedDuration::from_hours(60 - hours));
        let schedule = Schedule::parse(pattern, zone).unwrap();
        let expected = oracle(pattern, &tz, from, to);
        prop_assert_eq!(&forward(&schedule, from, to), &expected, "{} in {} at {}", pattern, zone, change);
        prop_assert_eq!(&backward(&schedule, from, to), &expected, "{} in {} at {}, backwards", pattern, zone, change);
    }

    #[test]
    fn next_and_previous_are_each_other_from_any_instant(
        pattern in prop::sample::select(PATTERNS),
        zone in prop::sample::select(ZONES),
        seconds in 0..2_000_000_000_i64,
        nanoseconds in prop::sample::select(&[0, 1, 999_999_999]),
    ) {
        let schedule = Schedule::parse(pattern, zone).unwrap();
        let instant = Timestamp::new(seconds, nanoseconds).unwrap();
        let next = schedule.next_after(instant).unwrap();
        let previous = schedule.previous_before(next).unwrap();
        prop_assert!(next > instant && previous <= instant);
        prop_assert_eq!(schedule.next_after(previous), Some(next));
    }
}

#[test]
fn a_skipped_time_ticks_once_when_the_clock_goes_on() {
    // 2:00 to 3:00 is missing on 30 March.
    let ticks = ["2025-03-29T01:30:00Z", "2025-03-30T01:00:00Z", "2025-03-31T00:30:00Z"];
    assert_ticks("30 2 * * *", "Europe/Paris", "2025-03-29T00:00:00Z", &ticks);
    // Five skipped ticks and a regular one at the same instant are one.
    let ticks = ["2025-03-30T00:50:00Z", "2025-03-30T01:00:00Z", "2025-03-30T01:10:00Z"];
    assert_ticks("*/10 * * * *", "Europe/Paris", "2025-03-30T00:45:00Z", &ticks);
}

#[test]
fn a_repeated_time_ticks_the_first_time_only() {
    // 2:00 to 3:00 comes twice on 26 October.
    let ticks = ["2025-10-25T00:30:00Z", "2025-10-26T00:30:00Z", "2025-10-27T01:30:00Z"];
    assert_ticks("30 2 * * *", "Europe/Paris", "2025-10-25T00:00:00Z", &ticks);
    let ticks = ["2025-10-26T00:30:00Z", "2025-10-26T00:45:00Z", "2025-10-26T02:00:00Z", "2025-10-26T02:15:00Z"];
    assert_ticks("*/15 * * * *", "Europe/Paris", "2025-10-26T00:30:00Z", &ticks);
}

#[test]
fn midnight_that_is_skipped_ticks_at_one() {
    let ticks = ["2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"];
    assert_ticks("0 0 * * *", "America/Sao_Paulo", "2018-11-03T00:00:00Z", &ticks);
    let ticks = ["2024-03-29T22:00:00Z", "2024-03-30T22:00:00Z", "2024-03-31T21:00:00Z"];
    assert_ticks("@daily", "Asia/Beirut", "2024-03-29T12:00:00Z", &ticks);
}

#[test]
fn half_an_hour_and_a_whole_day_are_skipped_alike() {
    // Lord Howe: 2:00 to 2:30 is missing on 5 October.
    let ticks = ["2025-10-04T15:30:00Z", "2025-10-05T15:10:00Z"];
    assert_ticks("10 2 * * *", "Australia/Lord_Howe", "2025-10-04T15:00:00Z", &ticks);
    // Apia had no 30 December 2011; its ticks and those of the last moment of the year before stay apart.
    let ticks = ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"];
    assert_ticks("0 12 * * *", "Pacific/Apia", "2011-12-29T11:00:00Z", &ticks);
}

#[test]
fn a_leap_day_comes_when_there_is_one() {
    let ticks = ["2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z", "2108-02-29T00:00:00Z"];
    assert_ticks("0 0 29 FEB *", "UTC", "2093-01-01T00:00:00Z", &ticks);
    // A Monday, the rarest: 28 years apart, 40 over 2100.
    let ticks = ["2072-02-29T00:00:00Z", "2112-02-29T00:00:00Z"];
    assert_ticks("0 0 29 2 +MON", "UTC", "2050-01-01T00:00:00Z", &ticks);
}

#[test]
fn either_day_is_enough_where_both_are_said() {
    let ticks = ["2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z", "2026-01-12T00:00:00Z"];
    assert_ticks("0 0 1 * MON", "UTC", "2025-12-31T00:00:00Z", &ticks);
}

#[test]
fn what_is_wrong_is_said_by_field() {
    let refused = [
        ("0 25 * * *", "UTC"),
        ("5-1 * * * *", "UTC"),
        ("0/10 * * * *", "UTC"),
        ("*/90 * * * *", "UTC"),
        ("1,,2 * * * *", "UTC"),
        ("0 MON * * *", "UTC"),
        ("0 0 * * MONDAY", "UTC"),
        ("0 0 * * L", "UTC"),
        ("0 0 L-3 * *", "UTC"),
        ("0 0 * FEB-ÄPR *", "UTC"),
        ("0 0 0 * * *", "UTC"),
        ("every day", "UTC"),
        ("", "UTC"),
        ("@reboot", "UTC"),
        ("0 0 30 2 *", "UTC"),
        ("0 0 31 4,6,9,11 *", "UTC"),
        ("@daily", "Europe/Pariss"),
        ("@daily", "paris"),
        ("@daily", "Mars/Olympus"),
        ("@daily", "Etc/Unknown"),
        ("@daily", "+02:00"),
        ("@daily", ""),
    ];
    let messages: Vec<String> =
        refused.iter().map(|(cron, zone)| Schedule::parse(cron, zone).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(messages.join("\n"));
    assert!(matches!(Schedule::parse("0 0 30 2 *", "UTC"), Err(ScheduleError::Never { .. })));
}

#[test]
fn the_usual_ways_to_write_a_pattern_are_read() {
    let pairs = [
        ("@yearly", "0 0 1 1 *"),
        ("@Hourly", "0 * * * *"),
        ("  0   0 * * sun ", "0 0 * * 7"),
        ("0 0 * JAN-MAR,jul mon-fri", "0 0 * 1-3,7 1-5"),
        ("0 0 * * fril", "0 0 * * 5#L"),
        ("0 0 ? * *", "0 0 * * *"),
    ];
    let ticks = |cron: &str| {
        forward(&Schedule::parse(cron, "UTC").unwrap(), at("2025-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z"))
    };
    for (one, other) in pairs {
        assert_eq!(ticks(one), ticks(other), "{one}");
    }
    assert!(Schedule::parse("0 0 LW * *", "europe/paris").is_ok());
}

#[test]
fn time_ends_without_a_fault() {
    let schedule = Schedule::parse("* * * * *", "Europe/Paris").unwrap();
    assert_eq!(schedule.next_after(Timestamp::MAX), None);
    assert_eq!(schedule.previous_before(Timestamp::MIN), None);
}
