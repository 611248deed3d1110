//! Schedules under a virtual clock: operators that are killed, paused and doubled fire every tick once, or say that they
//! dropped it.
//!
//! ```text
//! Operator, two of them: read, `due`, create, write, start, prune ──> Cluster: a model of the API server and the markers
//!        ^                                                                │
//! Simulation: kills, pauses, splits, moves clocks              Calendar: what should have been
//! ```
//!
//! `PINTAIL_SEED` is the seed of all histories; 1 if left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of it is a test")]

mod calendar;
mod cluster;
mod dice;
mod operator;
mod plans;
mod simulation;

use std::io::Write;
use std::sync::LazyLock;

use calendar::Calendar;
use operator::Mistake;
use simulation::{Report, Setting};

#[expect(clippy::disallowed_methods, reason = "the test reads its seed; the engine reads nothing")]
fn seed() -> u64 {
    std::env::var("PINTAIL_SEED").map_or(1, |text| text.parse().expect("PINTAIL_SEED is a number"))
}

/// Three weeks around the changes of clocks in spring.
static WEEKS: LazyLock<Calendar> = LazyLock::new(|| Calendar::new(75, 21));

fn short(seed: u64, mistake: Mistake) -> Report {
    simulation::run(&Setting { seed, plans: 60, steps_per_fault: 150, mistake }, &WEEKS)
}

#[test]
fn a_year_of_ten_thousand_schedules_fires_every_tick_once_or_says_that_it_did_not() {
    let setting = Setting { seed: seed(), plans: 10_000, steps_per_fault: 100_000, mistake: Mistake::None };
    let report = simulation::run(&setting, &Calendar::new(0, 365));
    // What `println!` writes is shown of a test that fails only.
    std::io::stdout().write_all(format!("{report}\n").as_bytes()).unwrap();
    assert!(report.ticks >= 5_000_000, "{report}");
    assert!(report.kills > 100 && report.pauses > 100 && report.splits > 100 && report.clock_jumps > 100, "{report}");
    assert!(report.holds(), "{report}");
}

#[test]
fn short_histories_full_of_faults_hold_too() {
    for history in 0..40 {
        let report = short(seed() * 1_000 + history, Mistake::None);
        assert!(report.holds(), "{report}");
        assert!(report.refused_by_name > 0 && report.conflicts > 0, "{report}");
    }
}

/// Whether the simulation sees what an operator does wrong.
fn is_found(mistake: Mistake, fault: impl Fn(&Report) -> u64) -> bool {
    (0..40).any(|history| fault(&short(seed() * 1_000 + history, mistake)) > 0)
}

#[test]
fn an_operator_without_names_is_found_to_fire_twice() {
    assert!(is_found(Mistake::RandomNames, |report| report.doubled));
}

#[test]
fn an_operator_without_markers_is_found_to_fire_twice() {
    assert!(is_found(Mistake::NoMarkers, |report| report.doubled));
}

#[test]
fn an_operator_that_looks_for_the_marker_before_it_creates_is_found_to_fire_twice() {
    assert!(is_found(Mistake::MarkerBeforeCreate, |report| report.doubled));
}

#[test]
fn an_operator_that_writes_before_it_creates_is_found_to_miss() {
    assert!(is_found(Mistake::WriteBeforeCreate, |report| report.missed));
}

#[test]
fn an_operator_that_overwrites_the_status_is_found_to_tell_drops_wrongly() {
    assert!(is_found(Mistake::NoCompare, |report| report.told_wrongly));
}
