//! Drives one run: facts in, commands out, runners as processes. Every start is a recovery: what is recorded decides,
//! and a result that is committed is never made again.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use pintail_api as api;
use pintail_engine::{Phase, TaskIndex};
use pintail_execution::launch::notifications;
use pintail_execution::{Command, CommittedReport, Run, Seen};
use pintail_protocol::{ExitCode, Failure, FailureClass, ReportOutcome, TaskReport};
use pintail_storage::{RunTask, Store, StoreError};
use tokio::signal::unix::Signal;
use tokio::task::JoinSet;

use crate::failure::{Code, CommandFailure};
use crate::interrupt::interrupts;
use crate::local::process::{Ended, Runner, RunnerProgram};
use crate::local::records::{Records, StoredExecution};
use crate::progress::Progress;

pub struct Driver {
    pub run: Run,
    pub stored: StoredExecution,
    pub records: Records,
    pub connections: pintail_execution::Connections,
    pub program: RunnerProgram,
    pub watcher: Watcher,
}

/// Who sees a run, and may stop it.
pub struct Watcher {
    pub progress: Progress,
    /// Ctrl-C of a terminal that the run has for itself.
    pub interrupts: Option<Signal>,
    /// Whom the run's plan tells of its end. They are listed with the end, so that no crash in between forgets them.
    pub asked: Vec<api::PlanNotification>,
}

impl Watcher {
    /// The terminal of a command that drives one run.
    pub fn of_terminal() -> Result<Self, CommandFailure> {
        Ok(Self { progress: Progress::default(), interrupts: Some(interrupts()?), asked: Vec::new() })
    }

    /// Comes back when Ctrl-C is pressed.
    pub async fn interrupt(&mut self) -> Option<()> {
        match &mut self.interrupts {
            Some(interrupts) => interrupts.recv().await,
            None => std::future::pending().await,
        }
    }
}

/// How often is looked whether somebody asked a run to stop: a file's existence, or one small request.
const CANCEL_LOOK: Duration = Duration::from_secs(1);

/// The processes of a run under way.
#[derive(Default)]
struct Processes {
    runners: BTreeMap<TaskIndex, Runner>,
    ended: JoinSet<Ended>,
}

impl Driver {
    /// Drives the run to its end and gives the finished Execution.
    ///
    /// # Errors
    /// Where the store fails, or a second Ctrl-C ends everything at once.
    pub async fn drive(mut self) -> Result<api::Execution, CommandFailure> {
        let mut processes = Processes::default();
        let mut seen = self.recover().await?;
        let mut cancelled = false;
        let mut looks = tokio::time::interval(CANCEL_LOOK);
        loop {
            let commands = self.run.step(std::mem::take(&mut seen), Timestamp::now(), &self.connections);
            if self.run.outcome().is_some() {
                return self.finish().await;
            }
            self.save().await?;
            for command in commands {
                seen.extend(self.perform(command, &mut processes));
            }
            if !seen.is_empty() {
                continue;
            }
            tokio::select! {
                Some(ended) = processes.ended.join_next() => seen.extend(self.conclude(ended, &mut processes).await?),
                () = sleep_until(self.run.wake()) => {}
                _ = looks.tick(), if !cancelled => {
                    if self.records.is_cancelled(&self.run.context.name).await? {
                        cancelled = true;
                        self.stored.execution.spec.cancel = Some(true);
                        seen.push(Seen::Cancel);
                    }
                }
                Some(()) = self.watcher.interrupt() => {
                    if cancelled {
                        processes.runners.values_mut().for_each(Runner::kill);
                        return Err(self.interrupted());
                    }
                    cancelled = true;
                    self.watcher.progress.note("Stopping. Once more Ctrl-C ends everything at once; nothing committed is lost.");
                    seen.push(Seen::Cancel);
                }
            }
        }
    }

    fn interrupted(&self) -> CommandFailure {
        let message = format!("stopped at once; run it again with: pintail retry {}", self.run.context.name);
        CommandFailure { code: Code::Interrupted, message }
    }

    /// What became of attempts that were under way when the run was last recorded. Their processes are gone with the
    /// one that started them: either their result is committed, or they are lost, which is nobody's fault.
    async fn recover(&self) -> Result<Vec<Seen>, CommandFailure> {
        let mut seen = Vec::new();
        for index in 0..self.run.plan.tasks.len() {
            let task = TaskIndex(u32::try_from(index).map_err(CommandFailure::failed)?);
            let (Phase::Starting { attempt } | Phase::Running { attempt, .. } | Phase::Stopping { attempt, .. }) =
                self.run.phase(task)
            else {
                continue;
            };
            let failure = Failure {
                class: FailureClass::Busy,
                reason: "Interrupted".to_owned(),
                message: "the run was interrupted while this attempt was under way".to_owned(),
            };
            seen.push(match self.committed(task).await? {
                Some(result) => Seen::Committed { task, attempt, result: Box::new(result) },
                None => Seen::Failed { task, attempt, failure, report: None, at: Timestamp::now() },
            });
        }
        Ok(seen)
    }

    /// The committed result of a task, if there is one.
    async fn committed(&self, task: TaskIndex) -> Result<Option<CommittedReport>, StoreError> {
        let Some(run_task) = self.run_task(task)? else { return Ok(None) };
        committed(&self.records.store, &run_task).await
    }

