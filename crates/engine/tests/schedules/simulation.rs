//! Two operators, what befalls them, and what came of it.

use std::fmt;

use jiff::Timestamp;
use pintail_engine::CatchUp;

use crate::calendar::Calendar;
use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::operator::{Mistake, Operator};
use crate::plans;

const HOUR_MS: i64 = 60 * 60 * 1_000;
const MINUTE_MS: i64 = 60 * 1_000;
/// The longest time without any operator: what a minutely plan misses then is less than what `catchUp: All` catches up on.
const OUTAGE_MS: i64 = 12 * HOUR_MS;

pub struct Setting {
    pub seed: u64,
    pub plans: usize,
    /// One in so many steps something happens.
    pub steps_per_fault: i64,
    pub mistake: Mistake,
}

/// What came of a simulation.
#[derive(Default)]
pub struct Report {
    seed: u64,
    plans: usize,
    pub ticks: u64,
    started: u64,
    /// Ticks that started more than one run.
    pub doubled: u64,
    /// Ticks that started none and were not told to be dropped, and those of `catchUp: All` that started none.
    pub missed: u64,
    /// Ticks that started none, told: of `None`, and of `Latest`.
    dropped: [u64; 2],
    /// Ticks that were told to be dropped and did start: by an operator that died before it could write.
    started_though_told: u64,
    /// Dropped ticks that were told twice, or counted wrongly.
    pub told_wrongly: u64,
    invented: u64,
    pub refused_by_name: u64,
    refused_by_marker: u64,
    pub conflicts: u64,
    pruned: u64,
    pub kills: u64,
    pub pauses: u64,
    pub splits: u64,
    pub clock_jumps: u64,
    steps: u64,
}

impl Report {
    pub fn holds(&self) -> bool {
        self.doubled == 0 && self.missed == 0 && self.invented == 0 && self.told_wrongly == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, plans, ticks, started, doubled, missed, dropped: [none, latest], .. } = self;
        write!(f, "seed {seed}: {plans} schedules, {ticks} ticks: {doubled} doubled, {missed} unreported misses; ")?;
        write!(f, "{started} started, {} dropped and reported (None {none}, Latest {latest}, All 0)", none + latest)?;
        write!(f, ", {} reported though started, {} reported wrongly", self.started_though_told, self.told_wrongly)?;
        write!(f, ", {} invented; {} kills, {} pauses", self.invented, self.kills, self.pauses)?;
        write!(f, ", {} times two leaders, {} clock jumps; ", self.splits, self.clock_jumps)?;
        write!(f, "{} creations refused by name, {} starts by marker, ", self.refused_by_name, self.refused_by_marker)?;
        write!(f, "{} conflicting writes, {} pruned, {} steps", self.conflicts, self.pruned, self.steps)
    }
}

/// One operator's process.
struct Process {
    operator: Operator,
    is_down: bool,
    /// When it does something next.
    ready_ms: i64,
}

struct Simulation<'a> {
    setting: &'a Setting,
    dice: Dice,
    cluster: Cluster,
    processes: [Process; 2],
    now_ms: i64,
    report: Report,
}

pub fn run(setting: &Setting, calendar: &Calendar) -> Report {
    let mut dice = Dice::new(setting.seed);
    let Calendar { start_ms, end_ms, .. } = *calendar;
    let (kinds, plans) = plans::plans(setting.plans, &mut dice, calendar);
    let cluster = Cluster::new(kinds, plans, Timestamp::from_millisecond(start_ms).unwrap());
    let processes =
        [0, 1].map(|_| Process { operator: Operator::new(setting.mistake), is_down: false, ready_ms: start_ms });
    let report = Report { seed: setting.seed, plans: cluster.plans.len(), ..Report::default() };
    let mut simulation = Simulation { setting, dice, cluster, processes, now_ms: start_ms, report };
    simulation.cluster.silent_since_ms = Some(start_ms - HOUR_MS);
    simulation.run_until(end_ms);
    simulation.settle(end_ms);
    simulation.into_report()
}

