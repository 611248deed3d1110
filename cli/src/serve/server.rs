//! The loop: look at the clock and the store, decide, perform, wait.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::launch::{is_full, of_happened, recorded, runs_of_version, started_run, trigger_of};
use pintail_plan::{PlannedLaunch, TriggerOn};
use pintail_protocol::{Happened, Occurrence, OccurrenceAnswer, StoreLocation};
use pintail_storage::layout::DEFAULT_NAMESPACE;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::board::Board;
use super::say::Say;
use crate::failure::CommandFailure;
use crate::local::lock::RunLock;
use crate::local::plans::StoredPlan;
use crate::local::records::Records;
use crate::manifests::Manifests;

/// How often the store is looked at for what other processes did there.
const LOOK_FOLDER: Duration = Duration::from_secs(1);
/// A bucket is asked by requests, which cost.
const LOOK_BUCKET: Duration = Duration::from_secs(5);
/// After something went wrong that may pass: the store does not answer, a program is missing.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(10);

/// An occurrence that the agent tells of, and where the answer goes.
pub type Told = (Occurrence, oneshot::Sender<OccurrenceAnswer>);

/// A plan that is served.
pub(super) struct Served {
    pub launch: PlannedLaunch,
    pub stored: StoredPlan,
    pub wake: Option<Timestamp>,
    _lock: RunLock,
}

/// How a driver ended.
pub(super) struct Driven {
    pub run: String,
    pub outcome: Result<Option<api::Execution>, CommandFailure>,
}

pub struct Server {
    pub(super) records: Records,
    pub(super) manifests: Arc<Manifests>,
    pub(super) plans: Vec<Served>,
    pub(super) board: Board,
    /// Runs that are driven here.
    pub(super) own: BTreeSet<String>,
    pub(super) drivers: JoinSet<Driven>,
    /// Runs that could not be driven, and when that is tried again.
    pub(super) troubled: BTreeMap<String, Timestamp>,
    pub(super) say: Say,
}

impl Server {
    /// Reads what the store has of the plans, and makes what it has not.
    pub async fn open(records: Records, manifests: Arc<Manifests>, say: Say) -> Result<Self, CommandFailure> {
        let mut plans = Vec::new();
        for (plan, launch) in manifests.launches()? {
            let lock = RunLock::try_plan(records.store.location(), &launch.name)?.ok_or_else(|| {
                CommandFailure::failed(format!("LaunchPlan {:?} is served by another process", launch.name))
            })?;
            let stored = records.apply_plan(plan).await?;
            plans.push(Served { launch, stored, wake: None, _lock: lock });
        }
        if plans.is_empty() {
            return Err(CommandFailure::usage("there is no LaunchPlan in these files"));
        }
        let names = plans.iter().map(|plan| plan.launch.name.clone()).collect();
        let triggers = plans.iter().flat_map(|plan| &plan.launch.triggers);
        let datasets = triggers.flat_map(|trigger| match &trigger.on {
            TriggerOn::Artifacts { datasets, .. } => datasets.iter().map(|dataset| dataset.name.clone()).collect(),
            _ => Vec::new(),
        });
        let board = Board::new(names, datasets.collect());
        Ok(Self {
            records,
            manifests,
            plans,
            board,
            own: BTreeSet::new(),
            drivers: JoinSet::new(),
            troubled: BTreeMap::new(),
            say,
        })
    }

    /// Says what is served.
    pub fn announce(&self, address: Option<SocketAddr>) {
        let names: Vec<String> = self.plans.iter().map(|plan| plan.launch.name.clone()).collect();
        for plan in &self.plans {
            if let Some(next) = &plan.stored.status().next_run {
                eprintln!("{}  next {next}", plan.launch.name);
            }
        }
        let events =
            address.map_or_else(String::new, |address| format!("; events at http://{address}/events/PLAN/TRIGGER"));
        let line = format!("serving {}{events}; Ctrl-C ends it", names.join(", "));
        self.say.serving(&line, &names, address.map(|address| address.to_string()));
    }

    /// The runs that are driven here.
    pub fn under_way(&self) -> Vec<String> {
        self.own.iter().cloned().collect()
    }

