//! The kinds of Kubernetes and kustomize that Pintail reads.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::check::{Check, Place};
use super::schema::Schema;
use super::tree::{Entry, Node, NodeValue};
use crate::Rule;
use crate::problem::{FieldPath, Problem};

/// A Secret of `v1`. Its values are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    pub name: String,
    /// `data`, decoded, and `stringData`, which wins.
    pub data: BTreeMap<String, Vec<u8>>,
}

/// Names only.
impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Secret").field("name", &self.name).field("keys", &self.data.keys()).finish()
    }
}

/// A ConfigMap of `v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMap {
    pub name: String,
    pub data: BTreeMap<String, String>,
}

/// What Pintail reads of a `kustomization.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kustomization {
    pub config_maps: Vec<ConfigMapGenerator>,
}

/// A ConfigMap that kustomize makes of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMapGenerator {
    pub name: String,
    /// Key and path of each file, relative to the folder of the `kustomization.yaml`.
    pub files: Vec<(String, String)>,
    /// Key and text.
    pub literals: Vec<(String, String)>,
}

impl Secret {
    pub(super) fn read(root: &Node, check: &mut Check) -> Self {
        let fields = ["data", "stringData", "type", "immutable"];
        check.known_fields(root, &fields);
        let mut data = BTreeMap::new();
        for (key, text, path, node) in texts(root, "data", check) {
            match STANDARD.decode(text.trim()) {
                Ok(bytes) => {
                    data.insert(key, bytes);
                }
                Err(_) => {
                    let problem = Problem::new(Rule::InvalidData, path, format!("`{key}` is not base64"));
                    let meant = "`stringData`, which holds plain text";
                    check.found.push((node.at, problem.suggest(Some(meant))));
                }
            }
        }
        data.extend(texts(root, "stringData", check).into_iter().map(|(key, text, ..)| (key, text.into_bytes())));
        Self { name: name(root), data }
    }
}

impl ConfigMap {
    pub(super) fn read(root: &Node, check: &mut Check) -> Self {
        check.known_fields(root, &["data", "binaryData", "immutable"]);
        let data = texts(root, "data", check).into_iter().map(|(key, text, ..)| (key, text)).collect();
        Self { name: name(root), data }
    }
}

impl Kustomization {
    /// Fields that Pintail does not read are kustomize's own matter.
    pub(super) fn read(root: &Node) -> Self {
        let Some(NodeValue::List(generators)) = root.get("configMapGenerator").map(|node| &node.value) else {
            return Self::default();
        };
        let pairs = |node: &Node, field: &str| -> Vec<(String, String)> {
            let Some(NodeValue::List(items)) = node.get(field).map(|node| &node.value) else { return Vec::new() };
            items.iter().filter_map(Node::text).map(pair).collect()
        };
        let generator = |node: &Node| {
            Some(ConfigMapGenerator {
                name: node.get("name")?.text()?.to_owned(),
                files: pairs(node, "files"),
                literals: pairs(node, "literals"),
            })
        };
        Self { config_maps: generators.iter().filter_map(generator).collect() }
    }
}

/// `key=value`; of a path alone the key is the file's name.
fn pair(text: &str) -> (String, String) {
    match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.rsplit('/').next().unwrap_or(text).to_owned(), text.to_owned()),
    }
}

fn name(root: &Node) -> String {
    root.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text).unwrap_or_default().to_owned()
}

/// The texts of a map of texts.
fn texts<'n>(root: &'n Node, field: &str, check: &mut Check) -> Vec<(String, String, FieldPath, &'n Node)> {
    let path = FieldPath::root().field(field);
    let Some(node) = root.get(field) else { return Vec::new() };
    let NodeValue::Map(entries) = &node.value else {
        check.value(&Schema::map_of_texts(), node, &Place::Start(&path));
        return Vec::new();
    };
    let mut texts = Vec::new();
    for Entry { key, value, .. } in entries {
        let path = path.field(key);
        if let serde_json::Value::String(text) = check.value(&Schema::text(), value, &Place::Start(&path)) {
            texts.push((key.clone(), text, path, value));
        }
    }
    texts
}
