use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Binding, Column, Condition, FileLocation, FormatOptions, OtherColumns, ReclaimPolicy, TableFormat};

/// Tasks in SQL that pass tables to each other, with typed inputs and outputs.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pintail.dev",
    version = "v1alpha1",
    kind = "Workflow",
    plural = "workflows",
    shortname = "ptwf",
    category = "pintail",
    namespaced,
    status = "WorkflowStatus",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Tasks", type_ = "integer", json_path = ".status.tasks"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = ("size(self.metadata.name) <= 52", "metadata.name has at most 52 characters")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowSpec {
    /// What the workflow is for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// What a run is given: tables and scalars.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub inputs: Vec<Input>,
    /// What every task has that does not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<TaskDefaults>,
    /// The tasks, in any order: references decide which runs first.
    #[schemars(length(min = 1, max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tasks: Vec<Task>,
    /// What a run results in. Left out: the results that no task uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub outputs: Option<Vec<Output>>,
    /// What happens to the other tasks when one has failed; `Finish` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
}

/// What happens to the other tasks when one has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Tasks that need nothing of the failed one still run.
    #[default]
    Finish,
    /// Running tasks are stopped, no other starts.
    Stop,
}

/// One input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// Name in SQL: a table's view, or a parameter `$name`.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// `table`, or a DuckDB type such as `BIGINT`, `DECIMAL(12,2)`, `TIMESTAMP`, `VARCHAR[]`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 1024))]
    pub data_type: String,
    /// What the input is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Of a table: its contract. Text files are read by these types; other files must have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub columns: Option<Vec<Column>>,
    /// Of a table: what happens to columns that the contract does not name; `Drop` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_columns: Option<OtherColumns>,
    /// What is bound when a run says nothing: a scalar, or a table source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Binding>,
    /// Whether a run may leave a scalar out without a default: it is NULL in SQL and null in expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// What every task has that does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskDefaults {
    /// How often a failed task is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// How long one attempt may take, for example `10m`; `1h` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub timeout: Option<String>,
    /// What one attempt may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How its pods are placed and marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
}

/// How the pods of a task are placed and marked. Only on a cluster; a run without one has no pods. What a task says
/// takes the place of what `defaults` says, field by field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodOptions {
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that are no obstacle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// ServiceAccount of the pods, one of those that the installation allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Further labels. Those of Kubernetes, of Pintail and of tools that track what they deployed are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Further annotations. Those of Kubernetes, of Pintail and of tools that track what they deployed are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
    /// PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// A taint of nodes that is no obstacle, as in a pod's spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Toleration {
    /// Key of the taint. Left out with `operator: Exists`: every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub key: Option<String>,
    /// How the key's value is compared; `Equal` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Value of the taint, with `operator: Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Which effect of the taint; every one if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// With `effect: NoExecute`: for how many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// How the value of a taint is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// Any value.
    Exists,
    /// The same value.
    Equal,
}

/// What a taint does to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// They are not placed there.
    NoSchedule,
    /// They are placed there last.
    PreferNoSchedule,
    /// They are not placed there, and those that run are evicted.
    NoExecute,
}

/// How often a task is tried again after a failure that trying again can mend. SQL that does not bind, a broken
/// contract and the like are not tried again; lost processes and an unreachable store have a budget of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retries {
    /// How many attempts may follow the first.
    #[schemars(range(min = 0, max = 20))]
    pub limit: i32,
    /// How long to wait between attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

/// How long to wait between attempts: `initial`, then `factor` times as long each time, at most `max`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backoff {
    /// Before the second attempt; `5s` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub initial: Option<String>,
    /// By how much each wait is longer; 2 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub factor: Option<i32>,
    /// The longest wait; `5m` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub max: Option<String>,
}

/// What one attempt may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// Processors, a Kubernetes quantity such as `"1"` or `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub cpu: Option<String>,
    /// Memory, a Kubernetes quantity such as `1Gi`. DuckDB is given 65 % of it and spills to disk beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub memory: Option<String>,
    /// Disk for spilled data, a Kubernetes quantity such as `20Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub ephemeral_storage: Option<String>,
}

/// When a task runs, given how the tasks before it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Runs {
    /// When none of them failed.
    #[default]
    OnSuccess,
    /// When at least one of them failed; without any before it, when any task of the workflow failed.
    OnFailure,
    /// In both cases, after they have ended.
    Always,
}

