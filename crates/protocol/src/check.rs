use serde::{Deserialize, Serialize};

use crate::{Contract, Load, OutputKind, ResultColumn, ResultLineage};

/// Path at which a checker takes a [`CheckRequest`] as JSON.
pub const CHECK_PATH: &str = "/v1/check";

/// Most bytes of a request: a Workflow and the ConfigMaps that its SQL stands in have at most 1.5 MiB each.
pub const CHECK_BYTES: usize = 8 << 20;

/// Port of a checker.
pub const CHECKER_PORT: u16 = 8080;

/// What a checker is asked: the whole SQL of one workflow, and what is known of the tables that it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckRequest {
    pub format: u32,
    /// Databases that tasks may attach, by their SQL names.
    pub databases: Vec<CheckDatabase>,
    /// The workflow's table inputs.
    pub inputs: Vec<CheckInput>,
    /// Names of its scalar inputs.
    pub scalars: Vec<String>,
    /// In an order in which each comes after those whose results it uses.
    pub tasks: Vec<CheckTask>,
    /// Functions that make of a value one that tells nothing of it, in small letters.
    pub masking: Vec<String>,
}

/// Columns of a table as SQL sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableShape {
    pub columns: Vec<ResultColumn>,
    /// Whether there may be further columns.
    pub open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckDatabase {
    pub name: String,
    pub kind: DatabaseKind,
    /// `None` where nothing is known of them.
    pub tables: Option<Vec<DatabaseTable>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatabaseKind {
    DuckDb,
    Postgres,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseTable {
    /// `table` or `schema.table`.
    pub name: String,
    pub columns: Vec<ResultColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckInput {
    pub name: String,
    /// `None` where nothing is known of it.
    pub shape: Option<TableShape>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckTask {
    pub name: String,
    pub tables: Vec<CheckTable>,
    pub parameters: Vec<CheckParameter>,
    /// Databases that are attached, and whether they are written.
    pub databases: Vec<(String, bool)>,
    pub work: CheckWork,
}

/// A table that a task sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckTable {
    pub name: String,
    pub origin: TableOrigin,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableOrigin {
    Input(String),
    /// A result of an earlier task.
    Result {
        task: String,
        output: String,
    },
    /// The table that an earlier task loads into.
    Loaded {
        task: String,
    },
}

/// A scalar that a task sees as `$name`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckParameter {
    pub name: String,
    pub data_type: ParameterType,
    /// A value that it may have.
    pub example: Option<serde_json::Value>,
    /// Whether it was given to the task by name, so that not to use it is a mistake.
    pub is_named: bool,
    /// Columns of earlier tasks' rows of values that it is computed of: task, output and column.
    pub columns: Vec<(String, String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParameterType {
    /// A DuckDB type.
    Known(String),
    /// That of a column of an earlier task's row of values.
    Column { task: String, output: String, column: String },
    /// Told by the value, when there is one.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CheckWork {
    DuckDb {
        setup: Vec<String>,
        queries: Vec<CheckQuery>,
        load: Option<Box<Load>>,
    },
    /// Other work, with the columns that it names.
    Columns(Vec<NamedColumn>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckQuery {
    pub output: String,
    pub sql: String,
    pub kind: OutputKind,
    pub contract: Option<Contract>,
}

/// A column of one of the task's tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedColumn {
    pub table: String,
    pub column: String,
    pub must_be_number: bool,
    pub place: CheckPlace,
}

/// What a checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResponse {
    pub findings: Vec<Finding>,
    pub results: Vec<CheckedResult>,
    /// Of each result, and of each table of a database that is written; in the order of the tasks.
    pub lineage: Vec<ResultLineage>,
}

/// One thing that is wrong, or cannot be checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub task: String,
    pub place: CheckPlace,
    /// Bytes into the text at the place.
    pub offset: Option<usize>,
    pub rule: CheckRule,
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
}

/// The part of a task that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CheckPlace {
    /// A setup statement by its position.
    Setup(usize),
    /// The query of an output.
    Query(String),
    /// A column, by its position, of an output's contract.
    ContractColumn(String, usize),
    /// A parameter or table that the task was given.
    Binding(String),
    Database(String),
    LoadInto,
    LoadKey(usize),
    LoadPrefer,
    LoadStamp,
    WatermarkColumn,
    WatermarkBind,
    /// A chart by its position, its field, and the position in a list of them.
    Chart(usize, ChartField),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChartField {
    X,
    Y(usize),
    Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CheckRule {
    Syntax,
    OneStatement,
    StatementNotAllowed,
    UnknownTable,
    UnknownColumn,
    UnknownFunction,
    UnknownType,
    ArgumentTypes,
    ComparedTypes,
    Grouping,
    AmbiguousColumn,
    UnknownParameter,
    UnusedParameter,
    UndeclaredDatabase,
    BrokenContract,
    WrongColumnType,
    /// Whatever else DuckDB refuses.
    Invalid,
    /// Not wrong, but not known to be right either.
    NotChecked,
}

/// What a query gives; `None` where that cannot be known before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedResult {
    pub task: String,
    pub output: String,
    pub shape: Option<TableShape>,
}
