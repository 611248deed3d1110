//! From the text of a file to objects with the places of their fields.
//!
//! ```text
//! text ─ yaml ─> trees with places ─ kind? ─┬ Pintail's: schema of the CRD ─> api types
//!        (refuses what two parsers          ├ Secret, ConfigMap, Kustomization
//!         read differently)                 └ other: left alone
//! ```

mod check;
mod core;
mod document;
mod place;
mod scalar;
mod schema;
#[cfg(test)]
pub(crate) mod tests;
mod tree;
mod yaml;

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

pub(crate) use check::read_table_source;
pub use core::{ConfigMap, ConfigMapGenerator, Kustomization, Secret};
pub use document::{Document, Object, Spot};
pub use tree::Position;

use check::{Check, Place};
use pintail_api as api;
use schema::Schema;
use tree::{Node, NodeValue};
use yaml::{Found, Raw};

use crate::Rule;
use crate::cluster::check_execution;
use crate::compile::{check_connection, object_name_problem};
use crate::problem::{FieldPath, Located, MAX_PROBLEMS, Problem, nearest};

/// A file's documents, and what is wrong with them as they stand alone. Whether names resolve and expressions fit is
/// found by [`crate::compile`].
#[derive(Clone, Debug, Default)]
pub struct ParsedFile {
    /// In order; a document that cannot be read is missing.
    pub documents: Vec<Document>,
    /// In order of place. Nothing of the file should be run unless this is empty.
    pub problems: Vec<Located>,
}

/// Reads the manifests of a file; `file` is the name for messages, and a file of name `kustomization.yaml` may leave
/// its kind out. Takes any text and never panics.
pub fn parse_manifests(file: &str, text: &str) -> ParsedFile {
    let (raws, fatal) = yaml::parse(text);
    let file: Arc<str> = file.into();
    let text: Arc<str> = text.strip_prefix('\u{feff}').unwrap_or(text).into();
    let mut parsed = ParsedFile::default();
    let locate = |(at, problem): Found| Located { file: file.to_string(), line: at.line, column: at.column, problem };
    for Raw { root, found } in raws {
        let mut check = Check { found, mended: Vec::new() };
        let object = object(&file, &root, &mut check);
        if matches!(object, Some(Object::Other { .. })) {
            check.found.clear();
        }
        let room = MAX_PROBLEMS.saturating_sub(parsed.problems.len());
        parsed.problems.extend(check.found.into_iter().take(room).map(locate));
        parsed.documents.extend(object.map(|object| Document {
            file: Arc::clone(&file),
            at: root.at,
            object,
            text: Arc::clone(&text),
            root,
            mended: check.mended,
        }));
    }
    parsed.problems.extend(fatal.map(locate));
    parsed.problems.sort_by_key(|located| (located.line, located.column));
    parsed
}

/// Objects that are defined again by a later document: each after the first of its kind and name.
pub fn repeated_objects<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Vec<Located> {
    let mut seen: HashMap<(&str, &str), &Document> = HashMap::new();
    let mut problems = Vec::new();
    for document in documents {
        let kind = document.object.kind();
        let Some(name) = document.object.name().filter(|name| !name.is_empty()) else { continue };
        if let Some(first) = seen.get(&(kind, name)) {
            let message = format!("{kind} `{name}` is defined at {}:{} already", first.file, first.at.line);
            let path = FieldPath::root().field("metadata").field("name");
            problems.push(document.locate(Problem::new(Rule::DuplicateObject, path, message)));
        } else {
            seen.insert((kind, name), document);
        }
    }
    problems
}

/// What a document holds; none where it holds nothing that can be read.
fn object(file: &str, root: &Node, check: &mut Check) -> Option<Object> {
    match &root.value {
        NodeValue::Map(_) => {}
        // An empty document, `---` at the end of a file for example.
        NodeValue::Null => return None,
        NodeValue::Broken(_) if !check.found.is_empty() => return None,
        NodeValue::Broken(_) => return None,
        _ => {
            let message =
                format!("a manifest is a mapping with `apiVersion` and `kind`, and this is {}", root.describe());
            check.found.push((root.at, Problem::new(Rule::YamlSyntax, FieldPath::root(), message)));
            return None;
        }
    }
    let text = |field: &str| root.get(field).and_then(Node::text).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let other = || Object::Other { api_version: api_version.to_owned(), kind: kind.to_owned() };
    let object = match (api_version, kind) {
        (api::API_VERSION, "Workflow") => Object::Workflow(read(root, kind, check)?),
        (api::API_VERSION, "Connection") => {
            let connection: Box<api::Connection> = read(root, kind, check)?;
            check.further(root, check_connection(&connection.spec));
            Object::Connection(connection)
        }
        (api::API_VERSION, "Execution") => {
            let execution: Box<api::Execution> = read(root, kind, check)?;
            check.further(root, check_execution(&execution.spec));
            Object::Execution(execution)
        }
        (api::API_VERSION, "Artifact") => Object::Artifact(read(root, kind, check)?),
        (api::API_VERSION, "LaunchPlan") => Object::LaunchPlan(read(root, kind, check)?),
        (api::API_VERSION, "WorkflowTest") => Object::WorkflowTest(read(root, kind, check)?),
        ("v1", "Secret") => Object::Secret(Secret::read(root, check)),
        ("v1", "ConfigMap") => Object::ConfigMap(ConfigMap::read(root, check)),
        _ if is_kustomization(file, api_version, kind) => Object::Kustomization(Kustomization::read(root)),
        _ => match unknown_kind(root, api_version, kind) {
            Some(found) => {
                check.found.push(found);
                return None;
            }
            None => other(),
        },
    };
    Some(object)
}