/// One task: exactly one of `duckdb`, `export`, `copy`, `notify` and `report`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "[has(self.duckdb), has(self.export), has(self.copy), has(self.notify), has(self.report)].filter(x, x).size() == 1",
    "set exactly one of duckdb, export, copy, notify, report"
))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    /// Name of the task and of its result as a table.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// What the task is for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Inputs and tasks that the task uses, under their own names: tables as views, scalars as parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 40)))]
    pub uses: Vec<String>,
    /// Further names: each a table `$(tasks.x)`, a scalar, or an expression. Takes expressions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub with: BTreeMap<String, Binding>,
    /// Connections that the task reads: databases are attached read-only under their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 40)))]
    pub reads: Vec<String>,
    /// Connections that the task writes: databases are attached read-write under their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 40)))]
    pub writes: Vec<String>,
    /// Tasks that end before this one starts, though it uses nothing of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 40)))]
    pub depends_on: Vec<String>,
    /// Whether the task runs, an expression that gives true or false. A task that does not run is skipped, and with it
    /// what needs its result. Takes expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
    /// When the task runs, given how the tasks before it ended; `OnSuccess` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Runs>,
    /// How often the task is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// How long one attempt may take, for example `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub timeout: Option<String>,
    /// What one attempt may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How its pods are placed and marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
    /// SQL for DuckDB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duckdb: Option<DuckDbTask>,
    /// Writes a table as one file to a place outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportTask>,
    /// Copies files byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyTask>,
    /// Sends a message by mail or to a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<NotifyTask>,
    /// Makes one self-contained HTML page of text, tables and charts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportTask>,
}

/// SQL for DuckDB: exactly one of `query` and `queryFrom`, or only `outputs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "(has(self.query) ? 1 : 0) + (has(self.queryFrom) ? 1 : 0) <= 1",
    "set at most one of query and queryFrom"
))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DuckDbTask {
    /// One statement that returns rows: the task's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 131072))]
    pub query: Option<String>,
    /// Where the query stands, if not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_from: Option<QueryFrom>,
    /// Statements that run before the query, in this order: temporary tables, macros, settings of the session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 1, max = 131072)))]
    pub setup: Vec<String>,
    /// What the result is; `Table` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ResultKind>,
    /// Contract of the result: the columns and types that it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub columns: Option<Vec<Column>>,
    /// Further results, each `$(tasks.<task>.<name>)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub outputs: Vec<QueryOutput>,
    /// Loads the query's rows into a table of a database instead of writing them as a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
}

/// What a query's result is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResultKind {
    /// A table, kept as Parquet.
    #[default]
    Table,
    /// One row, whose columns are values for expressions: `$(tasks.<task>.<column>)`.
    Values,
}

/// Where a query stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryFrom {
    /// A key of a ConfigMap; pinned when a run starts. On a laptop a ConfigMap manifest, or a `configMapGenerator` of a
    /// `kustomization.yaml`.
    pub config_map_key_ref: ConfigMapKeyRef,
}

/// A key of a ConfigMap in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A further result of a DuckDB task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryOutput {
    /// Name of the result.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// One statement that returns rows.
    #[schemars(length(min = 1, max = 131072))]
    pub query: String,
    /// What the result is; `Table` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ResultKind>,
    /// Contract of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub columns: Option<Vec<Column>>,
}

/// How rows get into a table of a database. Rows, watermark and a row in `_pintail_loads` are written in one
/// transaction, so a repeated attempt loads nothing twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    /// `<connection>.<table>` or `<connection>.<schema>.<table>`; made from the query's types if it is not there.
    #[schemars(length(min = 3, max = 255))]
    pub into: String,
    /// What happens to rows that are there already.
    pub mode: LoadMode,
    /// Of `Upsert`: columns that tell one row from another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)))]
    pub key: Vec<String>,
    /// Which of several rows with one key wins, as in ORDER BY: `loaded_from DESC`. Left out: several rows with one key
    /// in one batch are an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub prefer: Option<String>,
    /// A TIMESTAMP column that the loader sets to the time of the load, and leaves out when it compares rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub stamp: Option<String>,
    /// Loads only rows that are newer than what was loaded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
    /// Columns of the query that may be loaded though they come from sensitive ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 255)))]
    pub releases: Vec<String>,
}

/// What happens to rows that are in the table already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadMode {
    /// They stay; the new rows are added.
    #[default]
    Append,
    /// They all go.
    Replace,
    /// Those with the key of a new row are changed to it, where they differ.
    Upsert,
}

/// The greatest value of a column that was loaded: the next load takes rows from there on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Watermark {
    /// Column of the query: a date, a timestamp or a number that grows.
    #[schemars(length(min = 1, max = 255))]
    pub column: String,
    /// How far before the watermark rows are taken again, for those that come late: `1h`, or a number for numbers.
    /// Only with `mode: Upsert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub overlap: Option<String>,
    /// Rows from here on are left for later; null loads all. Takes expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub until: Option<String>,
    /// Name of a parameter that is bound to the lower bound, for a query that filters by itself (an aggregate, for
    /// example). It is NULL at the first load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub bind: Option<String>,
}

/// Writes a table as one file to a place outside. At least once: a repeated attempt writes the file again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportTask {
    /// The table, one of the task's names.
    #[schemars(length(min = 1, max = 40))]
    pub table: String,
    /// Where the file goes.
    pub to: FileLocation,
    /// Its format. Left out: told by the name's ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TableFormat>,
    /// How a CSV file is written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<FormatOptions>,
    /// Columns of the table that may leave though they come from sensitive ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 255)))]
    pub releases: Vec<String>,
}

