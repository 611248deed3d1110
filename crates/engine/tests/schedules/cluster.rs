//! A model of what lasts: the API server with the plans' statuses and Executions, the markers in the store, the lease.

use jiff::Timestamp;
use pintail_engine::Due;

use crate::plans::{Kind, Plan};

/// A leader that has not renewed for so long may be followed.
pub const LEASE_MS: i64 = 15_000;
/// What a watch is behind at most.
const WATCH_LAG_MS: i64 = 2_000;

#[derive(Clone, Copy)]
pub struct Status {
    pub handled_through: Timestamp,
    pub version: u32,
}

#[derive(Clone, Copy)]
pub struct Execution {
    /// The position of its tick in its plan's calendar; with the plan it is its name.
    pub tick: usize,
    pub uid: u32,
    pub started: bool,
}

/// What lasts of one plan.
pub struct Record {
    status: Status,
    before: Status,
    changed_ms: i64,
    pub executions: Vec<Execution>,
    /// What its status told of dropped ticks: the first, the last, how many.
    pub dropped: Vec<(i64, i64, u64)>,
    /// By tick: how often something ran for it, and whether there is a marker.
    pub runs: Vec<u8>,
    markers: Vec<bool>,
}

#[derive(Default)]
pub struct Counts {
    pub refused_by_name: u64,
    pub refused_by_marker: u64,
    pub conflicts: u64,
    pub pruned: u64,
    /// Fired where the calendar has no tick.
    pub invented: u64,
}

pub struct Cluster {
    pub kinds: Vec<Kind>,
    pub plans: Vec<Plan>,
    pub records: Vec<Record>,
    pub counts: Counts,
    pub leader: usize,
    /// Since when the leader does not renew its lease.
    pub silent_since_ms: Option<i64>,
    uids: u32,
}

impl Cluster {
    pub fn new(kinds: Vec<Kind>, plans: Vec<Plan>, start: Timestamp) -> Self {
        let status = Status { handled_through: start, version: 0 };
        let record = |plan: &Plan| {
            let ticks = kinds[plan.kind].ticks_ms.len();
            let (runs, markers) = (vec![0; ticks], vec![false; ticks]);
            let (executions, dropped) = (Vec::new(), Vec::new());
            Record { status, before: status, changed_ms: i64::MIN / 2, executions, dropped, runs, markers }
        };
        let records = plans.iter().map(record).collect();
        let counts = Counts::default();
        Self { kinds, plans, records, counts, leader: 0, silent_since_ms: None, uids: 0 }
    }

    /// The status by a live read.
    pub fn status(&self, plan: usize) -> Status {
        self.records[plan].status
    }

    /// The status as a watch has it.
    pub fn watched_status(&self, plan: usize, now_ms: i64) -> Status {
        let record = &self.records[plan];
        if now_ms - record.changed_ms < WATCH_LAG_MS { record.before } else { record.status }
    }

    /// Writes the status if it still has that version.
    pub fn write_status(&mut self, plan: usize, version: u32, due: &Due, now_ms: i64) -> bool {
        let record = &mut self.records[plan];
        if record.status.version != version {
            self.counts.conflicts += 1;
            return false;
        }
        record.before = record.status;
        record.status = Status { handled_through: due.handled_through, version: version + 1 };
        record.changed_ms = now_ms;
        if let (Some(from), Some(to)) = (due.dropped_from, due.dropped_to) {
            record.dropped.push((from.as_millisecond(), to.as_millisecond(), due.dropped));
        }
        true
    }

    fn tick(&mut self, plan: usize, at: Timestamp) -> Option<usize> {
        let ticks = &self.kinds[self.plans[plan].kind].ticks_ms;
        let found = ticks.binary_search(&at.as_millisecond()).ok();
        // Clocks that are ahead fire what comes after the end.
        let is_beyond = ticks.last().is_none_or(|last| at.as_millisecond() > *last);
        self.counts.invented += u64::from(found.is_none() && !is_beyond);
        found
    }

    pub fn has_marker(&mut self, plan: usize, at: Timestamp) -> bool {
        self.tick(plan, at).is_some_and(|tick| self.records[plan].markers[tick])
    }

    /// Creates the Execution of a tick, unless its name is taken.
    pub fn create(&mut self, plan: usize, at: Timestamp, has_own_name: bool) {
        let Some(tick) = self.tick(plan, at) else { return };
        let record = &mut self.records[plan];
        if !has_own_name && record.executions.iter().any(|execution| execution.tick == tick) {
            self.counts.refused_by_name += 1;
            return;
        }
        self.uids += 1;
        record.executions.push(Execution { tick, uid: self.uids, started: false });
    }

    /// Starts that very Execution, if it is still there and was not started.
    pub fn start(&mut self, plan: usize, uid: u32) {
        let record = &mut self.records[plan];
        if let Some(execution) =
            record.executions.iter_mut().find(|execution| execution.uid == uid && !execution.started)
        {
            execution.started = true;
            record.runs[execution.tick] += 1;
        }
    }

    pub fn is_marked(&self, plan: usize, tick: usize) -> bool {
        self.records[plan].markers[tick]
    }

    pub fn mark(&mut self, plan: usize, tick: usize) {
        self.records[plan].markers[tick] = true;
    }

    /// Deletes that very Execution, if it is still there.
    pub fn delete(&mut self, plan: usize, uid: u32) {
        let executions = &mut self.records[plan].executions;
        if let Some(position) = executions.iter().position(|execution| execution.uid == uid) {
            let counter =
                if executions[position].started { &mut self.counts.pruned } else { &mut self.counts.refused_by_marker };
            *counter += 1;
            executions.remove(position);
        }
    }

    /// When whoever is not the leader may become it; `None` while there is one.
    pub fn lease_free_ms(&self) -> Option<i64> {
        self.silent_since_ms.map(|since| since + LEASE_MS)
    }
}
