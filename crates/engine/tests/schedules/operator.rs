//! An operator as a row of steps, between any two of which it may be killed or paused.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::Timestamp;
use pintail_engine::{Due, due as due_at};

use crate::cluster::{Cluster, Status};
use crate::dice::Dice;

/// Executions that are kept of each plan, so that pruning is always close behind.
const KEPT: usize = 1;

/// What an operator may do wrong, to see that it would be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    None,
    /// Each Execution gets a name of its own.
    RandomNames,
    /// Nothing is left of an Execution that is pruned.
    NoMarkers,
    /// The marker is looked for before the Execution is created, and not before it starts.
    MarkerBeforeCreate,
    /// What was handled is written before the Executions are created.
    WriteBeforeCreate,
    /// What was handled is written whatever the status is by then.
    NoCompare,
}

enum Step {
    /// Read the status, from the watch or live, and decide.
    Decide {
        live: bool,
    },
    /// Create the Execution of the tick at that position.
    Create {
        position: usize,
    },
    /// The same, after the marker was looked for.
    CreateUnmarked {
        position: usize,
    },
    Write,
    /// Look at the plan's Executions: is there one to start or to prune?
    Tend,
    /// Start what had no marker.
    Start {
        uid: u32,
    },
    /// Delete what is marked.
    Delete {
        uid: u32,
    },
}

struct Work {
    plan: usize,
    status: Status,
    due: Option<Due>,
    step: Step,
}

pub struct Operator {
    mistake: Mistake,
    pub leads: bool,
    /// What its clock is ahead.
    pub clock_ms: i64,
    /// Steps that it still makes as leader before it looks whether it is.
    pub unchecked_steps: i64,
    /// When to look at which plan, by the time of the schedule; the earliest on top.
    agenda: BinaryHeap<Reverse<(i64, usize)>>,
    work: Option<Work>,
}

impl Operator {
    pub fn new(mistake: Mistake) -> Self {
        Self { mistake, leads: false, clock_ms: 0, unchecked_steps: 0, agenda: BinaryHeap::new(), work: None }
    }

    /// Begins to lead: every plan is looked at.
    pub fn lead(&mut self, plans: usize) {
        self.leads = true;
        self.work = None;
        self.agenda = (0..plans).map(|plan| Reverse((i64::MIN, plan))).collect();
    }

    /// Forgets everything but its clock.
    pub fn stop(&mut self) {
        *self = Self { clock_ms: self.clock_ms, ..Self::new(self.mistake) };
    }

    /// When it has something to do, which may be long ago.
    pub fn wake_ms(&self) -> i64 {
        match (&self.work, self.agenda.peek()) {
            (None, None) => i64::MAX,
            (None, Some(Reverse((tick_ms, _)))) => tick_ms.saturating_sub(self.clock_ms),
            (Some(_), _) => i64::MIN,
        }
    }

    /// Makes one step.
    pub fn step(&mut self, cluster: &mut Cluster, now_ms: i64, dice: &mut Dice) {
        let work = self.work.take().or_else(|| {
            let Reverse((_, plan)) = self.agenda.pop()?;
            Some(Work { plan, status: cluster.status(plan), due: None, step: Step::Decide { live: dice.one_in(2) } })
        });
        let Some(Work { plan, mut status, due, step }) = work else { return };
        let mut due = due;
        let next = match step {
            Step::Decide { live } => {
                status = if live { cluster.status(plan) } else { cluster.watched_status(plan, now_ms) };
                let now = Timestamp::from_millisecond(now_ms + self.clock_ms).unwrap();
                let (schedule, catch_up) =
                    (&cluster.kinds[cluster.plans[plan].kind].schedule, cluster.plans[plan].catch_up);
                let decided = due_at(schedule, status.handled_through, now, catch_up);
                let is_news = decided.handled_through != status.handled_through;
                due = Some(decided);
                match self.mistake {
                    _ if !is_news => Some(Step::Tend),
                    Mistake::WriteBeforeCreate => Some(Step::Write),
                    _ => Some(Step::Create { position: 0 }),
                }
            }
            Step::Create { position } => self.create(cluster, plan, due.as_ref(), position),
            Step::CreateUnmarked { position } => {
                cluster.create(plan, due.as_ref().unwrap().fire[position].at, false);
                Some(Step::Create { position: position + 1 })
            }
            Step::Write => self.write(cluster, plan, status, due.as_ref(), now_ms),
            Step::Tend => self.tend(cluster, plan),
            Step::Start { uid } => {
                cluster.start(plan, uid);
                Some(Step::Tend)
            }
            Step::Delete { uid } => {
                cluster.delete(plan, uid);
                Some(Step::Tend)
            }
        };
        match next {
            Some(step) => self.work = Some(Work { plan, status, due, step }),
            None => {
                let next = due.and_then(|due| due.next).unwrap();
                self.agenda.push(Reverse((next.as_millisecond(), plan)));
            }
        }
    }

    fn create(&self, cluster: &mut Cluster, plan: usize, due: Option<&Due>, position: usize) -> Option<Step> {
        let Some(tick) = due.unwrap().fire.get(position) else {
            return Some(if self.mistake == Mistake::WriteBeforeCreate { Step::Tend } else { Step::Write });
        };
        let next = Step::Create { position: position + 1 };
        if self.mistake == Mistake::MarkerBeforeCreate {
            let is_marked = cluster.has_marker(plan, tick.at);
            return Some(if is_marked { next } else { Step::CreateUnmarked { position } });
        }
        cluster.create(plan, tick.at, self.mistake == Mistake::RandomNames);
        Some(next)
    }

    fn write(
        &self,
        cluster: &mut Cluster,
        plan: usize,
        status: Status,
        due: Option<&Due>,
        now_ms: i64,
    ) -> Option<Step> {
        let version = match self.mistake {
            Mistake::NoCompare => cluster.status(plan).version,
            _ => status.version,
        };
        match (cluster.write_status(plan, version, due.unwrap(), now_ms), self.mistake) {
            (true, Mistake::WriteBeforeCreate) => Some(Step::Create { position: 0 }),
            (true, _) => Some(Step::Tend),
            (false, _) => Some(Step::Decide { live: true }),
        }
    }

    /// What is there starts unless a marker says that its tick had its run; what ran is pruned, the marker first.
    fn tend(&self, cluster: &mut Cluster, plan: usize) -> Option<Step> {
        let executions = &cluster.records[plan].executions;
        if let Some(execution) = executions.iter().find(|execution| !execution.started) {
            let (uid, tick) = (execution.uid, execution.tick);
            let is_refused = self.mistake != Mistake::MarkerBeforeCreate && cluster.is_marked(plan, tick);
            return Some(if is_refused { Step::Delete { uid } } else { Step::Start { uid } });
        }
        let oldest = executions.first().filter(|_| executions.len() > KEPT)?;
        let (uid, tick) = (oldest.uid, oldest.tick);
        if self.mistake == Mistake::NoMarkers || cluster.is_marked(plan, tick) {
            return Some(Step::Delete { uid });
        }
        cluster.mark(plan, tick);
        Some(Step::Tend)
    }
}
