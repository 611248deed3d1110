//! What decisions come to: records, and drivers.

use std::num::NonZero;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use pintail_api as api;
use pintail_api::ConditionReason as Reason;
use pintail_engine::RunStage;
use pintail_execution::launch::{PlanDecision, PlanFacts, PlanRun, advance_plan};
use pintail_protocol::StoreLocation;
use pintail_storage::layout::DEFAULT_NAMESPACE;

use super::board::Known;
use super::server::{Driven, Server, TRY_AGAIN};
use crate::failure::CommandFailure;
use crate::local::driver::Watcher;
use crate::local::lock::RunLock;
use crate::local::notify::Teller;
use crate::local::process::RunnerProgram;
use crate::local::records::Records;
use crate::local::start::RestoredRun;
use crate::local::waiting::{Created, Started, create, end, pin};
use crate::manifests::Manifests;
use crate::progress::Progress;
use crate::render::ending;

/// Runs that are driven at once: each has attempts of its own, and DuckDB takes all processors in each. Others wait.
fn runs_at_once() -> usize {
    const AT_LEAST: usize = 2;
    std::thread::available_parallelism().map_or(AT_LEAST, NonZero::get).max(AT_LEAST)
}

impl Server {
    /// Creates a run, unless its occurrence has one. Gives whether it was created.
    pub(super) async fn create(&mut self, run: api::Execution) -> Result<bool, CommandFailure> {
        if self.board.run(&run.name_any()).is_some() {
            return Ok(false);
        }
        match create(&self.records, run, &self.manifests).await? {
            Created::Now(stored) => {
                self.say.created(&stored.execution);
                self.board.learn(&stored.execution);
                Ok(true)
            }
            Created::Before => Ok(false),
        }
    }

