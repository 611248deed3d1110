//! From what happened to the runs that it starts. Pure: the operator and `pintail serve` read, call this, and write.
//!
//! ```text
//! LaunchPlan, its runs, versions, now ─ advance_plan ─> runs to create, status, runs to cancel and to prune, when next
//! a version that became Ready          ─ runs_of_version ┐
//! an object or event that was told of  ─ run_of_occurrence ┴> runs to create
//! a run that has ended                 ─ notifications, notification_order ─> whom to tell of it, and what
//! ```
//!
//! A run is named after its occurrence, so whoever creates it again is refused. Creating comes before the status that says
//! so, and repeating both does no harm.

mod advance;
mod notification;
mod occurrence;
mod versions;

use jiff::Timestamp;
use pintail_api as api;
use pintail_engine::RunStage;
use pintail_plan::{PlannedLaunch, PlannedTrigger};

pub use advance::{PlanDecision, PlanFacts, admit_plan, advance_plan};
pub use notification::{
    ATTEMPT_TIMEOUT, FAILED, NotificationPlace, PENDING, attempt_ended, next_attempt, notification_order,
    notification_task, notifications,
};
pub use occurrence::{
    MARKERS_AT, Occurrence, by_hand, marker_name, of_happened, of_tick, of_versions, run_of_marker, started_run,
};
pub use versions::{is_for, runs_of_version};

/// Runs that start each other end here: a circle that nobody saw.
pub const DEPTH_MAX: i32 = 20;

/// A run of a plan, as far as the plan cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRun {
    pub name: String,
    pub uid: String,
    /// None where a person started it.
    pub trigger: Option<String>,
    pub occurrence: String,
    pub occurred_at: Timestamp,
    pub created_at: Timestamp,
    pub stage: RunStage,
    /// Whether it succeeded, once it has ended.
    pub succeeded: Option<bool>,
    pub ended_at: Option<Timestamp>,
    /// Whether nothing is left to be done for it: recorded, everybody told.
    pub settled: bool,
    pub cancelling: bool,
    /// Reason of its condition `Succeeded`.
    pub reason: String,
}

impl PlanRun {
    /// The run that an Execution is; none where no plan started it.
    #[must_use]
    pub fn of(execution: &api::Execution) -> Option<Self> {
        let started = execution.spec.trigger.as_ref()?;
        let status = execution.status.as_ref();
        let succeeded = status.and_then(|status| {
            status.conditions.iter().find(|found| found.condition_type == api::ConditionType::Succeeded)
        });
        let ended = status.and_then(|status| status.completion_time.as_deref());
        let created = execution.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let told = status.is_none_or(|status| status.notifications.iter().all(|told| told.state != PENDING));
        Some(Self {
            name: execution.metadata.name.clone().unwrap_or_default(),
            uid: execution.metadata.uid.clone().unwrap_or_default(),
            trigger: started.name.clone(),
            occurrence: started.occurrence.clone(),
            occurred_at: started.time.parse().unwrap_or(created),
            created_at: created,
            stage: match status {
                Some(status) if status.completion_time.is_some() => RunStage::Ended,
                Some(status) if status.resolved.is_some() => RunStage::Running,
                _ => RunStage::Waiting,
            },
            succeeded: ended.and(succeeded).map(|found| found.status == api::ConditionStatus::True),
            ended_at: ended.and_then(|time| time.parse().ok()),
            settled: ended.is_some() && told && status.is_some_and(|status| status.state.is_none()),
            cancelling: execution.spec.cancel == Some(true),
            reason: succeeded.map(|found| found.reason.to_string()).unwrap_or_default(),
        })
    }
}

/// The trigger of that name.
#[must_use]
pub fn trigger_of<'a>(launch: &'a PlannedLaunch, name: &str) -> Option<&'a PlannedTrigger> {
    launch.triggers.iter().find(|trigger| trigger.name == name)
}

/// What is recorded of a trigger as it is now; none before the plan was looked at since it was written or changed.
#[must_use]
pub fn recorded<'a>(status: &'a api::LaunchPlanStatus, trigger: &PlannedTrigger) -> Option<&'a api::TriggerStatus> {
    status.triggers.iter().find(|found| found.name == trigger.name && found.definition == trigger.definition)
}

/// Whether the plan's queue takes no more: what can wait elsewhere then waits there.
#[must_use]
pub fn is_full(launch: &PlannedLaunch, waiting: usize) -> bool {
    launch.concurrency.is_some_and(|concurrency| {
        concurrency.when_full == pintail_engine::WhenFull::Queue
            && u32::try_from(waiting)
                .is_ok_and(|waiting| waiting >= concurrency.queue_limit.saturating_add(concurrency.limit))
    })
}
