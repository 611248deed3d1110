//! The kinds, as CRDs and as JSON Schemas.

use kube::CustomResourceExt;
use pintail_api as api;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::Problems;

/// One kind with everything that is made of it.
pub struct Kind {
    pub name: &'static str,
    /// None of a kind that no cluster knows.
    pub short_name: Option<String>,
    crd: Option<Value>,
    /// JSON Schema of a whole object, in draft 2020-12, with the API server's rules; types stand under `$defs`.
    pub schema: Value,
}

/// Every kind, in the order of the reference.
pub fn all() -> Vec<Kind> {
    vec![
        kind::<api::Workflow, api::WorkflowSpec, api::WorkflowStatus>("Workflow"),
        kind::<api::Connection, api::ConnectionSpec, api::ConnectionStatus>("Connection"),
        kind::<api::Execution, api::ExecutionSpec, api::ExecutionStatus>("Execution"),
        kind::<api::Artifact, api::ArtifactSpec, api::ArtifactStatus>("Artifact"),
        kind::<api::LaunchPlan, api::LaunchPlanSpec, api::LaunchPlanStatus>("LaunchPlan"),
        kind_of_files::<api::WorkflowTestSpec>("WorkflowTest"),
    ]
}

fn kind<Root: CustomResourceExt, Spec: JsonSchema, Status: JsonSchema>(name: &'static str) -> Kind {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let spec: Value = generator.subschema_for::<Spec>().into();
    let status: Value = generator.subschema_for::<Status>().into();
    let fields = Map::from_iter([("spec".to_owned(), spec), ("status".to_owned(), status)]);
    let schema = schema_of(name, fields, generator.take_definitions(true));
    let mut crd = serde_json::to_value(Root::crd()).unwrap_or_default();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = schema["description"].clone();
    let short_name = Root::shortnames().first().copied().unwrap_or_default().to_owned();
    Kind { name, short_name: Some(short_name), crd: Some(crd), schema }
}

/// A kind that commands read from files, and no cluster knows.
fn kind_of_files<Spec: JsonSchema>(name: &'static str) -> Kind {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let spec: Value = generator.subschema_for::<Spec>().into();
    let fields = Map::from_iter([("spec".to_owned(), spec)]);
    Kind { name, short_name: None, crd: None, schema: schema_of(name, fields, generator.take_definitions(true)) }
}

/// The schema of a whole object.
fn schema_of(name: &str, mut fields: Map<String, Value>, mut types: Map<String, Value>) -> Value {
    let description = resolve(&fields["spec"], &types)["description"].clone();
    name_inline_types(name, &mut fields, &mut types);
    let mut properties = Map::from_iter([
        (
            "apiVersion".to_owned(),
            json!({ "description": "Group and version of the kind.", "const": api::API_VERSION }),
        ),
        ("kind".to_owned(), json!({ "description": "The kind.", "const": name })),
        ("metadata".to_owned(), metadata()),
    ]);
    for (field, schema) in fields {
        let description = if field == "spec" { "What is wanted." } else { "What is. Written by Pintail only." };
        properties.insert(field, with_description(schema, description));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "description": description,
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "properties": properties,
        "$defs": types,
    })
}

fn resolve<'a>(schema: &'a Value, types: &'a Map<String, Value>) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    name.and_then(|name| types.get(name)).unwrap_or(schema)
}

/// Moves object types that stand where they are used (those with rules of the API server) among the named ones. Their
/// name is the path to them: `Workflow.spec.tasks.duckdb`.
fn name_inline_types(path: &str, fields: &mut Map<String, Value>, types: &mut Map<String, Value>) {
    for (field, schema) in fields {
        let path = format!("{path}.{field}");
        let holder = if schema["items"].is_object() { &mut schema["items"] } else { schema };
        if let Some(mut inner) = holder.get_mut("properties").and_then(Value::as_object_mut).map(std::mem::take) {
            name_inline_types(&path, &mut inner, types);
            let mut named = holder.take();
            let description = named["description"].clone();
            let optional = named["type"].is_array();
            named["type"] = json!("object");
            named["properties"] = Value::Object(inner);
            let reference = json!({ "$ref": format!("#/$defs/{path}") });
            types.insert(path, named);
            *holder = if optional { json!({ "anyOf": [reference, { "type": "null" }] }) } else { reference };
            holder["description"] = description;
        }
    }
}

