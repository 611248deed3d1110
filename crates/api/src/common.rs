use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A value as written in a manifest: a scalar, an expression `$(…)`, a list, or one of the table sources
/// (`connection` and `path`, `artifact`, `uri`, `rows`). Which of them is legal depends on the type of what it binds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Binding(pub serde_json::Value);

impl JsonSchema for Binding {
    fn schema_name() -> Cow<'static, str> {
        "Binding".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// `serde_json::Value` alone would give the schema `{}`, which is no legal structural schema.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
    }
}

/// What becomes of the data when an Artifact is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReclaimPolicy {
    /// It stays in the store.
    #[default]
    Retain,
    /// It is deleted as well.
    Delete,
}

/// One row of an inline table: column name to value.
pub type Row = BTreeMap<String, Binding>;

/// A named column and its DuckDB type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Column {
    /// Name of the column, compared without regard to case, as DuckDB does.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// DuckDB type, for example `VARCHAR`, `DECIMAL(12,2)`, `TIMESTAMP`, `VARCHAR[]`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 1024))]
    pub data_type: String,
    /// Whether NULL may stand in the column; a NULL in a column that says `false` fails the task. Left out: it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nullable: Option<bool>,
    /// Where the column's value comes from, if not from a column of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ColumnSource>,
    /// Of an input: whether the values are sensitive. They leave by a published dataset, an export, a load, a report or
    /// a message only through a masking function or where `releases` names the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<bool>,
}

/// Where a column's value comes from, other than the file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ColumnSource {
    /// The name of the file that the row was read from, without its folder.
    FileName,
}

/// What happens to columns that a file has and its contract does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OtherColumns {
    /// They are left out.
    #[default]
    Drop,
    /// They are kept, after the contract's columns.
    Keep,
    /// They fail the task.
    Fail,
}

/// File formats of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TableFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values (RFC 4180), with a header row unless the options say otherwise.
    #[serde(rename = "CSV")]
    Csv,
    /// JSON, one object a line or one array of objects.
    #[serde(rename = "JSON")]
    Json,
}

/// How a CSV file is written down. What is left out is detected on reading and is RFC 4180 on writing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FormatOptions {
    /// Character between fields, `,` for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub delimiter: Option<String>,
    /// Whether the first row holds the column names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// Character around fields that hold a delimiter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1))]
    pub quote: Option<String>,
    /// Text that stands for NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub null_text: Option<String>,
    /// `strptime` format of DATE columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub date_format: Option<String>,
    /// `strptime` format of TIMESTAMP columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub timestamp_format: Option<String>,
}

/// A table from outside: exactly one of `connection` (with `path`), `artifact`, `uri` and `rows`.
/// The one shape wherever a table is bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableSource {
    /// SQL name of the Connection that holds the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Path below the connection's root; `*`, `?`, `[…]` and `**` match. Takes expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// SQL name of a dataset: its newest ready version is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// The partition of the dataset whose newest version is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<BTreeMap<String, String>>,
    /// Of a dataset: the one version that is bound, by the name of its Artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A file: an absolute path, a path relative to the manifest's folder, or a URL of an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The rows themselves, at most 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<Row>>,
    /// Format of the files. Left out: told by the name's ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TableFormat>,
    /// How CSV files are written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<FormatOptions>,
}

/// A place for files: a path below the root of a Connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileLocation {
    /// SQL name of the Connection.
    #[schemars(length(min = 1, max = 40))]
    pub connection: String,
    /// Path below the connection's root. Takes expressions.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
}

/// A key of a Secret in the same namespace. On a laptop: a Secret manifest, or the environment variable
/// `PINTAIL_SECRET_<NAME>_<KEY>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A value that is never written in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretValue {
    /// The Secret's key that holds the value.
    pub secret_key_ref: SecretKeyRef,
}

/// A reference to an object of the same namespace by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}
