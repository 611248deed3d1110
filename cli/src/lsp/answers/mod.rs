//! What an editor is told of a place in a document.

mod completion;
mod definition;
mod hover;
mod sql;

use std::borrow::Cow;
use std::path::Path;

use kube::ResourceExt;
use lsp_types::Position;
use pintail_api as api;
use pintail_execution::sql_name;
use pintail_plan::manifest::{Document, Object, Position as Place, Spot, parse_manifests};
use pintail_plan::{FieldPath, Segment};
use serde_json::Value;

use super::knowledge::Knowledge;
use super::text;
use crate::manifests::{SqlText, real};

/// The answer to one of the requests for a place; `None` where there is nothing to say.
pub fn answer(method: &str, known: &Knowledge, file: &Path, text: &str, at: Position) -> Option<Value> {
    let file = real(file);
    let name = known.manifests.sources().keys().find(|name| real(Path::new(name)) == file);
    let own = name.map(|name| parse_manifests(name, text).documents).unwrap_or_default();
    let before = name.and_then(|name| known.documents.get(name)).map(Vec::as_slice).unwrap_or_default();
    // Text that cannot be read at the moment could be read a moment ago, and what is above the cursor is the same.
    let own = if own.len() < before.len() { before } else { own.as_slice() };
    let others = known.documents.iter().filter(|(other, _)| Some(*other) != name).flat_map(|(_, documents)| documents);
    let world = World { known, file: name.cloned(), text, documents: own.iter().chain(others).collect() };
    let at = text::place(text, at);
    let here = match name {
        Some(_) => world.in_manifest(own, at),
        None => world.in_sql_file(&file, at),
    }?;
    match method {
        "textDocument/hover" => serde_json::to_value(hover::hover(&world, &here)?).ok(),
        "textDocument/completion" => serde_json::to_value(completion::completion(&world, &here, at)).ok(),
        "textDocument/definition" => serde_json::to_value(definition::definition(&world, &here)?).ok(),
        _ => None,
    }
}

/// Every manifest: those of the document as they are now, the others as they were checked.
struct World<'a> {
    known: &'a Knowledge,
    /// The document's name as it is printed, where it is a manifest.
    file: Option<String>,
    text: &'a str,
    documents: Vec<&'a Document>,
}

/// What is at the cursor.
enum Here<'a> {
    Sql { workflow: &'a api::Workflow, task: &'a api::Task, text: Cow<'a, str>, offset: usize },
    Field { document: &'a Document, spot: Spot<'a> },
}

/// What the text of a field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference {
    /// An input or a task of the workflow.
    Used,
    Connection,
    Workflow,
    Dataset,
    /// A ConfigMap, or its key.
    Sql,
}

impl<'a> World<'a> {
    fn in_manifest(&self, own: &'a [Document], at: Place) -> Option<Here<'a>> {
        let document = own.iter().rfind(|document| document.at <= at)?;
        let spot = document.spot(at);
        let found = match (&document.object, fields(&spot.path).as_slice()) {
            (
                Object::Workflow(workflow),
                ["spec", "tasks", _, "duckdb", "query" | "setup"]
                | ["spec", "tasks", _, "duckdb", "setup", _]
                | ["spec", "tasks", _, "duckdb", "outputs", _, "query"],
            ) => match spot.path.segments().get(2) {
                Some(Segment::Index(task)) => workflow.spec.tasks.get(*task).map(|task| (&**workflow, task)),
                _ => None,
            },
            (Object::ConfigMap(map), ["data", key]) => self.user(&map.name, key),
            _ => None,
        };
        match found.filter(|_| !spot.is_key) {
            None => Some(Here::Field { document, spot }),
            Some((workflow, task)) if spot.is_behind => {
                let text = format!("{} ", spot.text);
                Some(Here::Sql { workflow, task, offset: text.len(), text: text.into() })
            }
            Some((workflow, task)) => Some(Here::Sql { workflow, task, text: spot.text.into(), offset: spot.offset }),
        }
    }

    fn in_sql_file(&self, file: &Path, at: Place) -> Option<Here<'a>> {
        let mut texts = self.known.manifests.sql_texts().iter();
        let is_it = |found: &SqlText| matches!(found, SqlText::File { name, .. } if real(Path::new(name)) == *file);
        let ((map, key), _) = texts.find(|(_, found)| is_it(found))?;
        let (workflow, task) = self.user(map, key)?;
        Some(Here::Sql { workflow, task, text: self.text.into(), offset: text::offset_of(self.text, at) })
    }

