use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Binding, Condition, ObjectRef};

/// When a Workflow is run, and with which inputs.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pintail.dev",
    version = "v1alpha1",
    kind = "LaunchPlan",
    plural = "launchplans",
    shortname = "ptlp",
    category = "pintail",
    namespaced,
    status = "LaunchPlanStatus",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".status.schedule"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Last-Run", type_ = "date", json_path = ".status.lastRun.time"),
    printcolumn(name = "Last-Status", type_ = "string", json_path = ".status.lastRun.status"),
    printcolumn(name = "Next-Run", type_ = "string", json_path = ".status.nextRun"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Workflow", type_ = "string", json_path = ".spec.workflowRef.name", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    selectable = ".spec.workflowRef.name",
    validation = ("size(self.metadata.name) <= 52", "metadata.name has at most 52 characters")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaunchPlanSpec {
    /// What the plan is for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// The Workflow that is run.
    pub workflow_ref: ObjectRef,
    /// What its inputs are bound to, by name, whatever starts the run: a scalar or a table source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub inputs: BTreeMap<String, Binding>,
    /// Whether the plan starts nothing. What happens meanwhile never starts a run, also not afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// What starts a run. Each occurrence starts exactly one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub triggers: Vec<Trigger>,
    /// How many runs of the plan there may be at once. Left out: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Who is told of the end of a run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub notifications: Vec<PlanNotification>,
    /// How long runs that have ended are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// One thing that starts runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "[has(self.schedule), has(self.artifacts), has(self.object), has(self.event)].filter(x, x).size() == 1",
    "set exactly one of schedule, artifacts, object, event"
), validation = ("!has(self.matchOn) || has(self.artifacts)", "matchOn belongs to artifacts"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trigger {
    /// Name of the trigger in the plan.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// At times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleTrigger>,
    /// When a version of a dataset is published; of several datasets, when each has a version that is newer than in the
    /// run before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub artifacts: Option<Vec<ArtifactTrigger>>,
    /// Of several datasets: keys of the partition that must be equal in all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 40)))]
    pub match_on: Vec<String>,
    /// When an object arrives in a bucket or folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectTrigger>,
    /// When an event is received over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventTrigger>,
    /// What inputs are bound to in runs that this starts. Takes expressions over `trigger`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub inputs: BTreeMap<String, Binding>,
}

/// Times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleTrigger {
    /// Minute, hour, day of the month, month, day of the week: `0 2 * * *`.
    #[schemars(length(min = 1, max = 128))]
    pub cron: String,
    /// IANA time zone, for example `Europe/Paris`; `UTC` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// What becomes of times that passed while no operator ran; `Latest` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
}

/// What becomes of times that passed while no operator ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CatchUp {
    /// Nothing.
    None,
    /// The last of them starts a run.
    #[default]
    Latest,
    /// Each of them starts a run, the last thousand at most.
    All,
}

/// A dataset whose versions start runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArtifactTrigger {
    /// SQL name of the dataset.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// Which versions count: an expression over `artifact` that gives true or false. Left out: all.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1100))]
    pub condition: Option<String>,
}

/// Objects that start runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectTrigger {
    /// SQL name of the Connection that holds the objects.
    #[schemars(length(min = 1, max = 40))]
    pub connection: String,
    /// Path below the connection's root; `*`, `?`, `[…]` and `**` match.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// How often is looked, for example `5s`; `30s` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub every: Option<String>,
    /// Whether objects count that were there before the trigger; `Now` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<ObjectStart>,
}

/// Whether objects count that were there before the trigger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ObjectStart {
    /// They do not.
    #[default]
    Now,
    /// They do.
    Beginning,
}

/// Events that start runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventTrigger {
    /// The CloudEvents attribute `type`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 253))]
    pub event_type: String,
    /// The CloudEvents attribute `source`. Left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub source: Option<String>,
    /// SQL name of the `webhook` Connection whose `signingKeyFrom` signs the requests.
    #[schemars(length(min = 1, max = 40))]
    pub connection: String,
}

/// How many runs of a plan there may be at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Concurrency {
    /// Runs at once.
    #[schemars(range(min = 1, max = 1000))]
    pub limit: i32,
    /// What becomes of further ones; `Queue` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFull>,
    /// How many may wait; 100 if left out. Arrivals and publications beyond stay where they are until there is room,
    /// events are refused for the sender to repeat, times are skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub queue_limit: Option<i32>,
}

