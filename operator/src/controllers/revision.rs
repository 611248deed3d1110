//! What a run is pinned to: a Workflow and the ConfigMaps that its queries stand in, as one ControllerRevision whose name
//! is its content's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Api;
use kube::api::PostParams;
use pintail_api as api;
use pintail_execution::label_digest;
use pintail_protocol::ResultLineage;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::{Attempted, ReconcileError};
use super::runner::{MANAGED_BY, MANAGED_BY_LABEL};

pub use pintail_plan::ConfigMaps;

/// On every revision.
pub const WORKFLOW_LABEL: &str = "pintail.dev/workflow-digest";

/// Format of a revision that this build writes; it reads this and the one before.
const FORMAT: u32 = pintail_protocol::of_build(1);
/// The API server takes 1.5 MiB an object; a definition has at most 512 KiB before it is packed.
const UNPACKED_BYTES: usize = 8 << 20;
const PACKED_BYTES: usize = 1 << 20;

/// What a revision names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    pub name: String,
    pub spec: api::WorkflowSpec,
    pub config_maps: ConfigMaps,
    /// Where the columns of its results come from; empty where there is no checker to say so, or where it is too long. It is
    /// for others: no run needs it, so that no build stumbles over how another wrote it.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<ResultLineage>,
}

/// How a revision stands in `data`.
#[derive(Serialize, Deserialize)]
struct Packed {
    format: u32,
    /// base64 of zstd of JSON.
    zstd: String,
}

impl Revision {
    pub fn workflow(&self) -> api::Workflow {
        api::Workflow::new(&self.name, self.spec.clone())
    }

    /// The workflow with the SQL of ConfigMaps in its place: what the name is a digest of.
    fn definition(&self) -> api::WorkflowSpec {
        let mut spec = self.spec.clone();
        for duckdb in spec.tasks.iter_mut().filter_map(|task| task.duckdb.as_mut()) {
            let Some(from) = duckdb.query_from.as_ref().map(|from| &from.config_map_key_ref) else { continue };
            let text = self.config_maps.get(&from.name).and_then(|data| data.get(&from.key));
            if let Some(query) = text.cloned() {
                duckdb.query = Some(query);
                duckdb.query_from = None;
            }
        }
        spec
    }

    /// Whether both are what the same name stands for. SQL may have moved between the workflow and a ConfigMap, and more or
    /// less may be known of the columns around it.
    fn means_the_same_as(&self, other: &Self) -> bool {
        self.name == other.name && self.definition() == other.definition()
    }

    fn pack(&self) -> Result<Packed, String> {
        let json = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        let packed = zstd::bulk::compress(&json, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(|error| error.to_string())?;
        if (json.len() > UNPACKED_BYTES || packed.len() > PACKED_BYTES) && !self.lineage.is_empty() {
            return Self { lineage: Vec::new(), ..self.clone() }.pack();
        }
        Ok(Packed { format: FORMAT, zstd: STANDARD.encode(packed) })
    }

    fn unpack(data: &serde_json::Value) -> Result<Self, String> {
        let packed: Packed = serde_json::from_value(data.clone()).map_err(|error| error.to_string())?;
        if packed.format > FORMAT {
            let newer = packed.format;
            return Err(format!(
                "it has format {newer}, but this build reads formats up to {FORMAT}: use a newer Pintail"
            ));
        }
        let bytes = STANDARD.decode(packed.zstd).map_err(|error| error.to_string())?;
        let decoder = zstd::stream::read::Decoder::new(bytes.as_slice()).map_err(|error| error.to_string())?;
        let mut json = Vec::new();
        decoder.take(UNPACKED_BYTES as u64).read_to_end(&mut json).map_err(|error| error.to_string())?;
        serde_json::from_slice(&json).map_err(|error| error.to_string())
    }
}

/// The ConfigMaps that a workflow's queries stand in, as they are now. One that is not there is left out: the plan says so.
pub async fn config_maps(
    client: &kube::Client,
    namespace: &str,
    spec: &api::WorkflowSpec,
) -> Result<ConfigMaps, ReconcileError> {
    let references = spec.tasks.iter().filter_map(|task| task.duckdb.as_ref()?.query_from.as_ref());
    let wanted: BTreeSet<(&str, &str)> =
        references.map(|from| (from.config_map_key_ref.name.as_str(), from.config_map_key_ref.key.as_str())).collect();
    let names: BTreeSet<&str> = wanted.iter().map(|(name, _)| *name).collect();
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let mut found = ConfigMaps::new();
    for name in names {
        let read = config_maps.get_opt(name).await.attempted(|| format!("read ConfigMap {name}"))?;
        let Some(read) = read else { continue };
        let mut data = read.data.unwrap_or_default();
        data.retain(|key, _| wanted.contains(&(name, key.as_str())));
        found.insert(name.to_owned(), data);
    }
    Ok(found)
}

/// Makes sure that the revision is there under this name.
pub async fn keep(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    revision: &Revision,
) -> Result<(), ReconcileError> {
    match read(client, namespace, name).await?.map_err(ReconcileError::Other)? {
        Some(found) if found.means_the_same_as(revision) => return Ok(()),
        Some(_) => {
            let what = format!("ControllerRevision {name} holds another definition than its name says");
            return Err(ReconcileError::Other(what));
        }
        None => {}
    }
    let packed = revision.pack().map_err(ReconcileError::Other)?;
    let object = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([
                (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
                (WORKFLOW_LABEL.to_owned(), label_digest(&[&revision.name])),
            ])),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(json!(packed))),
        revision: 1,
    };
    let revisions = Api::<ControllerRevision>::namespaced(client.clone(), namespace);
    match revisions.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        // Made just now.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Err(ReconcileError::Conflict),
        Err(error) => Err(error).attempted(|| format!("create ControllerRevision {name}")),
    }
}