fn is_kustomization(file: &str, api_version: &str, kind: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    match kind {
        "Kustomization" => api_version.starts_with("kustomize.config.k8s.io/") || api_version.is_empty(),
        "" => matches!(name, "kustomization.yaml" | "kustomization.yml" | "Kustomization"),
        _ => false,
    }
}

/// A document that can only be meant for Pintail, and is written wrong.
fn unknown_kind(root: &Node, api_version: &str, kind: &str) -> Option<Found> {
    let place = |field: &str| root.locate(&FieldPath::root().field(field)).0;
    let problem =
        |field: &str, message: String| Problem::new(Rule::UnknownKind, FieldPath::root().field(field), message);
    let quoted = |text: &str| format!("`{text}`");
    let is_ours = schema::kinds().any(|known| known == kind);
    let (group, version) = api_version.split_once('/').unwrap_or((api_version, ""));
    if group == api::GROUP && version == api::VERSION {
        let near = nearest(kind, schema::kinds()).map(quoted);
        let message = match kind {
            "" => "the document has no `kind`".to_owned(),
            _ => format!("{} has no kind `{}`", api::API_VERSION, crate::problem::excerpt(kind)),
        };
        return Some((place("kind"), problem("kind", message).suggest(near)));
    }
    let is_close = group == api::GROUP || nearest(api_version, [api::API_VERSION]).is_some();
    if is_close || (is_ours && api_version.is_empty()) {
        let message = match api_version {
            "" => "the document has no `apiVersion`".to_owned(),
            _ => format!("there is no apiVersion `{}`", crate::problem::excerpt(api_version)),
        };
        return Some((place("apiVersion"), problem("apiVersion", message).suggest(Some(quoted(api::API_VERSION)))));
    }
    None
}

/// Reads an object of one of Pintail's kinds, with its mistakes mended.
fn read<T: DeserializeOwned>(root: &Node, kind: &str, check: &mut Check) -> Option<Box<T>> {
    let schema = schema::of_kind(kind)?;
    check.known_fields(root, &["spec", "status"]);
    let path = FieldPath::root();
    let metadata = check.metadata(root);
    let name = metadata.get("name").and_then(Json::as_str).unwrap_or_default();
    let name_path = path.field("metadata").field("name");
    let name_at = root.locate(&name_path).0;
    if !check.mended.contains(&name_path) {
        check.found.extend(object_name_problem(name, kind, &name_path).map(|problem| (name_at, problem)));
    }
    let spec_schema = schema.field("spec")?;
    let spec = match root.get("spec") {
        Some(spec) => check.value(spec_schema, spec, &Place::Start(&path.field("spec"))),
        None => {
            let message = "the field `spec` is missing";
            check.found.push((root.at, Problem::new(Rule::MissingField, path.field("spec"), message)));
            check.mended.push(path.field("spec"));
            check::least(&spec_schema.shape)
        }
    };
    let whole = json!({ "apiVersion": api::API_VERSION, "kind": kind, "metadata": metadata, "spec": spec });
    for rule in schema.rules.iter().filter(|rule| !rule.holds(&whole)) {
        // The rules of whole objects speak of names.
        check.found.push((name_at, Problem::new(Rule::SchemaRule, name_path.clone(), rule.message.clone())));
    }
    match serde_json::from_value(whole) {
        Ok(object) => Some(Box::new(object)),
        Err(error) => {
            check.found.push((root.at, Problem::new(Rule::WrongType, path, error.to_string())));
            None
        }
    }
}

impl Check {
    /// Takes in what other checks found, but for echoes of what was reported already.
    fn further(&mut self, root: &Node, problems: Vec<Problem>) {
        let is_echo = |problem: &Problem| self.mended.contains(&problem.path);
        let problems: Vec<Problem> = problems.into_iter().filter(|problem| !is_echo(problem)).collect();
        self.found.extend(problems.into_iter().map(|problem| (root.locate(&problem.path).0, problem)));
    }

    /// Fields of the document itself, beside `apiVersion`, `kind` and `metadata`.
    fn known_fields(&mut self, root: &Node, fields: &[&str]) {
        let NodeValue::Map(entries) = &root.value else { return };
        let known: Vec<&str> = ["apiVersion", "kind", "metadata"].iter().chain(fields).copied().collect();
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let near = nearest(&entry.key, known.iter().copied()).map(|near| format!("`{near}`"));
            let message = format!("there is no field `{}` in the document", crate::problem::excerpt(&entry.key));
            let problem = Problem::new(Rule::UnknownField, FieldPath::root().field(&entry.key), message);
            self.found.push((entry.key_at, problem.suggest(near)));
        }
    }

    /// Name, namespace, labels and annotations; what a cluster adds is left out.
    fn metadata(&mut self, root: &Node) -> Json {
        let path = FieldPath::root().field("metadata");
        let Some(metadata) = root.get("metadata") else {
            let message = "the field `metadata` with the object's `name` is missing";
            self.found.push((root.at, Problem::new(Rule::MissingField, path.clone(), message)));
            self.mended.push(path);
            return json!({ "name": "" });
        };
        let mut mended = self.value(Schema::metadata(), metadata, &Place::Start(&path));
        if let Json::Object(fields) = &mut mended {
            fields.retain(|name, _| matches!(name.as_str(), "name" | "namespace" | "labels" | "annotations" | "uid"));
        }
        mended
    }
}