/// Copies files byte for byte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CopyTask {
    /// Which files; `*`, `?`, `[…]` and `**` match.
    pub from: FileLocation,
    /// Where they go: a path that ends in `/` takes the files under their names, another is the one file's new name.
    pub to: FileLocation,
    /// Whether the files are deleted where they were, once all are copied.
    #[serde(rename = "move", default, skip_serializing_if = "Option::is_none")]
    pub move_files: Option<bool>,
}

/// Sends a message by mail (a connection of kind `smtp`) or to a webhook. At least once, with a stable id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotifyTask {
    /// SQL name of the Connection.
    #[schemars(length(min = 1, max = 40))]
    pub connection: String,
    /// Of mail: addresses. Takes expressions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 1024)))]
    pub to: Vec<String>,
    /// One line. Takes expressions.
    #[schemars(length(min = 1, max = 1024))]
    pub subject: String,
    /// The text. Takes expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub body: Option<String>,
    /// Files that go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub attach: Vec<Attachment>,
    /// Columns of its tables and values that may leave though they come from sensitive ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 255)))]
    pub releases: Vec<String>,
}

/// A table or a report as an attached file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachment {
    /// The table or the report, one of the task's names.
    #[schemars(length(min = 1, max = 40))]
    pub table: String,
    /// Name of the file; its ending tells the format. Takes expressions.
    #[serde(rename = "as")]
    #[schemars(length(min = 1, max = 255))]
    pub file_name: String,
}

/// Makes one self-contained HTML page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportTask {
    /// Heading of the page. Takes expressions.
    #[schemars(length(min = 1, max = 255))]
    pub title: String,
    /// Text below the heading, in paragraphs parted by empty lines. Takes expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub text: Option<String>,
    /// The charts, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub charts: Vec<Chart>,
    /// The tables, in this order, below the charts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub tables: Vec<ReportTable>,
    /// Columns of its tables and values that may be shown though they come from sensitive ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 255)))]
    pub releases: Vec<String>,
}

/// One chart of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Chart {
    /// The table, one of the task's names; its first 5,000 rows are drawn.
    #[schemars(length(min = 1, max = 40))]
    pub table: String,
    /// How values are drawn.
    pub mark: Mark,
    /// Column along the horizontal axis.
    #[schemars(length(min = 1, max = 255))]
    pub x_column: String,
    /// Columns along the vertical axis; several are told apart by colour.
    #[schemars(length(min = 1, max = 10), inner(length(min = 1, max = 255)))]
    pub y_columns: Vec<String>,
    /// Column whose values are told apart by colour, with a single vertical column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub color_column: Option<String>,
    /// Heading of the chart. Takes expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub title: Option<String>,
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mark {
    /// Bars from zero.
    #[default]
    Bar,
    /// A line through the points, in order of the horizontal axis.
    Line,
    /// A filled area below the line.
    Area,
    /// One point a row.
    Point,
}

/// One table of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportTable {
    /// The table, one of the task's names.
    #[schemars(length(min = 1, max = 40))]
    pub table: String,
    /// Heading of the table. Takes expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub title: Option<String>,
    /// How many rows are shown; 20 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<i32>,
}

/// One output of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Output {
    /// Name of the output.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// What it is: `$(tasks.<task>)`, `$(tasks.<task>.<output>)`, or an expression that gives a scalar. Takes expressions.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
    /// Publishes the table as a version of a dataset, once the run has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
    /// Of a published table or a scalar: columns that may leave though they come from sensitive ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 255)))]
    pub releases: Vec<String>,
    /// Of a published table: whether its columns are a promise to those that read the dataset; `Keep` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<OutputContract>,
}

/// What a change of a published table may do to those that read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutputContract {
    /// A column that another Workflow reads may not go or change its type.
    #[default]
    Keep,
    /// It may: for one change, after its readers were told.
    Break,
}

/// Publishes a table as a version of a dataset: an Artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Publish {
    /// SQL name of the dataset.
    #[schemars(length(min = 1, max = 40))]
    pub artifact: String,
    /// Which part of the dataset this version is: names and values. Takes expressions over inputs and execution.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub partition: BTreeMap<String, String>,
    /// How long versions are kept, for example `90d`: then their Artifact is deleted. Left out: for good. Only on a
    /// cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub keep_for: Option<String>,
    /// What becomes of a version's data when its Artifact is deleted; `Retain` if left out. Only on a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_policy: Option<ReclaimPolicy>,
}

/// What is known of a Workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowStatus {
    /// Generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// How many tasks the workflow has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<i32>,
    /// `<workflow>-<digest>` of the spec and its SQL: what a run that starts now is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub revision: Option<String>,
    /// Digest of the SQL, of what it reads of Connections and of the masking functions, as they were when it was found
    /// right last: while no checker answers, it is held right for as long as none of them changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub checked: Option<String>,
}
