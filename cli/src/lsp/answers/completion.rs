//! What may be written at the cursor.

use kube::ResourceExt;
use lsp_types::{CompletionItem, CompletionItemKind, CompletionTextEdit, Range, TextEdit};
use pintail_plan::manifest::Position as Place;
use pintail_protocol::ResultColumn;

use super::sql::{Context, context, members, named_queries, relations};
use super::{Here, Reference, World, in_expression, reference};
use crate::lsp::knowledge::{Relation, Scope};
use crate::lsp::text;

/// One thing that may be written, and what it is.
struct Offer {
    text: String,
    detail: String,
    kind: CompletionItemKind,
}

pub fn completion(world: &World<'_>, here: &Here<'_>, at: Place) -> Vec<CompletionItem> {
    let before = text::before(world.text, at);
    let (offers, is_part): (Vec<Offer>, fn(char) -> bool) = match here {
        Here::Sql { workflow, task, text, offset } => {
            let scope = world.known.scope(workflow, task);
            let place = context(text, *offset);
            let is_part: fn(char) -> bool =
                if place == Context::Parameter { |char| text::is_name(char) || char == '$' } else { text::is_name };
            (in_sql(text, &place, &scope), is_part)
        }
        Here::Field { document, spot } if !spot.is_key => {
            let typed = before.trim_end_matches(text::is_name);
            let reference = if in_expression(typed) { Some(Reference::Used) } else { reference(&spot.path) };
            let offers = reference.map(|reference| in_field(world, document, reference)).unwrap_or_default();
            (offers, |char| text::is_name(char) || char == '-')
        }
        Here::Field { .. } => (Vec::new(), text::is_name),
    };
    let start = before.trim_end_matches(is_part).chars().count() + 1;
    let range =
        Range { start: text::position(world.text, Place { column: start, ..at }), end: text::position(world.text, at) };
    offers.into_iter().enumerate().map(|(order, offer)| item(offer, order, range)).collect()
}

fn item(offer: Offer, order: usize, range: Range) -> CompletionItem {
    CompletionItem {
        kind: Some(offer.kind),
        detail: Some(offer.detail),
        // Editors sort by letters; what is nearer stays first.
        sort_text: Some(format!("{order:05}")),
        filter_text: Some(offer.text.clone()),
        text_edit: Some(CompletionTextEdit::Edit(TextEdit { range, new_text: offer.text.clone() })),
        label: offer.text,
        ..CompletionItem::default()
    }
}

fn in_sql(text: &str, place: &Context, scope: &Scope) -> Vec<Offer> {
    let parameters = scope.parameters.iter().map(|(name, data_type)| Offer {
        text: format!("${name}"),
        detail: data_type.clone(),
        kind: CompletionItemKind::VARIABLE,
    });
    let queries = named_queries(text).into_iter().map(|name| Offer {
        text: name,
        detail: "a query of WITH".to_owned(),
        kind: CompletionItemKind::STRUCT,
    });
    let tables = scope.relations.iter().map(|relation| table(&relation.name, relation)).chain(queries);
    match place {
        Context::Nothing => Vec::new(),
        Context::Parameter => parameters.collect(),
        Context::Relation => tables.collect(),
        Context::Member(names) => {
            let (columns, tables) = members(text, names, scope);
            let columns = columns.into_iter().map(|it| column(it, names.last().map_or("", String::as_str)));
            columns.chain(tables.iter().map(|(rest, relation)| table(rest, relation))).collect()
        }
        Context::Any => {
            let columns = relations(text, scope)
                .into_iter()
                .flat_map(|relation| relation.columns.iter().flatten().map(|it| column(it, &relation.name)));
            columns.chain(tables).chain(parameters).collect()
        }
    }
}

fn column(column: &ResultColumn, relation: &str) -> Offer {
    let is_plain =
        !column.name.starts_with(|char: char| char.is_ascii_digit()) && column.name.chars().all(text::is_name);
    let quoted = || format!("\"{}\"", column.name.replace('"', "\"\""));
    Offer {
        text: if is_plain { column.name.clone() } else { quoted() },
        detail: format!("{} of {relation}", column.data_type),
        kind: CompletionItemKind::FIELD,
    }
}

fn table(name: &str, relation: &Relation) -> Offer {
    let detail = match &relation.columns {
        Some(columns) => columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", "),
        None => "its columns are not known".to_owned(),
    };
    Offer { text: name.to_owned(), detail, kind: CompletionItemKind::STRUCT }
}

fn in_field(world: &World<'_>, document: &pintail_plan::manifest::Document, reference: Reference) -> Vec<Offer> {
    let offer = |text: &str, detail: &str| Offer {
        text: text.to_owned(),
        detail: detail.to_owned(),
        kind: CompletionItemKind::REFERENCE,
    };
    match reference {
        Reference::Used => {
            let Some((_, workflow)) = world.workflow_of(document) else { return Vec::new() };
            let inputs = workflow.spec.inputs.iter().map(|input| offer(&input.name, &input.data_type));
            let tasks = workflow.spec.tasks.iter().map(|task| offer(&task.name, "task"));
            inputs.chain(tasks).collect()
        }
        Reference::Connection => {
            world.known.manifests.connections().keys().map(|name| offer(name, "Connection")).collect()
        }
        Reference::Workflow => world.workflows().map(|(_, workflow)| offer(&workflow.name_any(), "Workflow")).collect(),
        Reference::Dataset => {
            let outputs = world.workflows().flat_map(|(_, workflow)| workflow.spec.outputs.iter().flatten());
            let published = outputs.filter_map(|output| output.publish.as_ref());
            published.map(|publish| offer(&publish.artifact, "dataset")).collect()
        }
        Reference::Sql => {
            let texts = world.known.manifests.sql_texts().keys();
            texts.flat_map(|(map, key)| [offer(map, "ConfigMap"), offer(key, map)]).collect()
        }
    }
}
