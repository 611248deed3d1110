use std::collections::BTreeMap;
use std::sync::Arc;

use pintail_api as api;
use pintail_engine::{Graph, TaskIndex};

use crate::expression::{Expression, Template};

/// A workflow that was found right: every name resolved, every type known. Tasks stand as in the manifest.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the Workflow.
    pub workflow: String,
    /// `<workflow>-<digest of spec and resolved SQL>`.
    pub revision: String,
    pub graph: Graph,
    pub inputs: Vec<PlannedInput>,
    pub tasks: Vec<PlannedTask>,
    pub outputs: Vec<PlannedOutput>,
}

#[derive(Clone, Debug)]
pub struct PlannedInput {
    pub name: String,
    pub kind: InputKind,
    pub default: Option<InputValue>,
    pub optional: bool,
}

#[derive(Clone, Debug)]
pub enum InputKind {
    /// A table; without columns, whatever the files have.
    Table {
        contract: Option<Contract>,
    },
    Scalar(DataType),
}

/// What an input is bound to by a default or by a run.
#[allow(clippy::large_enum_variant, reason = "a run has a few of them")]
#[derive(Clone, Debug, PartialEq)]
pub enum InputValue {
    Table(api::TableSource),
    /// A literal that was found to fit the input's type.
    Scalar(serde_json::Value),
}

/// A DuckDB type, as DuckDB writes it (`DECIMAL(12,2)`, `VARCHAR[]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataType(pub String);

#[derive(Clone, Debug, PartialEq)]
pub struct Contract {
    pub columns: Vec<api::Column>,
    pub other_columns: api::OtherColumns,
}

#[derive(Clone, Debug)]
pub struct PlannedTask {
    pub name: String,
    /// The names that its SQL, charts, exports and attachments see.
    pub bindings: Vec<PlannedBinding>,
    /// Every connection it touches, with the stronger of the ways.
    pub connections: Vec<PlannedConnection>,
    pub when: Option<Expression>,
    pub work: PlannedWork,
    pub results: Vec<PlannedResult>,
    pub resources: PlannedResources,
    /// How its pods are placed and marked on a cluster.
    pub pod: api::PodOptions,
}

#[derive(Clone, Debug)]
pub struct PlannedBinding {
    pub name: String,
    pub value: BindingValue,
}

#[derive(Clone, Debug)]
pub enum BindingValue {
    /// A table input of the workflow.
    InputTable(String),
    /// A table that a task commits: `(task, output)`.
    TaskTable(TaskIndex, String),
    /// The table that a load task wrote.
    LoadedTable { task: TaskIndex, connection: String, table: String },
    /// The file that a report task commits.
    TaskFile(TaskIndex),
    /// A scalar: an expression and its DuckDB type, where it is known before the run (an input's).
    Scalar { expression: Expression, data_type: Option<DataType> },
}

/// A connection that a task uses, by its SQL name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedConnection {
    pub name: String,
    pub writes: bool,
}

/// The task's own part of the manifest with its expressions compiled.
#[derive(Clone, Debug)]
pub enum PlannedWork {
    DuckDb {
        setup: Vec<String>,
        /// Output name (`result` for the main one) and query.
        queries: Vec<(String, String)>,
        load: Option<Box<PlannedLoad>>,
    },
    Export {
        table: String,
        connection: String,
        path: Template,
        format: api::TableFormat,
        options: api::FormatOptions,
    },
    Copy {
        from: (String, Template),
        to: (String, Template),
        move_files: bool,
    },
    Notify {
        connection: String,
        to: Vec<Template>,
        subject: Template,
        body: Template,
        attach: Vec<(String, Template)>,
    },
    Report {
        title: Template,
        text: Template,
        charts: Vec<(api::Chart, Template)>,
        tables: Vec<(api::ReportTable, Template)>,
    },
}

#[derive(Clone, Debug)]
pub struct PlannedLoad {
    pub connection: String,
    pub schema: Option<String>,
    pub table: String,
    pub mode: api::LoadMode,
    pub key: Vec<String>,
    /// Column and whether descending.
    pub prefer: Option<(String, bool)>,
    pub stamp: Option<String>,
    pub watermark: Option<PlannedWatermark>,
}

#[derive(Clone, Debug)]
pub struct PlannedWatermark {
    pub column: String,
    pub overlap: Option<PlannedOverlap>,
    pub until: Option<Expression>,
    pub bind: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlannedOverlap {
    Duration(std::time::Duration),
    Number(u64),
}

/// One result of a task.
#[derive(Clone, Debug)]
pub struct PlannedResult {
    /// `result` for the main one.
    pub name: String,
    pub kind: ResultKind,
    pub contract: Option<Contract>,
    /// The output that publishes it, if any: index into [`Plan::outputs`].
    pub published_by: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultKind {
    Table,
    Values,
    File,
}

#[derive(Clone, Debug)]
pub struct PlannedOutput {
    pub name: String,
    pub value: OutputValue,
    pub publish: Option<PlannedPublish>,
}

#[derive(Clone, Debug)]
pub enum OutputValue {
    /// A table or file of a task: `(task, result name)`.
    Result(TaskIndex, String),
    /// The table that a load task wrote.
    Loaded(TaskIndex),
    Scalar(Expression),
}

#[derive(Clone, Debug)]
pub struct PlannedPublish {
    pub artifact: String,
    /// Over `inputs` and `execution` only, so that it is known before the first task.
    pub partition: BTreeMap<String, Template>,
    /// Checked; as in the manifest.
    pub keep_for: Option<String>,
    pub reclaim_policy: Option<api::ReclaimPolicy>,
}

/// What an attempt may use; `None` where the manifest says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlannedResources {
    pub cpu_millis: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub scratch_bytes: Option<u64>,
}

/// What a workflow is compiled against.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Connections by their SQL names.
    pub connections: BTreeMap<String, Arc<api::Connection>>,
    /// ConfigMaps' data by name and key, for `queryFrom`.
    pub config_maps: ConfigMaps,
}

/// ConfigMaps' data by name and key.
pub type ConfigMaps = BTreeMap<String, BTreeMap<String, String>>;