    /// Looks and waits, for ever. Only what no second attempt mends ends it.
    pub async fn run(&mut self, mut told: mpsc::Receiver<Told>) -> Result<(), CommandFailure> {
        let every = match self.records.store.location() {
            StoreLocation::Folder { .. } => LOOK_FOLDER,
            StoreLocation::S3 { .. } => LOOK_BUCKET,
        };
        let mut pause = Duration::ZERO;
        loop {
            let wait = pause.max(self.until_wake(every));
            tokio::select! {
                Some(driven) = self.drivers.join_next() => match driven {
                    Ok(driven) => self.conclude(driven),
                    Err(error) => return Err(CommandFailure::failed(error)),
                },
                Some((occurrence, answer)) = told.recv() => match self.take(&occurrence).await {
                    // Whoever asked may have gone; then it asks again.
                    Ok(found) => drop(answer.send(found)),
                    Err(failure) => self.say.trouble(&failure.message),
                },
                () = tokio::time::sleep(wait) => {}
            }
            pause = match self.look().await {
                Ok(()) => Duration::ZERO,
                Err(failure) => {
                    self.say.trouble(&failure.message);
                    TRY_AGAIN
                }
            };
        }
    }

    fn until_wake(&self, every: Duration) -> Duration {
        let now = Timestamp::now();
        let wakes = self.plans.iter().filter_map(|plan| plan.wake);
        let waits = wakes.map(|wake| Duration::try_from(wake.duration_since(now)).unwrap_or_default());
        waits.min().map_or(every, |wait| wait.min(every)).max(Duration::from_millis(1))
    }

    /// Does all that can be done now.
    pub async fn look(&mut self) -> Result<(), CommandFailure> {
        self.board.refresh(&self.records, &self.own).await?;
        for index in 0..self.plans.len() {
            self.advance(index).await?;
        }
        if self.dispatch().await? {
            for index in 0..self.plans.len() {
                self.advance(index).await?;
            }
        }
        self.start_runs().await
    }

    /// Holds new versions against the triggers. Gives whether a run was created.
    async fn dispatch(&mut self) -> Result<bool, CommandFailure> {
        let mut created = false;
        for artifact in std::mem::take(&mut self.board.undispatched) {
            let mut waits = false;
            for index in 0..self.plans.len() {
                let Some(plan) = self.plans.get(index) else { continue };
                let name = plan.launch.name.clone();
                let runs = runs_of_version(&plan.launch, &plan.stored.status(), &artifact, DEFAULT_NAMESPACE);
                let is_full = is_full(&plan.launch, self.board.living(&name));
                for (trigger, run) in runs {
                    match run {
                        Ok(run) if is_full && !self.is_known(&run).await? => waits = true,
                        Ok(run) => created |= self.create(run).await?,
                        Err(message) => self.say.dropped(&name, &trigger, &message),
                    }
                }
            }
            if waits {
                // There is no room for its run: the version waits where it is.
                self.board.undispatched.push(artifact);
            }
        }
        Ok(created)
    }

    /// Takes in what the agent tells of.
    async fn take(&mut self, occurrence: &Occurrence) -> Result<OccurrenceAnswer, CommandFailure> {
        let dropped = |reason: &str| Ok(OccurrenceAnswer::Dropped { reason: reason.to_owned() });
        let Some(plan) = self.plans.iter().find(|plan| plan.launch.name == occurrence.plan) else {
            return dropped("the LaunchPlan is not served");
        };
        let launch = &plan.launch;
        let Some(trigger) = trigger_of(launch, &occurrence.trigger) else {
            return dropped("the LaunchPlan has no such trigger");
        };
        let run = match started_run(launch, Some(trigger), &of_happened(&occurrence.happened), DEFAULT_NAMESPACE) {
            Ok(run) => run,
            Err(message) => {
                self.say.dropped(&occurrence.plan, &occurrence.trigger, &message);
                return dropped(&message);
            }
        };
        let name = run.name_any();
        if self.is_known(&run).await? {
            return Ok(OccurrenceAnswer::Execution { name });
        }
        if launch.suspended {
            return dropped("the LaunchPlan is suspended");
        }
        let status = plan.stored.status();
        let Some(since) = recorded(&status, trigger).and_then(|found| found.since.parse::<Timestamp>().ok()) else {
            return Ok(OccurrenceAnswer::Full { reason: "the trigger was not looked at yet".to_owned() });
        };
        // Of objects, the agent's own set tells which are from before.
        if matches!(&occurrence.happened, Happened::Event(event) if event.time < since) {
            return dropped("it happened before the trigger was there");
        }
        if is_full(launch, self.board.living(&launch.name)) {
            return Ok(OccurrenceAnswer::Full { reason: format!("the queue of LaunchPlan {} is full", launch.name) });
        }
        self.create(run).await?;
        Ok(OccurrenceAnswer::Execution { name })
    }
}
