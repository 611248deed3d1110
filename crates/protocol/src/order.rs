use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Connection;

/// All that a runner needs for one attempt of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkOrder {
    pub format: u32,
    pub identity: Identity,
    pub store: StoreLocation,
    /// Tables that SQL sees as views.
    pub relations: Vec<Relation>,
    /// Scalars that SQL sees as `$name`.
    pub parameters: Vec<Parameter>,
    /// Results that are files (reports), for attachments.
    pub files: Vec<FileBinding>,
    pub connections: Vec<Connection>,
    pub work: Work,
    /// Where results go: one entry a result of the work, `result` among them where it has one.
    pub outputs: Vec<OutputTarget>,
    pub resources: Resources,
    /// Digest over definition and inputs: equal keys give equal results. Recorded in the report.
    pub reuse_key: String,
    /// A committed report of another run with the same `reuse_key`. Where the files outside the store are still those
    /// that it pinned, the runner commits its results again instead of working.
    pub reuse: Option<ReuseCandidate>,
}

/// A committed report of another run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReuseCandidate {
    /// Key below the store's root.
    pub report: String,
    /// `blake3:<hex>` of the report.
    pub digest: String,
}

/// Which attempt of which task of which run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub namespace: String,
    pub execution: String,
    pub execution_uid: String,
    pub execution_start: Timestamp,
    pub workflow: String,
    pub revision: String,
    pub task: String,
    pub item: Option<u32>,
    /// From 1.
    pub attempt: u32,
}

/// The object store of the installation. Its credential comes from the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreLocation {
    Folder {
        /// Absolute.
        path: String,
    },
    S3 {
        bucket: String,
        /// Without a slash at either end; may be empty.
        prefix: String,
    },
}

