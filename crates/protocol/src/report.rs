use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Failure, FileIdentity, Identity, StoredFile};

/// What came of one attempt: `report.json` in the attempt's folder, at most [`REPORT_BYTES`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    pub format: u32,
    pub identity: Identity,
    /// Which process of the attempt wrote it.
    pub pod_uid: String,
    pub reuse_key: String,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// The engine's version, such as `v1.5.5`.
    pub engine: String,
    /// Files outside the store that were read, by relation.
    pub inputs: Vec<PinnedInput>,
    /// Name of the Execution whose results were taken over, see `WorkOrder::reuse`.
    #[serde(default)]
    pub reused_from: Option<String>,
    pub outcome: ReportOutcome,
}

/// The operator never reads more of one report.
pub const REPORT_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedInput {
    pub relation: String,
    pub files: Vec<FileIdentity>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReportOutcome {
    Succeeded(Results),
    Failed(Failure),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub tables: Vec<TableResult>,
    pub values: Vec<ValuesResult>,
    pub files: Vec<FileResult>,
    /// What a load did.
    pub load: Option<LoadResult>,
    /// What an export wrote or a copy copied: whole paths or URLs without credentials.
    pub written: Vec<WrittenFile>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableResult {
    /// Name of the output; the main one is `result`.
    pub name: String,
    pub files: Vec<StoredFile>,
    pub rows: u64,
    pub bytes: u64,
    pub columns: Vec<ResultColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultColumn {
    pub name: String,
    /// DuckDB type.
    pub data_type: String,
}

/// One row of values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValuesResult {
    pub name: String,
    pub values: Vec<NamedValue>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedValue {
    pub name: String,
    /// DuckDB type.
    pub data_type: String,
    /// As in [`crate::Parameter`].
    pub value: serde_json::Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileResult {
    pub name: String,
    pub media_type: String,
    pub file: StoredFile,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadResult {
    /// Rows that were inserted or changed.
    pub rows: u64,
    pub inserted: u64,
    pub updated: u64,
    /// The greatest value of the watermark column that was loaded so far, as text.
    pub watermark: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    pub uri: String,
    pub bytes: u64,
    pub rows: Option<u64>,
}

/// How a failure is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureClass {
    /// Trying again cannot mend it.
    Permanent,
    /// Trying again may mend it; costs the task's own retries.
    Transient,
    /// Not the task's fault; costs a budget of its own.
    Infrastructure,
    /// Locked by another run; costs nothing until the connection's time is over.
    Busy,
    /// Told to stop.
    Interrupted,
}

/// The one winner: `_commit`, created once with `If-None-Match: *`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    pub format: u32,
    pub attempt: u32,
    pub pod_uid: String,
    /// Key of the report below the store's root.
    pub report: String,
    /// `blake3:<hex>` of the report.
    pub digest: String,
}
