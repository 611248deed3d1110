use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{Binding, Column, Condition, ObjectRef};

/// One run of a Workflow. Immutable but for `suspend` and `cancel`.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pintail.dev",
    version = "v1alpha1",
    kind = "Execution",
    plural = "executions",
    shortname = "ptex",
    category = "pintail",
    namespaced,
    status = "ExecutionStatus",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].reason"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Workflow", type_ = "string", json_path = ".spec.workflowRef.name", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].message", priority = 1),
    selectable = ".spec.workflowRef.name",
    validation = ("size(self.metadata.name) <= 63", "metadata.name has at most 63 characters")
)]
#[x_kube(validation = (
    "self.workflowRef == oldSelf.workflowRef && has(self.inputs) == has(oldSelf.inputs) && (!has(self.inputs) || self.inputs == oldSelf.inputs) && has(self.retryOf) == has(oldSelf.retryOf) && (!has(self.retryOf) || self.retryOf == oldSelf.retryOf) && has(self.startDeadline) == has(oldSelf.startDeadline) && (!has(self.startDeadline) || self.startDeadline == oldSelf.startDeadline) && has(self.ttlAfterFinished) == has(oldSelf.ttlAfterFinished) && (!has(self.ttlAfterFinished) || self.ttlAfterFinished == oldSelf.ttlAfterFinished) && has(self.trigger) == has(oldSelf.trigger) && (!has(self.trigger) || self.trigger == oldSelf.trigger)",
    "an Execution is immutable but for suspend and cancel; create another one"
))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecutionSpec {
    /// The Workflow that is run.
    pub workflow_ref: ObjectRef,
    /// What its inputs are bound to, by name: a scalar or a table source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "comparable_bindings")]
    pub inputs: BTreeMap<String, Binding>,
    /// What started the run. Set by what created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<StartedBy>,
    /// Committed results of that Execution are taken over where definition and inputs are equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RetryOf>,
    /// How long to wait for a Workflow that is not there or not Ready, for example `30m`; `10m` if left out. Only on a
    /// cluster, where objects come in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub start_deadline: Option<String>,
    /// How long after its end this object is deleted, for example `7d`. Left out: never. Only on a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub ttl_after_finished: Option<String>,
    /// Holds the run: running tasks go on to their end, no other starts. Only on a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Stops the run: running tasks are ended, no other starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
}

/// An API server refuses rules that name a map of values without a type; of an object as a whole it compares them.
fn comparable_bindings(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "maxProperties": 100, "x-kubernetes-preserve-unknown-fields": true })
}

/// What started a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartedBy {
    /// Name of the LaunchPlan.
    #[schemars(length(min = 1, max = 52))]
    pub plan: String,
    /// Name of its trigger. Left out: a person started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub name: Option<String>,
    /// The occurrence: a time, the name of an Artifact, an object and its version, source and id of an event.
    #[schemars(length(min = 1, max = 2048))]
    pub occurrence: String,
    /// When it happened, RFC 3339. Runs that wait for each other run in this order.
    #[schemars(length(min = 1, max = 64))]
    pub time: String,
    /// How many runs started each other before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub depth: Option<i32>,
}

/// The Execution whose results are taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryOf {
    /// Name of the Execution.
    #[schemars(length(min = 1, max = 63))]
    pub execution: String,
}

/// How a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionStatus {
    /// Generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Succeeded`, `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// What was pinned before the first task; everything that follows reads only this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// When the run started, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub start_time: Option<String>,
    /// When the run ended, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub completion_time: Option<String>,
    /// How long the run took, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub duration: Option<String>,
    /// Tasks that have ended, of all: `7/12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub progress: Option<String>,
    /// How many tasks stand where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TaskCounts>,
    /// The tasks, up to fifty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub task_list: Vec<TaskStatus>,
    /// The first twenty failed attempts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub failures: Vec<TaskFailure>,
    /// What the run resulted in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub outputs: Vec<OutputStatus>,
    /// Who was told of the end, as the LaunchPlan asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub notifications: Vec<NotificationStatus>,
    /// Every task and item, encoded; for Pintail itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262144))]
    pub state: Option<String>,
}