/// A table that SQL sees as a view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    pub name: String,
    pub source: RelationSource,
    /// What the columns must be, for tables from outside.
    pub contract: Option<Contract>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RelationSource {
    /// Parquet that a task committed.
    Committed { files: Vec<StoredFile> },
    /// Files of a connection.
    Files {
        connection: String,
        /// May hold `*`, `?`, `[…]`, `**`.
        path: String,
        format: Option<TableFormat>,
        options: FormatOptions,
        /// What an earlier attempt of the run found; only these files are read, and a changed one fails the task.
        pinned: Option<Vec<FileIdentity>>,
    },
    /// One file or pattern by its absolute path or `http(s)://` URL.
    Uri { uri: String, format: Option<TableFormat>, options: FormatOptions, pinned: Option<Vec<FileIdentity>> },
    /// Rows by the contract's columns, in order; JSON values.
    Rows { rows: Vec<Vec<serde_json::Value>> },
    /// A table of an attached database: what a load task wrote.
    DatabaseTable {
        connection: String,
        /// `schema.table` or `table`, as the manifest has it.
        table: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableFormat {
    Parquet,
    Csv,
    Json,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatOptions {
    pub delimiter: Option<String>,
    pub header: Option<bool>,
    pub quote: Option<String>,
    pub null_text: Option<String>,
    pub date_format: Option<String>,
    pub timestamp_format: Option<String>,
}

/// The columns that a table must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    pub columns: Vec<ContractColumn>,
    pub other_columns: OtherColumns,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractColumn {
    pub name: String,
    /// DuckDB type.
    pub data_type: String,
    pub nullable: bool,
    /// The value is the name of the row's file, without its folder.
    pub from_file_name: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OtherColumns {
    Drop,
    Keep,
    Fail,
}

/// A scalar, bound with its type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    pub name: String,
    /// DuckDB type.
    pub data_type: String,
    /// JSON; text where JSON has no such type (dates, decimals, blobs as hexadecimal).
    pub value: serde_json::Value,
}

/// A file that a task committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileBinding {
    pub name: String,
    pub file: StoredFile,
}

/// An object of the store whose content is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Key below the store's root.
    pub key: String,
    pub bytes: u64,
    /// `blake3:<hex>` of the content.
    pub digest: String,
}

/// A file outside the store, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Path below the connection's root; for a `Uri` source the whole of it.
    pub path: String,
    pub bytes: u64,
    /// ETag or version, or the time of modification in nanoseconds where there is none.
    pub version: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    DuckDb(DuckDbWork),
    Export(ExportWork),
    Copy(CopyWork),
    Notify(NotifyWork),
    Report(ReportWork),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DuckDbWork {
    /// Statements before the queries, one an entry.
    pub setup: Vec<String>,
    /// One entry an output, by its name; the main one is `result`.
    pub queries: Vec<NamedQuery>,
    /// Load the rows of the query `result` into a table. It then has no output target.
    pub load: Option<Load>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedQuery {
    pub output: String,
    pub sql: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    pub connection: String,
    /// Schema in the database; `main` (DuckDB) or `public` (PostgreSQL) if none.
    pub schema: Option<String>,
    pub table: String,
    pub mode: LoadMode,
    pub key: Vec<String>,
    /// An ORDER BY term: column name, then `ASC` or `DESC`.
    pub prefer: Option<OrderTerm>,
    pub stamp: Option<String>,
    pub watermark: Option<Watermark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoadMode {
    Append,
    Replace,
    Upsert,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderTerm {
    pub column: String,
    pub descending: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watermark {
    pub column: String,
    pub overlap: Option<Overlap>,
    /// Exclusive upper bound, as text that casts to the column's type.
    pub until: Option<String>,
    /// Parameter that takes the lower bound; the query then filters by itself.
    pub bind: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overlap {
    DurationMs(u64),
    Number(u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportWork {
    pub relation: String,
    pub to: FileTarget,
    pub format: TableFormat,
    pub options: FormatOptions,
}

/// A path below the root of one of the order's connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTarget {
    pub connection: String,
    pub path: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyWork {
    pub from: FileTarget,
    /// A path that ends in `/` takes files under their names.
    pub to: FileTarget,
    pub delete_source: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotifyWork {
    pub connection: String,
    pub to: Vec<String>,
    pub subject: String,
    pub body: String,
    pub attachments: Vec<Attachment>,
    /// The same for every attempt, for receivers that tell repeats apart.
    pub message_id: String,
    /// The message is a CloudEvent: a webhook gets the attributes as headers, and the data beside the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// A log whose end goes below the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogTail>,
}

/// The attributes of a CloudEvent whose id is the message's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub event_type: String,
    pub source: String,
    pub subject: String,
    pub time: Timestamp,
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// The last lines that a task of the order's run has logged, in all of its attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTail {
    pub task: String,
    pub lines: u32,
    pub bytes: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// Name of a relation or of a file binding.
    pub source: String,
    pub file_name: String,
    /// `None` for a file binding.
    pub format: Option<TableFormat>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportWork {
    pub title: String,
    pub text: String,
    pub charts: Vec<Chart>,
    pub tables: Vec<ReportTable>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    pub relation: String,
    pub mark: Mark,
    pub x_column: String,
    pub y_columns: Vec<String>,
    pub color_column: Option<String>,
    pub title: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    Bar,
    Line,
    Area,
    Point,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportTable {
    pub relation: String,
    pub title: Option<String>,
    pub limit: u32,
}

/// Where one result goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTarget {
    pub name: String,
    pub kind: OutputKind,
    /// Where the files go.
    pub destination: Destination,
    /// What the columns must be.
    pub contract: Option<Contract>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputKind {
    /// Parquet.
    Table,
    /// One row, in the report.
    Values,
    /// One file, such as the HTML page of a report.
    File,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// Below the attempt's folder: disposable with the run.
    Run,
    /// Below the dataset's folder: lives as long as the Artifact.
    Artifact { dataset: String, artifact_id: String },
}

/// What the attempt may use; `None` means what the machine or the cgroup gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub cpu_millis: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub scratch_bytes: Option<u64>,
}