    /// Whether the run's occurrence has one, or had.
    pub(super) async fn is_known(&self, run: &api::Execution) -> Result<bool, CommandFailure> {
        if self.board.run(&run.name_any()).is_some() {
            return Ok(true);
        }
        match &run.spec.trigger {
            Some(started) => Ok(self.records.claimed(started).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Does what a plan asks for now, until it asks for nothing more.
    pub(super) async fn advance(&mut self, index: usize) -> Result<(), CommandFailure> {
        loop {
            let Some(served) = self.plans.get(index) else { return Ok(()) };
            let status = served.stored.status();
            let runs = self.board.of(&served.launch.name);
            let facts = PlanFacts {
                launch: &served.launch,
                namespace: DEFAULT_NAMESPACE,
                created_at: served.stored.created_at(),
                status: &status,
                runs: &runs,
                artifacts: &self.board.artifacts,
            };
            let decision = advance_plan(&facts, Timestamp::now());
            let mut created = false;
            for run in &decision.create {
                created |= self.create(run.clone()).await?;
            }
            if !self.write_status(index, &status, &decision).await? {
                // Another process has decided meanwhile, on runs that may be new here.
                self.board.refresh(&self.records, &self.own).await?;
                continue;
            }
            self.afterwards(index, &decision).await?;
            if !created && decision.prune.is_empty() && decision.wake != Some(Timestamp::MIN) {
                if let Some(served) = self.plans.get_mut(index) {
                    served.wake = decision.wake;
                }
                return Ok(());
            }
        }
    }

    /// False where the plan has changed since it was read; then it was read again.
    async fn write_status(
        &mut self,
        index: usize,
        before: &api::LaunchPlanStatus,
        decision: &PlanDecision,
    ) -> Result<bool, CommandFailure> {
        let Some(served) = self.plans.get_mut(index) else { return Ok(true) };
        let mut status = decision.status.clone();
        status.observed_generation = served.stored.plan.metadata.generation;
        if status == *before {
            return Ok(true);
        }
        served.stored.plan.status = Some(status);
        if self.records.save_plan(&mut served.stored).await? {
            return Ok(true);
        }
        let plan = served.stored.plan.clone();
        served.stored = self.records.plan(&plan).await?;
        Ok(false)
    }

    async fn afterwards(&mut self, index: usize, decision: &PlanDecision) -> Result<(), CommandFailure> {
        let Some(served) = self.plans.get(index) else { return Ok(()) };
        for (trigger, message) in &decision.dropped {
            self.say.dropped(&served.launch.name, trigger, message);
        }
        for run in &decision.cancel {
            self.records.cancel(run).await?;
        }
        for run in &decision.prune {
            self.records.prune(run, &started_by(&served.launch.name, run)).await?;
            self.board.forget(&run.name);
        }
        Ok(())
    }

    /// Drives the runs that may run and that nobody drives, the first to have been asked for first.
    pub(super) async fn start_runs(&mut self) -> Result<(), CommandFailure> {
        let now = Timestamp::now();
        self.troubled.retain(|_, until| *until > now);
        let mut ready: Vec<Known> = self.board.runs().filter(|known| self.may_drive(known)).cloned().collect();
        // What was under way goes on before anything new.
        ready
            .sort_by_key(|known| (known.run.stage != RunStage::Running, known.run.occurred_at, known.run.name.clone()));
        for known in ready {
            let name = known.run.name.clone();
            match self.verdict(&known) {
                Verdict::Waits => {}
                Verdict::Skipped(message) => self.skip(&name, &message).await?,
                Verdict::Runs if self.own.len() < runs_at_once() => {
                    let Some(lock) = RunLock::try_take(self.records.store.location(), &name)? else { continue };
                    self.own.insert(name.clone());
                    let asked = self.plans.iter().find(|served| served.launch.name == known.plan);
                    let asked = asked.map(|served| served.launch.notifications.clone()).unwrap_or_default();
                    let manifests = Arc::clone(&self.manifests);
                    self.drivers.spawn(driven(self.records.clone(), manifests, name, asked, lock));
                }
                Verdict::Runs => {}
            }
        }
        Ok(())
    }

    /// A run by hand belongs to the command that asked for it; where a lock tells that it is gone, it goes on here.
    fn may_drive(&self, known: &Known) -> bool {
        let is_folder = matches!(self.records.store.location(), StoreLocation::Folder { .. });
        let run = &known.run;
        let free = !self.own.contains(&run.name) && !self.troubled.contains_key(&run.name);
        (run.stage != RunStage::Ended || known.tells) && free && (run.trigger.is_some() || is_folder)
    }

    /// Whether the plan lets the run start: only runs in its status, which is written by compare and swap, may.
    fn verdict(&self, known: &Known) -> Verdict {
        let Some(served) = self.plans.iter().find(|served| served.launch.name == known.plan) else {
            return Verdict::Waits;
        };
        let Some(concurrency) = served.launch.concurrency.filter(|_| known.run.stage == RunStage::Waiting) else {
            return Verdict::Runs;
        };
        let status = served.stored.status();
        let lists = |runs: &[api::RunReference]| runs.iter().any(|run| run.uid == known.run.uid);
        if lists(&status.active) {
            Verdict::Runs
        } else if lists(&status.skipped) {
            let limit = concurrency.limit;
            Verdict::Skipped(format!("LaunchPlan {} allows {limit} at once, and had no room", known.plan))
        } else {
            Verdict::Waits
        }
    }

    async fn skip(&mut self, run: &str, message: &str) -> Result<(), CommandFailure> {
        let Some(_lock) = RunLock::try_take(self.records.store.location(), run)? else { return Ok(()) };
        if let Some(stored) = self.records.find(run).await? {
            let ended = end(&self.records, stored, Reason::Skipped, message).await?;
            self.conclude(Driven { run: run.to_owned(), outcome: Ok(Some(ended)) });
        }
        Ok(())
    }

    /// Takes in how a driver ended.
    pub(super) fn conclude(&mut self, driven: Driven) {
        self.own.remove(&driven.run);
        match driven.outcome {
            Ok(Some(execution)) => {
                self.board.learn(&execution);
                if ending(&execution).is_some() {
                    self.say.ended(&execution);
                }
            }
            Ok(None) => self.board.forget(&driven.run),
            Err(failure) => {
                self.say.trouble(&format!("run {}: {}", driven.run, failure.message));
                if let Ok(until) = Timestamp::now().checked_add(TRY_AGAIN) {
                    self.troubled.insert(driven.run, until);
                }
            }
        }
    }
}

enum Verdict {
    Runs,
    Waits,
    Skipped(String),
}

fn started_by(plan: &str, run: &PlanRun) -> api::StartedBy {
    api::StartedBy {
        plan: plan.to_owned(),
        name: run.trigger.clone(),
        occurrence: run.occurrence.clone(),
        ..api::StartedBy::default()
    }
}

/// Drives a run to its end, from wherever it is.
async fn driven(
    records: Records,
    manifests: Arc<Manifests>,
    run: String,
    asked: Vec<api::PlanNotification>,
    lock: RunLock,
) -> Driven {
    let outcome = match drive(&records, &manifests, &run, &asked).await {
        Ok(Some(ended)) => tell(&records, &manifests, &asked, ended).await.map(Some),
        outcome => outcome,
    };
    drop(lock);
    Driven { run, outcome }
}

async fn drive(
    records: &Records,
    manifests: &Arc<Manifests>,
    run: &str,
    asked: &[api::PlanNotification],
) -> Result<Option<api::Execution>, CommandFailure> {
    let Some(stored) = records.find(run).await? else { return Ok(None) };
    let status = stored.execution.status.as_ref();
    if status.is_some_and(|status| status.completion_time.is_some()) {
        return Ok(Some(stored.execution));
    }
    let is_pinned = status.is_some_and(|status| status.resolved.is_some());
    let restored = match is_pinned {
        true => RestoredRun::with(records, stored, Arc::clone(manifests)).await?,
        false => match pin(records, stored, manifests).await? {
            Started::Pinned(restored) => *restored,
            Started::Ended(execution) => return Ok(Some(*execution)),
        },
    };
    let watcher = Watcher { progress: Progress::of_many(run), interrupts: None, asked: asked.to_vec() };
    restored.drive(records, watcher).await.map(Some)
}

/// Tells of the end of a run whom its plan asks to. Until `driven` lets the lock go, nobody else writes the record.
async fn tell(
    records: &Records,
    manifests: &Manifests,
    asked: &[api::PlanNotification],
    ended: api::Execution,
) -> Result<api::Execution, CommandFailure> {
    if asked.is_empty() {
        return Ok(ended);
    }
    let program = RunnerProgram::find(manifests.secrets().clone()).map_err(CommandFailure::failed)?;
    let teller = Teller { records, program: &program, connections: manifests.connections(), flags: "" };
    let name = ended.name_any();
    teller.tell(&name, asked).await?;
    Ok(records.find(&name).await?.map_or(ended, |stored| stored.execution))
}
