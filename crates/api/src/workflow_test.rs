use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Binding, Column, FormatOptions, ObjectRef, Row, TableFormat};

/// A test of a Workflow: given tables in, expected rows out. `pintail test` runs it; no cluster knows the kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowTest {
    /// Name of the test.
    #[serde(default)]
    #[schemars(skip)]
    pub metadata: ObjectMeta,
    /// What is tested.
    pub spec: WorkflowTestSpec,
}

/// A test of a Workflow: what is given, and what has to come out. `pintail test` runs it in its own process: sources are
/// what is given, databases are made for the test, and nothing is sent. No cluster knows the kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowTestSpec {
    /// The Workflow, by the name of its manifest.
    pub workflow_ref: ObjectRef,
    /// What the test is about, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// What the workflow reads.
    #[serde(default)]
    pub given: Given,
    /// The time that the run begins and that SQL sees as `now()`, as in RFC 3339. Left out: `2000-01-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub now: Option<String>,
    /// Run only these tasks and those that they need. Left out: every task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub only: Vec<String>,
    /// What has to come out. A task that fails where none of these expects it fails the test.
    #[schemars(length(min = 1, max = 1000))]
    pub expect: Vec<Expectation>,
}

/// What a workflow reads in a test. Values of `secrets` connections are not given: `$keys_pepper` is the text `keys_pepper`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Given {
    /// By name of the input: a value, or for a table `{ rows: […] }` or `{ uri: … }`. Every table that is read must be given;
    /// a value that is not given is the input's default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 200))]
    pub inputs: BTreeMap<String, Binding>,
    /// By `<connection>.<table>` or `<connection>.<schema>.<table>`: what stands in an attached database before the run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 200))]
    pub tables: BTreeMap<String, GivenTable>,
}

/// A table of an attached database: exactly one of `rows` and `uri`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GivenTable {
    /// Its columns. Left out: those that the Connection lists under `tables`, or those of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub columns: Option<Vec<Column>>,
    /// The rows themselves, at most 1,000; a column that a row leaves out is NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub rows: Option<Vec<Row>>,
    /// A file: an absolute path, or a path relative to the manifest's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub uri: Option<String>,
    /// Format of the file. Left out: told by the name's ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TableFormat>,
    /// How a CSV file is written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<FormatOptions>,
}

/// What has to come of one task. What is left out is not compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expectation {
    /// The task.
    #[schemars(length(min = 1, max = 40))]
    pub task: String,
    /// How the task ends. Left out: it succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ExpectedState>,
    /// A further output of the task, whose `rows` these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub output: Option<String>,
    /// The rows of its table, at most 1,000: of a query, its result; of a load, the table that it loads into as it stands
    /// afterwards; of an export, the table that it writes. Only columns that a row here names are compared; one that a row
    /// leaves out is NULL there. DOUBLE is equal to nine digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub rows: Option<Vec<Row>>,
    /// Whether the rows have to come in this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_order: Option<bool>,
    /// What a load did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<ExpectedLoad>,
    /// The message of a `notify` task, which is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<ExpectedMessage>,
    /// The file of an `export` task, which is not written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<ExpectedFile>,
    /// What a `copy` task copies, which it does not do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied: Option<ExpectedCopy>,
}

/// How a task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExpectedState {
    /// It did its work.
    Succeeded,
    /// It was not run: its `when` was false, or there was nothing that it runs on.
    Skipped,
    /// It failed. Its retries are used up without waiting.
    Failed,
}

/// Counts of a load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedLoad {
    /// Rows that were not there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub inserted: Option<i64>,
    /// Rows that were there and have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub updated: Option<i64>,
    /// The watermark afterwards, as `$(tasks.<task>.load.watermark)` gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub watermark: Option<String>,
}

/// A message, with its expressions rendered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedMessage {
    /// Addresses, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub to: Option<Vec<String>>,
    /// The whole subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub subject: Option<String>,
    /// The whole body; white space at its end does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub body: Option<String>,
    /// Names of the attached files, in their order. Their rows are those of the tables that are attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub attached: Option<Vec<String>>,
}

/// A file that an export writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedFile {
    /// SQL name of the Connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub connection: Option<String>,
    /// Path below the connection's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
}

/// The two places of a copy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedCopy {
    /// Where from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ExpectedFile>,
    /// Where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ExpectedFile>,
}