/// What was pinned before the first task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// `<workflow>-<digest>` of the spec and its SQL.
    #[schemars(length(max = 253))]
    pub revision: String,
    /// Every input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub inputs: Vec<ResolvedInput>,
    /// On a cluster: image of the task pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub runner_image: Option<String>,
    /// On a cluster: the store, `s3://bucket/prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub store: Option<String>,
    /// On a cluster: what a pod of the runner image needs to read the store, for `pintail preview` and `logs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<Reader>,
    /// On a cluster: format of the work orders that the pinned image reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_format: Option<i64>,
    /// Uids of the Executions whose files this one may have taken over: they are kept for as long as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 64)))]
    pub reuses: Vec<String>,
}

/// What a pod of the runner image needs to read the store. No secret is in it, only the name of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reader {
    /// ServiceAccount of the pod.
    #[schemars(length(max = 253))]
    pub service_account: String,
    /// Secret whose keys become its environment; none where it has a workload identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
    /// Further environment, such as the address of the store.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50))]
    pub environment: BTreeMap<String, String>,
    /// Secrets with which its image is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 253)))]
    pub image_pull_secrets: Vec<String>,
}

/// What an input is bound to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedInput {
    /// Name of the input.
    #[schemars(length(max = 40))]
    pub name: String,
    /// Of a scalar: its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Binding>,
    /// Of a table: where it comes from, as bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<crate::TableSource>,
    /// Of a dataset's version: name of the Artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub artifact: Option<String>,
    /// Of a dataset's version: where its data is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub uri: Option<String>,
    /// Of a dataset's version: digest of its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub digest: Option<String>,
    /// Of a dataset's version: its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
}

/// How many tasks stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskCounts {
    /// All tasks.
    pub total: i32,
    /// Not started.
    pub waiting: i32,
    /// Under way, or waiting for another attempt.
    pub running: i32,
    /// Ended well.
    pub succeeded: i32,
    /// Not run, by their condition or for want of what they need.
    pub skipped: i32,
    /// Ended badly.
    pub failed: i32,
    /// Stopped by a cancellation.
    #[serde(default)]
    pub cancelled: i32,
}

/// How a task stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// Name of the task.
    #[schemars(length(max = 40))]
    pub name: String,
    /// `Waiting`, `Running`, `Succeeded`, `Skipped`, `Failed` or `Cancelled`.
    #[schemars(length(max = 32))]
    pub state: String,
    /// Why it stands there, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Number of the last attempt, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// When the last attempt started, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub start_time: Option<String>,
    /// How long the last attempt took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub duration: Option<String>,
    /// Rows of the result, or rows that were loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// The Execution whose result was taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub reused_from: Option<String>,
}

/// How the telling of one stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationStatus {
    /// SQL name of the Connection.
    #[schemars(length(max = 40))]
    pub connection: String,
    /// Of mail: who gets it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 320)))]
    pub to: Vec<String>,
    /// `Pending`, `Sent` or `Failed`.
    #[schemars(length(max = 16))]
    pub state: String,
    /// Attempts that have ended; the last is the fifth.
    pub attempt: i32,
    /// No attempt starts before this, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub next_attempt_time: Option<String>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// One failed attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskFailure {
    /// Name of the task.
    #[schemars(length(max = 40))]
    pub task: String,
    /// Number of the attempt, from 1.
    pub attempt: i32,
    /// Why, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, for a person.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// One result of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputStatus {
    /// Name of the output.
    #[schemars(length(max = 40))]
    pub name: String,
    /// `table`, `file`, or the DuckDB type of a scalar.
    #[serde(rename = "type")]
    #[schemars(length(max = 1024))]
    pub data_type: String,
    /// Of a scalar: its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Binding>,
    /// Of a table or file: where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub uri: Option<String>,
    /// Of a table: number of rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Of a table or file: size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Of a table: its columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub columns: Vec<Column>,
    /// Name of the Artifact that it was published as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub artifact: Option<String>,
}
