//! Whoever a LaunchPlan tells of the end of its run, on this machine: attempts are processes, and how far it is stands in
//! the stored Execution.

use jiff::Timestamp;
use pintail_api as api;
use pintail_engine::TaskIndex;
use pintail_execution::Connections;
use pintail_execution::launch::{NotificationPlace, attempt_ended, next_attempt, notification_order, notifications};
use pintail_protocol::{Failure, FailureClass, WorkOrder};
use pintail_storage::RunTask;

use crate::failure::CommandFailure;
use crate::local::driver::{Outcome, outcome, sleep_until};
use crate::local::process::RunnerProgram;
use crate::local::records::Records;

/// What telling needs.
pub struct Teller<'a> {
    pub records: &'a Records,
    pub program: &'a RunnerProgram,
    pub connections: &'a Connections,
    /// What further commands need to find the run: ` --store PATH`, or nothing.
    pub flags: &'a str,
}

impl Teller<'_> {
    /// Tells of the end of a run, and waits between attempts. `asked` are the `notifications` of the run's plan; they count
    /// where the Execution does not list anybody yet, so that what was interrupted goes on with none. Nobody else may write
    /// the Execution meanwhile.
    ///
    /// # Errors
    /// Where the store fails. A message that cannot be sent is none: the Execution says so.
    pub async fn tell(&self, run: &str, asked: &[api::PlanNotification]) -> Result<(), CommandFailure> {
        let mut stored = self.records.execution(run).await?;
        let Some(status) = &mut stored.execution.status else { return Ok(()) };
        if status.notifications.is_empty() {
            status.notifications = notifications(asked, status);
            if !status.notifications.is_empty() {
                self.records.save(&mut stored).await?;
            }
        }
        while let Some((at, index)) = next(&stored.execution) {
            sleep_until(Some(at)).await;
            let outcome = self.attempt(&stored.execution, index).await?;
            let told = stored.execution.status.as_mut().and_then(|status| status.notifications.get_mut(index));
            if let Some(told) = told {
                *told = attempt_ended(told, outcome.as_ref().copied(), Timestamp::now());
            }
            self.records.save(&mut stored).await?;
        }
        Ok(())
    }

    async fn attempt(&self, execution: &api::Execution, index: usize) -> Result<Result<(), Failure>, CommandFailure> {
        let told = execution.status.as_ref().and_then(|status| status.notifications.get(index));
        let Some(attempt) = told.and_then(next_attempt) else { return Ok(Ok(())) };
        let store = self.records.store.location();
        let place = NotificationPlace { store, connections: self.connections, flags: self.flags };
        match notification_order(execution, index, attempt, &place) {
            Ok(order) => self.send(&order).await,
            Err(failure) => Ok(Err(failure)),
        }
    }

    async fn send(&self, order: &WorkOrder) -> Result<Result<(), Failure>, CommandFailure> {
        let pod_uid = uuid::Uuid::new_v4().to_string();
        // The number is for whoever has many processes at once.
        let ended = match self.program.start(TaskIndex(0), order.identity.attempt, order, &pod_uid) {
            Ok((_runner, ended)) => ended.await,
            Err(message) => {
                let reason = "RunnerNotStarted".to_owned();
                return Ok(Err(Failure { class: FailureClass::Infrastructure, reason, message }));
            }
        };
        let run_task = RunTask::of(&order.identity)?;
        Ok(match outcome(&self.records.store, &run_task, &ended).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Failed { failure, .. } => Err(failure),
        })
    }
}

/// The attempt that is due first: when, and of which notification.
fn next(execution: &api::Execution) -> Option<(Timestamp, usize)> {
    let told = execution.status.as_ref().map(|status| status.notifications.as_slice()).unwrap_or_default();
    let due = told.iter().enumerate().filter(|(_, told)| next_attempt(told).is_some()).map(|(index, told)| {
        let at = told.next_attempt_time.as_deref().and_then(|time| time.parse().ok());
        (at.unwrap_or(Timestamp::MIN), index)
    });
    due.min()
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn the_attempt_that_is_due_first_comes_first() {
        let told = |state: &str, next: Option<&str>| json!({ "connection": "mail", "state": state, "attempt": 1, "nextAttemptTime": next });
        let run = |notifications: serde_json::Value| -> api::Execution {
            from_value(json!({
                "apiVersion": "pintail.dev/v1alpha1", "kind": "Execution", "metadata": { "name": "e" },
                "spec": { "workflowRef": { "name": "w" } }, "status": { "notifications": notifications },
            }))
            .unwrap()
        };
        let (soon, later) = (Some("2026-11-28T02:00:00Z"), Some("2026-11-28T02:05:00Z"));
        let waiting = run(json!([told("Sent", None), told("Pending", later), told("Pending", soon)]));
        assert_eq!(next(&waiting), Some(("2026-11-28T02:00:00Z".parse().unwrap(), 2)));
        assert_eq!(next(&run(json!([told("Sent", None), told("Failed", None)]))), None);
    }
}
