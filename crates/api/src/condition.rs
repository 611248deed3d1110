use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Types of conditions. They follow kstatus; `Succeeded` is an Execution's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionType {
    /// The object is as its spec asks.
    Ready,
    /// Work is under way.
    Reconciling,
    /// Work cannot go on without a change.
    Stalled,
    /// `True` or `False` once an Execution has ended.
    Succeeded,
    /// `True` where a dataset is not as the contract of a Workflow that reads it says; else left out.
    ContractBroken,
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known yet.
    Unknown,
}

/// Reasons of conditions, stable for programs to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionReason {
    /// Accepted, not started.
    Pending,
    /// Tasks are running or waiting.
    Running,
    /// Every task that had to run succeeded.
    Succeeded,
    /// At least one task failed.
    TaskFailed,
    /// The Execution was cancelled.
    Cancelled,
    /// The inputs could not be bound.
    InvalidInputs,
    /// The Execution waits for a Workflow that is not there.
    WorkflowMissing,
    /// The Execution waits for a Workflow that is not Ready.
    WorkflowNotReady,
    /// What the Execution waited for was not there in time.
    StartDeadlineExceeded,
    /// The Execution is suspended: nothing new starts.
    Suspended,
    /// The Execution waits for the first version of a dataset.
    InputMissing,
    /// The tasks succeeded, and a result could not be published.
    PublishFailed,
    /// The state of the run is too large to be recorded.
    RecordTooLarge,
    /// What was recorded cannot be read: the run cannot go on.
    RecordUnreadable,
    /// A pod of the run waits for a place on a node.
    Unschedulable,
    /// A pod of the run does not fit into a quota of its namespace.
    QuotaExceeded,
    /// A pod of the run waits for its image.
    ImagePullFailed,
    /// A pod of the run waits for a Secret that one of its Connections names.
    SecretMissing,
    /// A pod of the run waits for the Secret that holds the store's credential in its namespace.
    StoreCredentialMissing,
    /// A pod of the run waits for its ServiceAccount.
    ServiceAccountMissing,
    /// A pod of the run waits for a volume.
    VolumeMissing,
    /// The object store does not answer, or refuses.
    StoreUnreachable,
    /// The cluster refuses, again and again, what the Execution needs next.
    ClusterRefuses,
    /// The Execution waits until its LaunchPlan has room for it.
    Queued,
    /// The LaunchPlan had no room for the Execution, which did not run.
    Skipped,
    /// Another Execution ran for the same occurrence before.
    AlreadyStarted,
    /// The agent that watches objects and takes events for the LaunchPlan does not run.
    AgentUnavailable,
    /// The object is valid and usable.
    Valid,
    /// The object has problems, listed in the message.
    Invalid,
    /// The SQL of a Workflow is not checked yet, or cannot be.
    NotChecked,
    /// The Workflow is usable, but a dataset that it reads is no longer as its contract says.
    ContractBroken,
    /// The published version is complete.
    Published,
    /// The data of a deleted version is being removed.
    Deleting,
    /// The data of a deleted version could not be removed yet.
    DeleteFailed,
    /// The object cannot be decoded.
    Undecodable,
}

impl ConditionReason {
    /// As it is written in a condition.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::TaskFailed => "TaskFailed",
            Self::Cancelled => "Cancelled",
            Self::InvalidInputs => "InvalidInputs",
            Self::WorkflowMissing => "WorkflowMissing",
            Self::WorkflowNotReady => "WorkflowNotReady",
            Self::StartDeadlineExceeded => "StartDeadlineExceeded",
            Self::Suspended => "Suspended",
            Self::InputMissing => "InputMissing",
            Self::PublishFailed => "PublishFailed",
            Self::RecordTooLarge => "RecordTooLarge",
            Self::RecordUnreadable => "RecordUnreadable",
            Self::Unschedulable => "Unschedulable",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::SecretMissing => "SecretMissing",
            Self::StoreCredentialMissing => "StoreCredentialMissing",
            Self::ServiceAccountMissing => "ServiceAccountMissing",
            Self::VolumeMissing => "VolumeMissing",
            Self::StoreUnreachable => "StoreUnreachable",
            Self::ClusterRefuses => "ClusterRefuses",
            Self::Queued => "Queued",
            Self::Skipped => "Skipped",
            Self::AlreadyStarted => "AlreadyStarted",
            Self::AgentUnavailable => "AgentUnavailable",
            Self::Valid => "Valid",
            Self::Invalid => "Invalid",
            Self::NotChecked => "NotChecked",
            Self::ContractBroken => "ContractBroken",
            Self::Published => "Published",
            Self::Deleting => "Deleting",
            Self::DeleteFailed => "DeleteFailed",
            Self::Undecodable => "Undecodable",
        }
    }
}

impl fmt::Display for ConditionReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

/// One condition, in the shape of `meta/v1` Condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which condition it is.
    #[serde(rename = "type")]
    pub condition_type: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word.
    pub reason: ConditionReason,
    /// Why, in a sentence for a person.
    #[serde(default)]
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When the status last changed, RFC 3339.
    #[schemars(length(max = 64))]
    pub last_transition_time: String,
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Sets `new` among `conditions`. The transition time stays where the status stays.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition) {
    match conditions.iter_mut().find(|old| old.condition_type == new.condition_type) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time.clone_from(&old.last_transition_time);
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}
