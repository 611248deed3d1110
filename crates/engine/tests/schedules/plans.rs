//! The plans of a simulation: few that tick often, many that tick seldom.

use pintail_engine::{CatchUp, Schedule};

use crate::calendar::{Calendar, ZONES};
use crate::dice::Dice;

/// Patterns, and how many of 10,000 plans have one of them; at least one has, for each way to catch up.
const KINDS: &[(i64, &[&str])] = &[
    (3, &["* * * * *"]),
    (30, &["*/15 * * * *", "7-59/20 * * * *"]),
    (57, &["0 * * * *", "@hourly", "30 * * * *"]),
    (1_400, &["0 0,12 * * *", "30 1,2 * * *", "15 0,23 * * *", "45 2,14 * * *"]),
    (2_600, &["@daily", "0 2 * * *", "30 2 * * *", "30 0 * * *", "15 3 * * *", "59 23 * * *"]),
    (2_500, &["0 0 * * SUN", "30 2 * * 7", "0 6 * * MON-FRI", "45 1 * * SAT,SUN"]),
    (3_410, &["0 0 1 * *", "0 0 L * *", "@yearly", "30 2 * * SUN#L", "0 9 LW * *", "0 0 1 */3 *", "0 0 29 2 *"]),
];

/// What one or several plans have in common.
pub struct Kind {
    pub schedule: Schedule,
    /// When it ticks by the calendar, oldest first.
    pub ticks_ms: Vec<i64>,
}

pub struct Plan {
    /// The position of its kind.
    pub kind: usize,
    pub catch_up: CatchUp,
}

/// So many plans.
pub fn plans(count: usize, dice: &mut Dice, calendar: &Calendar) -> (Vec<Kind>, Vec<Plan>) {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut known: std::collections::BTreeMap<(&str, usize), usize> = std::collections::BTreeMap::new();
    let mut plans = Vec::new();
    for (parts, patterns) in KINDS {
        let wanted = usize::try_from(*parts).unwrap() * count / 10_000;
        for position in 0..wanted.max(3) {
            let pattern = *dice.of(patterns);
            let zone = usize::try_from(dice.between(0, ZONES.len().try_into().unwrap())).unwrap();
            let kind = *known.entry((pattern, zone)).or_insert_with(|| {
                let schedule = Schedule::parse(pattern, ZONES[zone]).unwrap();
                kinds.push(Kind { schedule, ticks_ms: calendar.ticks_ms(pattern, zone) });
                kinds.len() - 1
            });
            plans.push(Plan { kind, catch_up: [CatchUp::None, CatchUp::Latest, CatchUp::All][position % 3] });
        }
    }
    assert!(plans.len() >= count, "{} plans", plans.len());
    (kinds, plans)
}