/// What people write of `metadata`. The API server knows more fields and sets them.
fn metadata() -> Value {
    let text_map = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({
        "description": "Name of the object, and what is pinned to it.",
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": { "description": "Name of the object: a DNS label.", "type": "string", "minLength": 1, "maxLength": 63 },
            "namespace": { "description": "Namespace of the object.", "type": "string", "maxLength": 63 },
            "labels": with_description(text_map.clone(), "Names and values to select objects by."),
            "annotations": with_description(text_map, "Names and values for people and programs."),
        },
    })
}

fn with_description(mut schema: Value, description: &str) -> Value {
    schema["description"] = json!(description);
    schema
}

/// Editors know nothing of the API server's extensions of JSON Schema.
fn remove_kubernetes_words(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.starts_with("x-kubernetes-"));
            fields.values_mut().for_each(remove_kubernetes_words);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_kubernetes_words),
        _ => {}
    }
}

impl Kind {
    pub fn file_name(&self) -> String {
        self.name.to_lowercase()
    }

    /// The CRD as YAML that `kubectl apply` takes, where the kind has one.
    pub fn crd_yaml(&self) -> Option<Result<String, String>> {
        let body = serde_saphyr::to_string(self.crd.as_ref()?).map_err(|error| error.to_string());
        Some(body.map(|body| format!("# Made by `make generate` from crates/api.\n{body}")))
    }

    /// The JSON Schema as text.
    pub fn editor_schema(&self) -> String {
        let mut schema = self.schema.clone();
        remove_kubernetes_words(&mut schema);
        format!("{schema:#}\n")
    }

    /// Types, fields and values that nothing describes, one line each.
    pub fn undescribed(&self) -> Problems {
        let mut problems = Problems::new();
        let definitions = self.schema["$defs"].as_object().into_iter().flatten();
        for (name, definition) in definitions {
            let place = format!("{}: type {name}", self.name);
            check_described(&place, definition, &mut problems);
        }
        problems
    }
}

fn check_described(place: &str, definition: &Value, problems: &mut Problems) {
    if definition["description"].as_str().is_none_or(str::is_empty) {
        problems.push(format!("{place} has no description"));
    }
    for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
        if schema["description"].as_str().is_none_or(str::is_empty) {
            problems.push(format!("{place}, field {field} has no description"));
        }
    }
    // Values with descriptions are `oneOf` constants; those without are gathered in an `enum`.
    let variants = definition["oneOf"].as_array().into_iter().flatten().chain([definition]);
    for value in variants.filter_map(|variant| variant["enum"].as_array()).flatten() {
        problems.push(format!("{place}, value {value} has no description"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_a_field_and_a_value_without_description_are_named() {
        let definition = json!({
            "properties": { "told": { "description": "x" }, "untold": { "type": "string" } },
            "oneOf": [{ "const": "A", "description": "x" }, { "enum": ["B"] }],
        });
        let mut problems = Problems::new();
        check_described("T", &definition, &mut problems);
        assert_eq!(
            problems,
            ["T has no description", "T, field untold has no description", "T, value \"B\" has no description"]
        );
    }

    #[test]
    fn every_object_type_refuses_unknown_fields_but_what_pintail_writes() {
        let of_statuses = [
            "Condition",
            "LastRun",
            "Reader",
            "Resolved",
            "ResolvedInput",
            "RunReference",
            "TaskCounts",
            "TaskFailure",
            "TriggerTuple",
            "TupleVersion",
        ];
        for kind in all() {
            for (name, definition) in kind.schema["$defs"].as_object().unwrap() {
                let written_by_pintail = name.ends_with("Status") || of_statuses.contains(&name.as_str());
                if definition["properties"].is_object() && !written_by_pintail {
                    assert_eq!(definition["additionalProperties"], json!(false), "{}: {name}", kind.name);
                }
            }
        }
    }
}