    /// The first task whose query is a key of a ConfigMap.
    fn user(&self, map: &str, key: &str) -> Option<(&'a api::Workflow, &'a api::Task)> {
        let uses = |task: &&api::Task| {
            let from = task.duckdb.as_ref().and_then(|duckdb| duckdb.query_from.as_ref());
            from.is_some_and(|from| from.config_map_key_ref.name == map && from.config_map_key_ref.key == key)
        };
        self.workflows().find_map(|(_, workflow)| Some((workflow, workflow.spec.tasks.iter().find(uses)?)))
    }

    fn workflows(&self) -> impl Iterator<Item = (&'a Document, &'a api::Workflow)> {
        self.documents.iter().filter_map(|document| match &document.object {
            Object::Workflow(workflow) => Some((*document, &**workflow)),
            _ => None,
        })
    }

    /// The Workflow that a document is about: itself, or the one that it names.
    fn workflow_of(&self, document: &'a Document) -> Option<(&'a Document, &'a api::Workflow)> {
        let name = match &document.object {
            Object::Workflow(workflow) => return Some((document, workflow)),
            Object::Execution(execution) => &execution.spec.workflow_ref.name,
            Object::LaunchPlan(plan) => &plan.spec.workflow_ref.name,
            Object::WorkflowTest(test) => &test.spec.workflow_ref.name,
            _ => return None,
        };
        self.workflows().find(|(_, workflow)| workflow.name_any() == *name)
    }

    /// By its SQL name.
    fn connection(&self, name: &str) -> Option<(&'a Document, &'a api::Connection)> {
        let mut connections = self.documents.iter().filter_map(|document| match &document.object {
            Object::Connection(connection) => Some((*document, &**connection)),
            _ => None,
        });
        connections.find(|(_, connection)| sql_name(&connection.name_any()) == name)
    }
}

/// Names of fields; an item of a list is `*`.
fn fields(path: &FieldPath) -> Vec<&str> {
    path.segments()
        .iter()
        .map(|segment| match segment {
            Segment::Field(name) => name.as_str(),
            Segment::Index(_) => "*",
        })
        .collect()
}

/// What a field names, by its place alone.
fn reference(path: &FieldPath) -> Option<Reference> {
    Some(match fields(path).as_slice() {
        [.., "uses" | "dependsOn"]
        | [.., "uses" | "dependsOn", "*"]
        | [.., "table" | "task"]
        | ["spec", "only", "*"]
        | ["spec", "inputs" | "tasks", "*", "name"] => Reference::Used,
        [.., "reads" | "writes", "*"] | [.., "reads" | "writes" | "connection"] => Reference::Connection,
        [.., "workflowRef", "name"] => Reference::Workflow,
        [.., "artifact"] | [.., "artifacts", "*", "name"] => Reference::Dataset,
        [.., "configMapKeyRef", "name" | "key"] => Reference::Sql,
        _ => return None,
    })
}

/// What the text of a field names at the cursor: by its place, or in an expression.
fn named(spot: &Spot<'_>) -> Option<(Reference, String)> {
    if spot.is_key || spot.is_behind {
        return None;
    }
    if let Some(reference) = reference(&spot.path) {
        return Some((reference, spot.text.to_owned()));
    }
    let (before, behind) = spot.text.split_at(spot.offset);
    let start = before.trim_end_matches(text::is_name).len();
    let length = behind.find(|char| !text::is_name(char)).unwrap_or(behind.len());
    let name = &spot.text[start..spot.offset + length];
    in_expression(&before[..start]).then(|| (Reference::Used, name.to_owned()))
}

/// Whether the name of an input or a task comes next.
fn in_expression(before: &str) -> bool {
    before.contains("$(") && (before.ends_with("tasks.") || before.ends_with("inputs."))
}
