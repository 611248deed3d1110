use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Column, Condition, ReclaimPolicy};

/// One immutable version of a dataset. Never owned by the Execution that made it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pintail.dev",
    version = "v1alpha1",
    kind = "Artifact",
    plural = "artifacts",
    shortname = "ptart",
    category = "pintail",
    namespaced,
    status = "ArtifactStatus",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Rows", type_ = "integer", json_path = ".spec.rows"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".spec.bytes"),
    printcolumn(name = "Created-By", type_ = "string", json_path = ".spec.producedBy.execution"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "URI", type_ = "string", json_path = ".spec.uri", priority = 1),
    validation = ("size(self.metadata.name) <= 63", "metadata.name has at most 63 characters")
)]
#[x_kube(validation = ("self == oldSelf", "an Artifact is immutable; publish another version"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArtifactSpec {
    /// SQL name of the dataset.
    #[schemars(length(min = 1, max = 40))]
    pub artifact: String,
    /// Which part of the dataset this version is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub partition: BTreeMap<String, String>,
    /// When the data was committed, RFC 3339 with microseconds. The newest version is the greatest by this, then by name.
    #[schemars(length(max = 64))]
    pub created_at: String,
    /// Where the data is.
    #[schemars(length(max = 2048))]
    pub uri: String,
    /// Number of rows.
    pub rows: i64,
    /// Size in bytes.
    pub bytes: i64,
    /// Its columns.
    #[schemars(length(max = 1000))]
    pub columns: Vec<Column>,
    /// SHA-256 of the data, `sha256:<hex>`.
    #[schemars(length(max = 128))]
    pub digest: String,
    /// What made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub produced_by: Option<ProducedBy>,
    /// Names of the Artifacts that were inputs of the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub derived_from: Vec<String>,
    /// What becomes of the data when this object is deleted; `Retain` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_policy: Option<ReclaimPolicy>,
    /// How long after `createdAt` this object is deleted, for example `90d`. Left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub keep_for: Option<String>,
}

/// What made an Artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProducedBy {
    /// Name of the Execution.
    #[schemars(length(max = 63))]
    pub execution: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Name of the workflow's output.
    #[schemars(length(max = 40))]
    pub output: String,
    /// How many runs started each other, up to this one: 0 where a person or a schedule started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub depth: Option<i32>,
}

/// What is known of an Artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// Generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// Whether every run that the version starts was created.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dispatched: bool,
}