impl Simulation<'_> {
    fn run_until(&mut self, end_ms: i64) {
        loop {
            let ready = [self.processes[0].ready_ms, self.processes[1].ready_ms];
            let index = usize::from(ready[1] < ready[0] || ready[1] == ready[0] && self.dice.one_in(2));
            if ready[index] > end_ms {
                return;
            }
            self.now_ms = self.now_ms.max(ready[index]);
            self.turn(index);
        }
    }

    /// One process does what it is up to.
    fn turn(&mut self, index: usize) {
        self.processes[index].is_down = false;
        if !self.processes[index].operator.leads {
            return self.wait_for_lease(index);
        }
        if self.cluster.leader == index {
            self.cluster.silent_since_ms = None;
        }
        if self.dice.one_in(self.setting.steps_per_fault) {
            return self.befall(index);
        }
        self.report.steps += 1;
        let operator = &mut self.processes[index].operator;
        operator.step(&mut self.cluster, self.now_ms, &mut self.dice);
        if operator.unchecked_steps > 0 {
            operator.unchecked_steps -= 1;
        } else if self.cluster.leader != index {
            operator.stop();
        }
        let pace_ms = self.dice.between(0, 2);
        self.processes[index].ready_ms = self.processes[index].operator.wake_ms().max(self.now_ms + pace_ms);
        if !self.processes[index].operator.leads {
            self.processes[index].ready_ms = self.now_ms;
        }
    }

    fn wait_for_lease(&mut self, index: usize) {
        self.processes[index].ready_ms = match self.cluster.lease_free_ms() {
            None => i64::MAX,
            Some(free_ms) if free_ms > self.now_ms => free_ms,
            Some(_) => {
                self.cluster.leader = index;
                self.cluster.silent_since_ms = None;
                self.processes[index].operator.lead(self.cluster.plans.len());
                self.now_ms
            }
        };
    }

    /// Something happens to the operator that is about to make a step.
    fn befall(&mut self, index: usize) {
        match self.dice.between(0, 4) {
            0 => {
                self.kill(index);
                // A node goes, or the cluster: the other one too.
                if self.dice.one_in(3) {
                    self.kill(1 - index);
                }
            }
            1 => self.pause(index),
            2 => self.split(1 - index),
            _ => self.move_clock(index),
        }
    }

    fn away_ms(&mut self) -> i64 {
        match self.dice.between(0, 10) {
            0..4 => self.dice.between(1, 20_000),
            4..9 => self.dice.between(MINUTE_MS, 30 * MINUTE_MS),
            _ => self.dice.between(HOUR_MS, OUTAGE_MS),
        }
    }

    fn kill(&mut self, index: usize) {
        self.report.kills += 1;
        self.processes[index].operator.stop();
        self.processes[index].is_down = true;
        self.processes[index].ready_ms = self.now_ms + self.away_ms();
        self.fall_silent(index);
    }

    /// It stands still amid its work, and goes on with what it knew.
    fn pause(&mut self, index: usize) {
        self.report.pauses += 1;
        self.processes[index].ready_ms = self.now_ms + self.away_ms();
        self.processes[index].operator.unchecked_steps = self.dice.between(0, 30);
        self.fall_silent(index);
    }

    fn fall_silent(&mut self, index: usize) {
        if self.cluster.leader != index {
            return;
        }
        let since_ms = *self.cluster.silent_since_ms.get_or_insert(self.now_ms);
        let other = &mut self.processes[1 - index];
        if !other.operator.leads && !other.is_down {
            other.ready_ms = other.ready_ms.min(since_ms + crate::cluster::LEASE_MS).max(self.now_ms);
        }
    }

    /// One that waits takes itself for the leader, for a while.
    fn split(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if process.operator.leads || process.is_down {
            return;
        }
        self.report.splits += 1;
        process.operator.lead(self.cluster.plans.len());
        process.operator.unchecked_steps = self.dice.between(1, 3 * i64::try_from(self.cluster.plans.len()).unwrap());
        process.ready_ms = self.now_ms;
    }

    /// Its clock goes wrong by up to an hour either way, or right again.
    fn move_clock(&mut self, index: usize) {
        self.report.clock_jumps += 1;
        let operator = &mut self.processes[index].operator;
        operator.clock_ms = match operator.clock_ms {
            0 => *self.dice.of(&[-HOUR_MS, HOUR_MS, -90_000, 90_000, 30 * MINUTE_MS]),
            _ => 0,
        };
        self.processes[index].ready_ms = operator.wake_ms().max(self.now_ms);
    }

    /// A last operator, with a clock that is right, does what is left.
    fn settle(&mut self, end_ms: i64) {
        let mut last = Operator::new(self.setting.mistake);
        // Beyond what a watch is behind.
        let now_ms = end_ms + MINUTE_MS / 2;
        last.lead(self.cluster.plans.len());
        while last.wake_ms() <= now_ms {
            last.step(&mut self.cluster, now_ms, &mut self.dice);
        }
    }

    /// Holds what happened against the calendar.
    fn into_report(self) -> Report {
        let Self { cluster, mut report, .. } = self;
        for (plan, record) in cluster.plans.iter().zip(&cluster.records) {
            let ticks = &cluster.kinds[plan.kind].ticks_ms;
            let mut told = vec![false; ticks.len()];
            for (from, to, count) in &record.dropped {
                let range = ticks.partition_point(|tick| tick < from)..ticks.partition_point(|tick| tick <= to);
                // What a clock that is ahead drops beyond the end is in no calendar.
                let ends_inside = ticks.last().is_some_and(|last| to <= last);
                report.told_wrongly += u64::from(ends_inside && range.len() as u64 != *count);
                for told in &mut told[range] {
                    report.told_wrongly += u64::from(*told);
                    *told = true;
                }
            }
            report.ticks += ticks.len() as u64;
            for (runs, told) in record.runs.iter().zip(told) {
                report.started += u64::from(*runs > 0);
                report.doubled += u64::from(*runs > 1);
                report.started_though_told += u64::from(*runs > 0 && told);
                if *runs == 0 {
                    match plan.catch_up {
                        CatchUp::None if told => report.dropped[0] += 1,
                        CatchUp::Latest if told => report.dropped[1] += 1,
                        _ => report.missed += 1,
                    }
                }
            }
        }
        let counts = cluster.counts;
        (report.refused_by_name, report.refused_by_marker) = (counts.refused_by_name, counts.refused_by_marker);
        (report.conflicts, report.pruned, report.invented) = (counts.conflicts, counts.pruned, counts.invented);
        report
    }
}
