//! What a name is: columns and types of a table, the type of a column, what a field is for.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use lsp_types::{Hover, HoverContents, MarkupContent, MarkupKind};
use pintail_api as api;
use pintail_plan::{FieldPath, Segment};
use serde_json::Value;

use super::sql::{Meaning, meaning};
use super::{Here, Reference, World, named};
use crate::lsp::knowledge::Relation;

pub fn hover(world: &World<'_>, here: &Here<'_>) -> Option<Hover> {
    let value = match here {
        Here::Sql { workflow, task, text, offset } => {
            let scope = world.known.scope(workflow, task);
            in_sql(world, &meaning(text, *offset, &scope)?)?
        }
        Here::Field { document, spot } if spot.is_key => description(document.object.kind(), &spot.path)?,
        Here::Field { document, spot } => {
            let (reference, name) = named(spot)?;
            let workflow = world.workflow_of(document);
            match reference {
                Reference::Used => used(world, workflow?.1, &name)?,
                Reference::Connection => connection(world, &name)?,
                Reference::Workflow => workflow?.1.spec.description.clone()?,
                Reference::Dataset | Reference::Sql => return None,
            }
        }
    };
    let contents = HoverContents::Markup(MarkupContent { kind: MarkupKind::Markdown, value });
    Some(Hover { contents, range: None })
}

fn in_sql(world: &World<'_>, meaning: &Meaning<'_>) -> Option<String> {
    Some(match meaning {
        Meaning::Parameter(name, "") => format!("`${name}`: its type is told by the value"),
        Meaning::Parameter(name, data_type) => code(&format!("${name} {data_type}")),
        Meaning::Database(name) => connection(world, name)?,
        Meaning::Relation(relation) => table(relation),
        Meaning::Columns(columns) => {
            let one = |(relation, column): &(&Relation, &pintail_protocol::ResultColumn)| {
                format!("{}of `{}`", code(&format!("{} {}", column.name, column.data_type)), relation.name)
            };
            columns.iter().map(one).collect::<Vec<_>>().join("\n\n")
        }
    })
}

fn used(world: &World<'_>, workflow: &api::Workflow, name: &str) -> Option<String> {
    let scalar = workflow.spec.inputs.iter().find(|input| input.name == name && input.data_type != "table");
    if let Some(input) = scalar {
        return Some(code(&format!("{name} {}", input.data_type)) + input.description.as_deref().unwrap_or_default());
    }
    // Further results of a task are shown with the main one.
    let task = workflow.spec.tasks.iter().find(|task| task.name == name);
    let results = task.map(|task| world.known.scope(workflow, task).results).unwrap_or_default();
    if results.is_empty() {
        return world.known.used(workflow, name, "result").map(|relation| table(&relation));
    }
    Some(results.iter().map(table).collect::<Vec<_>>().join("\n"))
}

fn connection(world: &World<'_>, name: &str) -> Option<String> {
    let (_, connection) = world.connection(name)?;
    let tables = connection.spec.tables.iter().flatten().map(|table| format!("- `{name}.{}`\n", table.name));
    let tables: String = tables.collect();
    Some(format!("Connection `{name}`\n\n{tables}"))
}

fn table(relation: &Relation) -> String {
    let Some(columns) = &relation.columns else {
        return format!("`{}`: its columns are not known before it runs", relation.name);
    };
    let lines: Vec<String> = columns.iter().map(|column| format!("  {} {}", column.name, column.data_type)).collect();
    code(&format!("{}(\n{}\n)", relation.name, lines.join(",\n")))
}

fn code(text: &str) -> String {
    format!("```sql\n{text}\n```\n")
}

/// What a field is for, as its schema says.
fn description(kind: &str, path: &FieldPath) -> Option<String> {
    static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
        let schema = |definition: CustomResourceDefinition| {
            let schema = definition.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.as_ref()?;
            Some((definition.spec.names.kind, serde_json::to_value(schema).ok()?))
        };
        api::definitions().into_iter().filter_map(schema).collect()
    });
    let step = |schema: &'static Value, segment: &Segment| match segment {
        Segment::Index(_) => schema.get("items"),
        Segment::Field(name) => {
            schema.get("properties").and_then(|fields| fields.get(name)).or_else(|| schema.get("additionalProperties"))
        }
    };
    let schema = path.segments().iter().try_fold(SCHEMAS.get(kind)?, step)?;
    Some(schema.get("description")?.as_str()?.to_owned())
}