    fn run_task(&self, task: TaskIndex) -> Result<Option<RunTask>, StoreError> {
        let Some(planned) = self.run.plan.tasks.get(task.0 as usize) else { return Ok(None) };
        let context = &self.run.context;
        RunTask::new(&context.namespace, &context.uid, &planned.name, None).map(Some)
    }

    fn perform(&self, command: Command, processes: &mut Processes) -> Option<Seen> {
        match command {
            Command::Start { task, attempt, order } => {
                let pod_uid = uuid::Uuid::new_v4().to_string();
                match self.program.start(task, attempt, &order, &pod_uid) {
                    Ok((runner, ended)) => {
                        processes.runners.insert(task, runner);
                        processes.ended.spawn(ended);
                        Some(Seen::Started { task, attempt, at: Timestamp::now() })
                    }
                    Err(message) => Some(failed(task, attempt, "RunnerNotStarted", message)),
                }
            }
            Command::Stop { task, attempt, .. } => {
                let runner = processes.runners.get_mut(&task).filter(|runner| runner.attempt == attempt);
                match runner {
                    Some(runner) => {
                        runner.stop();
                        None
                    }
                    // Recorded as stopping by a process that is gone, and its runner with it.
                    None => Some(failed(task, attempt, "Lost", "its process is gone".to_owned())),
                }
            }
        }
    }

    async fn conclude(
        &self,
        ended: Result<Ended, tokio::task::JoinError>,
        processes: &mut Processes,
    ) -> Result<Option<Seen>, CommandFailure> {
        let ended = ended.map_err(CommandFailure::failed)?;
        let (task, attempt, at) = (ended.task, ended.attempt, Timestamp::now());
        processes.runners.remove(&task);
        let Some(run_task) = self.run_task(task)? else { return Ok(None) };
        Ok(Some(match outcome(&self.records.store, &run_task, &ended).await? {
            Outcome::Committed(result) => Seen::Committed { task, attempt, result },
            Outcome::Failed { failure, report } => Seen::Failed { task, attempt, failure, report, at },
        }))
    }

    async fn save(&mut self) -> Result<(), CommandFailure> {
        let before = self.stored.execution.status.take().map(|status| status.conditions).unwrap_or_default();
        let mut status = self.run.status(&before, Timestamp::now()).map_err(CommandFailure::failed)?;
        if self.run.outcome().is_some() {
            status.notifications = notifications(&self.watcher.asked, &status);
        }
        self.watcher.progress.show(&status);
        self.stored.execution.status = Some(status);
        self.records.save(&mut self.stored).await
    }

    /// Artifacts first: an Execution that says Succeeded has published.
    async fn finish(mut self) -> Result<api::Execution, CommandFailure> {
        for artifact in self.run.artifacts() {
            self.records.publish(&artifact).await?;
        }
        self.save().await?;
        Ok(self.stored.execution)
    }
}

fn failed(task: TaskIndex, attempt: u32, reason: &str, message: String) -> Seen {
    let failure = Failure { class: FailureClass::Infrastructure, reason: reason.to_owned(), message };
    Seen::Failed { task, attempt, failure, report: None, at: Timestamp::now() }
}

async fn committed(store: &Store, run_task: &RunTask) -> Result<Option<CommittedReport>, StoreError> {
    let committed = store.read_commit(run_task).await?;
    Ok(committed.map(|(commit, report)| CommittedReport { key: commit.report, digest: commit.digest, report }))
}

/// How an attempt has ended.
pub enum Outcome {
    Committed(Box<CommittedReport>),
    Failed { failure: Failure, report: Option<Box<TaskReport>> },
}

/// How an attempt ended, by what is committed first, and by what its process said second.
pub async fn outcome(store: &Store, run_task: &RunTask, ended: &Ended) -> Result<Outcome, StoreError> {
    let said = ended.termination.as_ref().and_then(|message| message.failure.clone());
    let superseded = ended.exit_code == Some(ExitCode::Superseded as i32);
    let committed = if said.is_none() || superseded { committed(store, run_task).await? } else { None };
    if let Some(result) = committed {
        return Ok(Outcome::Committed(Box::new(result)));
    }
    let written = ended.termination.as_ref().and_then(|message| message.report.as_ref().zip(message.digest.as_ref()));
    let report = match written {
        // The termination message says the most important; what else the report says is worth a try, not more.
        Some((key, digest)) => store.read_report(key, digest).await.ok().map(Box::new),
        None => None,
    };
    let full = report.as_ref().and_then(|report| match &report.outcome {
        ReportOutcome::Failed(failure) => Some(failure.clone()),
        ReportOutcome::Succeeded(_) => None,
    });
    let failure = full.or(said).unwrap_or_else(|| lost(ended));
    Ok(Outcome::Failed { failure, report })
}

/// A process that ended without a word: killed, most likely.
fn lost(ended: &Ended) -> Failure {
    let how = match ended.exit_code {
        Some(code) => format!("with exit code {code}"),
        None => "by a signal (out of memory, or someone killed it)".to_owned(),
    };
    let mut message = format!("the runner ended {how} before it committed a result");
    for line in &ended.last_lines {
        message.push('\n');
        message.push_str(line);
    }
    Failure { class: FailureClass::Infrastructure, reason: "Lost".to_owned(), message }
}

pub async fn sleep_until(wake: Option<Timestamp>) {
    match wake {
        Some(wake) => {
            let left = wake.duration_since(Timestamp::now());
            tokio::time::sleep(left.try_into().unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}
