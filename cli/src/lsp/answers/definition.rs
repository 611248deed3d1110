//! Where a name is declared, in whichever file.

use kube::ResourceExt;
use lsp_types::{Location, Range};
use pintail_api as api;
use pintail_plan::FieldPath;
use pintail_plan::manifest::{Document, Position as Place};

use super::sql::{Meaning, meaning};
use super::{Here, Reference, World, named};
use crate::lsp::files::uri_of;
use crate::lsp::knowledge::{Origin, Relation};
use crate::lsp::text;
use crate::manifests::SqlText;

pub fn definition(world: &World<'_>, here: &Here<'_>) -> Option<Location> {
    let (document, path) = match here {
        Here::Sql { workflow, task, text, offset } => {
            let scope = world.known.scope(workflow, task);
            let (document, _) = world.workflows().find(|(_, found)| found.name_any() == workflow.name_any())?;
            match meaning(text, *offset, &scope)? {
                Meaning::Parameter(name, _) => {
                    declared(document, workflow, name).or_else(|| given(document, workflow, task, name))?
                }
                Meaning::Database(name) => (world.connection(name)?.0, name_of()),
                Meaning::Relation(relation) => origin(world, document, workflow, relation, None)?,
                Meaning::Columns(columns) => {
                    let (relation, column) = columns.first()?;
                    origin(world, document, workflow, relation, Some(&column.name))?
                }
            }
        }
        Here::Field { document, spot } => match named(spot)? {
            (Reference::Used, name) => {
                let (document, workflow) = world.workflow_of(document)?;
                declared(document, workflow, &name)?
            }
            (Reference::Connection, name) => (world.connection(&name)?.0, name_of()),
            (Reference::Workflow, name) => {
                (world.workflows().find(|(_, workflow)| workflow.name_any() == name)?.0, name_of())
            }
            (Reference::Dataset, name) => publisher(world, &name)?,
            (Reference::Sql, name) => return sql_text(world, &name),
        },
    };
    location(world, document, &path)
}

fn spec() -> FieldPath {
    FieldPath::root().field("spec")
}

fn name_of() -> FieldPath {
    FieldPath::root().field("metadata").field("name")
}

/// An input or a task.
fn declared<'a>(document: &'a Document, workflow: &api::Workflow, name: &str) -> Option<(&'a Document, FieldPath)> {
    let input = workflow.spec.inputs.iter().position(|input| input.name == name);
    let task = || workflow.spec.tasks.iter().position(|task| task.name == name);
    let path = match input {
        Some(input) => spec().field("inputs").index(input),
        None => spec().field("tasks").index(task()?),
    };
    Some((document, path.field("name")))
}

/// A name that a task was given by `with`.
fn given<'a>(
    document: &'a Document,
    workflow: &api::Workflow,
    task: &api::Task,
    name: &str,
) -> Option<(&'a Document, FieldPath)> {
    task.with.get(name)?;
    let position = workflow.spec.tasks.iter().position(|it| it.name == task.name)?;
    Some((document, spec().field("tasks").index(position).field("with").field(name)))
}

/// A relation, or its column where that is written down.
fn origin<'a>(
    world: &World<'a>,
    document: &'a Document,
    workflow: &api::Workflow,
    relation: &Relation,
    column: Option<&str>,
) -> Option<(&'a Document, FieldPath)> {
    let is_it = |name: &str| column.is_some_and(|column| name.eq_ignore_ascii_case(column));
    match &relation.origin {
        Origin::Table(connection, table) => {
            let (document, connection) = world.connection(connection)?;
            let path = spec().field("tables").index(*table);
            let columns = &connection.spec.tables.as_ref()?.get(*table)?.columns;
            let position = columns.iter().position(|column| is_it(&column.name));
            let path = position.map_or(path.clone(), |position| path.field("columns").index(position));
            Some((document, path.field("name")))
        }
        Origin::Name(name) => {
            let input = workflow.spec.inputs.iter().position(|input| input.name == *name);
            let columns = input.and_then(|input| workflow.spec.inputs[input].columns.as_ref());
            let position = columns.and_then(|columns| columns.iter().position(|column| is_it(&column.name)));
            match (input, position) {
                (Some(input), Some(position)) => {
                    let path = spec().field("inputs").index(input).field("columns").index(position);
                    Some((document, path.field("name")))
                }
                _ => declared(document, workflow, name),
            }
        }
    }
}

/// The output that publishes a dataset.
fn publisher<'a>(world: &World<'a>, dataset: &str) -> Option<(&'a Document, FieldPath)> {
    world.workflows().find_map(|(document, workflow)| {
        let publishes =
            |output: &api::Output| output.publish.as_ref().is_some_and(|publish| publish.artifact == dataset);
        let position = workflow.spec.outputs.as_ref()?.iter().position(publishes)?;
        Some((document, spec().field("outputs").index(position).field("publish").field("artifact")))
    })
}

/// The text of a ConfigMap, by its key; by the name of the ConfigMap its first.
fn sql_text(world: &World<'_>, name: &str) -> Option<Location> {
    let mut texts = world.known.manifests.sql_texts().iter();
    match texts.find(|((map, key), _)| key == name || map == name)? {
        (_, SqlText::File { name, .. }) => Some(Location { uri: uri_of(name.as_ref())?, range: Range::default() }),
        ((_, key), SqlText::Object(document)) => location(world, document, &FieldPath::root().field("data").field(key)),
    }
}

fn location(world: &World<'_>, document: &Document, path: &FieldPath) -> Option<Location> {
    let (line, column) = document.place(path);
    let file: &str = &document.file;
    let source = match &world.file {
        Some(own) if own == file => world.text,
        _ => world.known.manifests.sources().get(file)?,
    };
    Some(Location { uri: uri_of(file.as_ref())?, range: text::range(source, Place { line, column }) })
}
