//! What of charts/pintail is made from code: the definitions of the kinds, the values with their schema and their page.

mod values;

use std::fmt::Write;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::generate::Files;
use crate::kinds::Kind;
use crate::reference::{cell, paragraph};
use values::Values;

const MADE: &str = "Made by `make generate` from xtask/src/chart/values.rs.";

/// Relative path to content.
pub fn files(kinds: &[Kind]) -> Result<Files, String> {
    let mut files = Files::new();
    for kind in kinds {
        let Some(yaml) = kind.crd_yaml() else { continue };
        files.insert(format!("charts/pintail/templates/crds/{}.yaml", kind.file_name()), template(&yaml?));
    }
    let schema = schema();
    let defaults = serde_json::to_value(Values::default()).map_err(|error| error.to_string())?;
    files.insert("charts/pintail/values.schema.json".to_owned(), format!("{schema:#}\n"));
    files.insert("charts/pintail/values.yaml".to_owned(), values_yaml(&schema, &defaults)?);
    files.insert("docs/reference/chart-values.md".to_owned(), page(&schema, &defaults));
    Ok(files)
}

/// A definition as the chart installs it: when asked, with the chart's labels and annotations. Braces in its texts are no
/// template.
fn template(crd: &str) -> String {
    const METADATA: &str = "\nmetadata:\n";
    const LABELS: &str = "  labels:\n    {{- include \"pintail.labels\" . | nindent 4 }}\n";
    const ANNOTATIONS: &str =
        "  {{- with include \"pintail.crdAnnotations\" . }}\n  annotations:\n    {{- . | nindent 4 }}\n  {{- end }}\n";
    let literal = crd.replace("{{", "{{ \"{{\" }}");
    let body = literal.replacen(METADATA, &format!("{METADATA}{ANNOTATIONS}{LABELS}"), 1);
    format!("{{{{- if .Values.crds.install }}}}\n{body}{{{{- end }}}}\n")
}

/// The schema of the values, types in their places: Helm reads draft 7, and people read errors by path.
fn schema() -> Value {
    let mut settings = SchemaSettings::draft07();
    settings.inline_subschemas = true;
    let mut schema: Value = settings.into_generator().into_root_schema_for::<Values>().into();
    schema["title"] = json!("Values of the chart pintail");
    everything_optional(&mut schema);
    schema
}

/// What is not set has a default, in values.yaml.
fn everything_optional(schema: &mut Value) {
    if let Value::Object(fields) = schema {
        fields.remove("required");
        fields.values_mut().for_each(everything_optional);
    }
}

fn fields(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

/// The values as YAML, each below its description.
fn values_yaml(schema: &Value, defaults: &Value) -> Result<String, String> {
    let mut text = format!("# {MADE}\n# Closed: an unknown value is an error.\n");
    for (name, field) in fields(schema) {
        text.push('\n');
        write_value(&mut text, 0, name, field, &defaults[name])?;
    }
    Ok(text)
}

fn write_value(text: &mut String, depth: usize, name: &str, schema: &Value, value: &Value) -> Result<(), String> {
    const WIDTH: usize = 110;
    let indent = "  ".repeat(depth);
    let mut line = format!("{indent}#");
    for word in paragraph(schema).split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = format!("{indent}#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{line}");
    if schema["properties"].is_object() {
        let _ = writeln!(text, "{indent}{name}:");
        return fields(schema).try_for_each(|(inner, field)| write_value(text, depth + 1, inner, field, &value[inner]));
    }
    let yaml = serde_saphyr::to_string(&Map::from_iter([(name.to_owned(), value.clone())]));
    for line in yaml.map_err(|error| error.to_string())?.lines() {
        let _ = writeln!(text, "{indent}{line}");
    }
    Ok(())
}

fn page(schema: &Value, defaults: &Value) -> String {
    let mut page = "# Values of the chart\n\n\
        What `helm install --set` and `--values` take. An unknown value is an error. Made from the code by `make generate`; \
        [how to install](../how-to/install-on-kubernetes.md).\n\n\
        | Value | If left out | Meaning |\n|---|---|---|\n"
        .to_owned();
    write_rows(&mut page, "", schema, defaults);
    page
}

fn write_rows(page: &mut String, path: &str, schema: &Value, defaults: &Value) {
    for (name, field) in fields(schema) {
        let (path, value) = (format!("{path}{name}"), &defaults[name]);
        if field["properties"].is_object() {
            write_rows(page, &format!("{path}."), field, value);
        } else {
            let shown = match value {
                Value::String(text) if text.is_empty() => String::new(),
                Value::Array(list) if list.is_empty() => String::new(),
                Value::Object(map) if map.is_empty() => String::new(),
                Value::String(text) => format!("`{text}`"),
                other => format!("`{other}`"),
            };
            let choices: Vec<&str> = field["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let choices = if choices.is_empty() { String::new() } else { format!(" One of {}.", choices.join(", ")) };
            let _ = writeln!(page, "| `{path}` | {} | {}{choices} |", cell(&shown), cell(&paragraph(field)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_in_a_description_are_no_template() {
        let crd = "kind: CustomResourceDefinition\nmetadata:\n  name: x\nspec:\n  description: say {{ this }}\n";
        let template = template(crd);
        assert!(template.contains("say {{ \"{{\" }} this }}"), "{template}");
        assert_eq!(template.matches("metadata:").count(), 1);
    }

    #[test]
    fn every_value_is_described_and_every_object_of_the_chart_is_closed() {
        fn check(path: &str, schema: &Value) {
            assert_eq!(schema["additionalProperties"], json!(false), "{path}");
            for (name, field) in fields(schema) {
                assert!(!paragraph(field).is_empty(), "{path}{name} has no description");
                if field["properties"].is_object() {
                    check(&format!("{path}{name}."), field);
                }
            }
        }
        check("", &schema());
    }

    #[test]
    fn the_chart_has_the_version_of_the_programs() {
        let chart = std::fs::read_to_string(crate::generate::root().join("charts/pintail/Chart.yaml")).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert!(chart.contains(&format!("\nversion: {version}\n")), "{chart}");
        assert!(chart.contains(&format!("\nappVersion: \"{version}\"\n")), "{chart}");
    }
}