/// Reads a revision; `Ok(Ok(None))` where there is none, `Ok(Err)` where it cannot be understood.
pub async fn read(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Result<Result<Option<Revision>, String>, ReconcileError> {
    let revisions = Api::<ControllerRevision>::namespaced(client.clone(), namespace);
    let found = revisions.get_opt(name).await.attempted(|| format!("read ControllerRevision {name}"))?;
    let Some(found) = found else { return Ok(Ok(None)) };
    let data = found.data.map(|RawExtension(data)| data).unwrap_or_default();
    Ok(Revision::unpack(&data).map(Some).map_err(|error| format!("ControllerRevision {name} cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use pintail_protocol::{ColumnLineage, LineageTarget, SourceTable, Sources};

    use super::*;

    #[test]
    fn a_revision_is_read_back_and_a_newer_one_is_refused() {
        let revision = Revision {
            name: "retail".to_owned(),
            spec: serde_json::from_value(json!({ "tasks": [{ "name": "a", "duckdb": { "query": "SELECT '$$é'" } }] }))
                .expect("a workflow"),
            config_maps: BTreeMap::from([("sql".to_owned(), BTreeMap::from([("a".to_owned(), "b".to_owned())]))]),
            lineage: lineage(1),
        };
        let mut packed = revision.pack().expect("packed");
        assert_eq!(Revision::unpack(&json!(packed)), Ok(Revision { lineage: Vec::new(), ..revision }));
        packed.format += 1;
        assert!(Revision::unpack(&json!(packed)).expect_err("newer").contains("use a newer Pintail"));
    }

    /// Of so many results.
    fn lineage(results: usize) -> Vec<ResultLineage> {
        let columns = |number: usize| {
            let table = SourceTable::Input(format!("input-{number}"));
            vec![ColumnLineage { name: "n".to_owned(), sources: Sources::column(table, "n"), unknown: None }]
        };
        let result = |number: usize| ResultLineage {
            task: format!("task-{number}"),
            target: LineageTarget::Output("result".to_owned()),
            columns: columns(number),
            rows: Sources::default(),
        };
        (0..results).map(result).collect()
    }

    #[test]
    fn a_lineage_is_kept_unless_it_is_too_long() {
        let task = json!({ "name": "a", "duckdb": { "query": "SELECT 1" } });
        let spec: api::WorkflowSpec = serde_json::from_value(json!({ "tasks": [task] })).expect("a workflow");
        let known = |results: usize| Revision {
            name: "retail".to_owned(),
            spec: spec.clone(),
            config_maps: ConfigMaps::new(),
            lineage: lineage(results),
        };
        let (short, long) = (known(1), known(100_000));
        assert!(short.means_the_same_as(&long));
        let kept = |revision: &Revision| {
            let bytes = STANDARD.decode(revision.pack().expect("packed").zstd).expect("base64");
            let json = zstd::bulk::decompress(&bytes, UNPACKED_BYTES).expect("zstd");
            serde_json::from_slice::<serde_json::Value>(&json).expect("JSON")["lineage"].clone()
        };
        assert_eq!(kept(&short), json!(lineage(1)));
        assert_eq!(kept(&long), json!(null));
    }

    #[test]
    fn sql_that_moved_into_a_config_map_is_the_same_definition() {
        let revision = |duckdb: serde_json::Value, text: &str| Revision {
            name: "retail".to_owned(),
            spec: serde_json::from_value(json!({ "tasks": [{ "name": "a", "duckdb": duckdb }] })).expect("a workflow"),
            config_maps: BTreeMap::from([("sql".to_owned(), BTreeMap::from([("a".to_owned(), text.to_owned())]))]),
            lineage: Vec::new(),
        };
        let inline = Revision { config_maps: ConfigMaps::new(), ..revision(json!({ "query": "SELECT 1" }), "") };
        let from = json!({ "queryFrom": { "configMapKeyRef": { "name": "sql", "key": "a" } } });
        let moved = revision(from.clone(), "SELECT 1");
        assert!(inline.means_the_same_as(&moved) && moved.means_the_same_as(&inline));
        assert!(!inline.means_the_same_as(&revision(from, "SELECT 2")));
    }
}
