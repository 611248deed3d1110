//! One run of a LaunchPlan, driven by the command that asked for it.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use pintail_api as api;
use pintail_api::ConditionReason as Reason;
use pintail_execution::launch::{PlanFacts, admit_plan};
use pintail_plan::PlannedLaunch;
use pintail_storage::layout::DEFAULT_NAMESPACE;

use crate::failure::CommandFailure;
use crate::local::driver::Watcher;
use crate::local::lock::RunLock;
use crate::local::records::Records;
use crate::local::waiting::{Created, Started, create, end, pin};
use crate::manifests::Manifests;

/// How often a run that waits for room looks for some.
const LOOK: Duration = Duration::from_millis(500);

/// Creates the run, waits until the plan has room for it, and drives it to its end. `Err` with the run's name where its
/// occurrence had one before.
pub async fn start(
    records: &Records,
    manifests: &Arc<Manifests>,
    plan: &api::LaunchPlan,
    launch: &PlannedLaunch,
    run: api::Execution,
) -> Result<Result<api::Execution, String>, CommandFailure> {
    let mut watcher = Watcher::of_terminal()?;
    let name = run.name_any();
    // Before the run is there: nobody else is to drive it.
    let _lock = RunLock::take(records.store.location(), &name)?;
    let Created::Now(stored) = create(records, run, manifests).await? else { return Ok(Err(name)) };
    let uid = stored.execution.uid().unwrap_or_default();
    if let Some((reason, message)) = wait_for_room(records, plan, launch, &uid, &mut watcher).await? {
        return Ok(Ok(end(records, *stored, reason, &message).await?));
    }
    match pin(records, *stored, manifests).await? {
        Started::Ended(execution) => Ok(Ok(*execution)),
        Started::Pinned(run) => Ok(Ok(run.drive(records, watcher).await?)),
    }
}

/// Waits until the plan lets the run start. Gives why it never will.
async fn wait_for_room(
    records: &Records,
    plan: &api::LaunchPlan,
    launch: &PlannedLaunch,
    uid: &str,
    watcher: &mut Watcher,
) -> Result<Option<(Reason, String)>, CommandFailure> {
    let Some(concurrency) = launch.concurrency else { return Ok(None) };
    let mut said = String::new();
    loop {
        // First the status, then the runs: whoever is in the status is among them.
        let mut stored = records.plan(plan).await?;
        let runs = records.runs_of(&launch.name).await?;
        let status = stored.status();
        let facts = PlanFacts {
            launch,
            namespace: DEFAULT_NAMESPACE,
            created_at: stored.created_at(),
            status: &status,
            runs: &runs,
            artifacts: &[],
        };
        let decision = admit_plan(&facts);
        if decision.status != status {
            stored.plan.status = Some(decision.status.clone());
            if !records.save_plan(&mut stored).await? {
                continue;
            }
        }
        for other in &decision.cancel {
            records.cancel(other).await?;
        }
        let position = |runs: &[api::RunReference]| runs.iter().position(|run| run.uid == uid);
        if position(&decision.status.active).is_some() {
            return Ok(None);
        }
        let limit = concurrency.limit;
        if position(&decision.status.skipped).is_some() {
            let message = format!("LaunchPlan {} allows {limit} at once, and had no room", launch.name);
            return Ok(Some((Reason::Skipped, message)));
        }
        let place = position(&decision.status.queue).map_or(0, |index| index + 1);
        let waits = format!(
            "waiting: LaunchPlan {} allows {limit} at once: place {place} of {} in the queue",
            launch.name, decision.status.queued
        );
        if waits != said {
            watcher.progress.note(&waits);
            said = waits;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Some(()) = watcher.interrupt() => {
                return Ok(Some((Reason::Cancelled, "it was stopped while it waited for room".to_owned())));
            }
        }
    }
}
