//! Every phase times every change.

use std::fmt::Write;

use jiff::Timestamp;

use crate::phase::{Change, transition};
use crate::{Phase, SkipReason, StopReason, TaskIndex};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const OTHER: TaskIndex = TaskIndex(7);

fn phases() -> Vec<Phase> {
    vec![
        Phase::Waiting,
        Phase::Starting { attempt: 2 },
        Phase::Running { attempt: 2, since: NOW },
        Phase::Stopping { attempt: 2, why: StopReason::Timeout },
        Phase::Stopping { attempt: 2, why: StopReason::TaskFailed(OTHER) },
        Phase::Stopping { attempt: 2, why: StopReason::Cancelled },
        Phase::BackingOff { attempt: 2, until: NOW },
        Phase::Succeeded { attempt: 2 },
        Phase::Failed { attempt: 2 },
        Phase::Skipped { why: SkipReason::Condition },
        Phase::Cancelled,
    ]
}

fn changes() -> Vec<Change> {
    let mut changes = vec![Change::Start];
    for attempt in 1..=3 {
        changes.push(Change::Started { attempt, at: NOW });
        changes.push(Change::Succeeded { attempt });
        changes.push(Change::Failed { attempt, retry_at: Some(NOW) });
        changes.push(Change::Failed { attempt, retry_at: None });
    }
    changes.push(Change::ConditionFailed);
    changes.push(Change::Skip(SkipReason::NothingFailed));
    let reasons = [StopReason::Superseded, StopReason::Timeout, StopReason::TaskFailed(OTHER), StopReason::Cancelled];
    changes.extend(reasons.map(Change::Stop));
    changes
}

#[test]
fn every_phase_answers_every_change() {
    let mut table = String::new();
    for phase in phases() {
        writeln!(table, "{phase:?}").unwrap();
        for change in changes() {
            let answer = match transition(phase, change) {
                Ok(next) => format!("{next:?}"),
                Err(why) => format!("({why:?})"),
            };
            let change = format!("{change:?}").replace(&NOW.to_string(), "now");
            writeln!(table, "    {change:<43} {answer}").unwrap();
        }
    }
    insta::assert_snapshot!(table.replace(&NOW.to_string(), "now"));
}

#[test]
fn a_terminal_phase_never_moves() {
    for phase in phases().into_iter().filter(|phase| phase.is_terminal()) {
        for change in changes() {
            assert!(transition(phase, change).is_err(), "{phase:?} {change:?}");
        }
    }
}