/// What becomes of a run for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenFull {
    /// It waits, in the order of what started the runs.
    #[default]
    Queue,
    /// It ends without having run.
    Skip,
    /// It takes the place of the oldest, which is cancelled.
    Replace,
}

/// Who is told of the end of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanNotification {
    /// Which ends are told of.
    #[schemars(length(min = 1, max = 2))]
    pub phases: Vec<NotificationPhase>,
    /// SQL name of a Connection of kind `smtp` or `webhook`.
    #[schemars(length(min = 1, max = 40))]
    pub connection: String,
    /// Of mail: who gets it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 3, max = 320)))]
    pub to: Vec<String>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum NotificationPhase {
    /// Every task that had to run succeeded.
    Succeeded,
    /// At least one task failed, or the run could not start.
    Failed,
}

/// How long runs that have ended are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct History {
    /// How many that succeeded; 10 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub keep_succeeded: Option<i32>,
    /// How many that did not; 20 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub keep_failed: Option<i32>,
    /// How long after its end at most, for example `30d`. Left out: whatever its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub keep_for: Option<String>,
    /// How long an occurrence is refused that has started a run, after that run is gone; `90d` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub refuse_again_for: Option<String>,
}

/// How a plan stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaunchPlanStatus {
    /// Generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// The schedules, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub schedule: Option<String>,
    /// When the next tick comes, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub next_run: Option<String>,
    /// The newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// Whether the plan was suspended when it was last looked at.
    #[serde(default)]
    pub suspended: bool,
    /// What is known of each trigger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub triggers: Vec<TriggerStatus>,
    /// Runs that may run: none starts that is not listed. Only with `concurrency`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub active: Vec<RunReference>,
    /// Runs that end without having run, for want of room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub skipped: Vec<RunReference>,
    /// Runs that wait, the next first; the first hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub queue: Vec<RunReference>,
    /// How many runs wait.
    #[serde(default)]
    pub queued: i32,
}

/// A run of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunReference {
    /// Name of the Execution.
    #[schemars(length(max = 63))]
    pub execution: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// The newest run of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// Name of the Execution.
    #[schemars(length(max = 63))]
    pub execution: String,
    /// When it was created, RFC 3339.
    #[schemars(length(max = 64))]
    pub time: String,
    /// Reason of its condition `Succeeded`.
    #[schemars(length(max = 64))]
    pub status: String,
}

/// What is known of a trigger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerStatus {
    /// Name of the trigger.
    #[schemars(length(max = 40))]
    pub name: String,
    /// Digest of what it waits for: another one is another trigger.
    #[schemars(length(max = 64))]
    pub definition: String,
    /// Nothing that happened before this starts a run, RFC 3339.
    #[schemars(length(max = 64))]
    pub since: String,
    /// Of a schedule: every tick up to this one was dealt with, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub handled_through: Option<String>,
    /// Of a schedule: the next ticks, RFC 3339.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(max = 64)))]
    pub next: Vec<String>,
    /// How many occurrences started no run, since the trigger is as it is.
    #[serde(default)]
    pub dropped: i64,
    /// Why the last one that was dropped started none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Of several datasets: the versions that the last runs read, by what they match on; the newest hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub tuples: Vec<TriggerTuple>,
    /// Of several datasets: versions up to this time start nothing where no run before is listed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub forgotten_through: Option<String>,
}

/// A version of a dataset that a run reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TupleVersion {
    /// SQL name of the dataset.
    #[schemars(length(max = 40))]
    pub dataset: String,
    /// When it was committed, RFC 3339 with microseconds.
    #[schemars(length(max = 64))]
    pub created_at: String,
    /// Name of the Artifact.
    #[schemars(length(max = 63))]
    pub artifact: String,
}

/// The versions of several datasets that one run reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerTuple {
    /// Values of the keys that they match on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub matched: BTreeMap<String, String>,
    /// The version of each dataset.
    #[schemars(length(max = 10))]
    pub versions: Vec<TupleVersion>,
    /// Whether the run is still to be created: the choice of versions is written down first.
    #[serde(default)]
    pub pending: bool,
}
