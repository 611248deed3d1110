//! docs/reference/manifests.md: every kind, type and field, from the schemas.

use std::collections::BTreeMap;
use std::fmt::Write;

use pintail_api as api;
use serde_json::Value;

use crate::kinds::Kind;

const HEAD: &str = "\
# Manifests

Every kind, type and field. Fields with a `*` must be set. Fields whose description says *Takes expressions*
may hold `$(…)`; see [expressions](expressions.md). Made from the code by `make generate`.
";

/// The page.
pub fn manifests(kinds: &[Kind]) -> String {
    let mut page = HEAD.to_owned();
    let shared = shared_types(kinds);
    let _ = writeln!(page, "\nAll kinds have `apiVersion: {}`.\n", api::API_VERSION);
    for kind in kinds {
        let _ = writeln!(page, "- [{0}](#{1})", kind.name, anchor(kind.name));
    }
    page.push_str("- [Types that several kinds use](#shared-types)\n");
    for kind in kinds {
        let _ = writeln!(page, "\n## {}\n\n{}\n", kind.name, paragraph(&kind.schema));
        let file = kind.file_name();
        let schema = format!("Schema for editors: [`schemas/{file}.json`](../../schemas/{file}.json).");
        let _ = match &kind.short_name {
            Some(short) => {
                writeln!(page, "Short name `{short}`. {schema} CRD: [`crds/{file}.yaml`](../../crds/{file}.yaml).")
            }
            None => writeln!(page, "{schema}"),
        };
        for name in reachable(kind).iter().filter(|name| !shared.contains_key(*name)) {
            page.push_str(&type_section(name, &kind.schema["$defs"][name]));
        }
    }
    page.push_str("\n## Shared types\n");
    for (name, definition) in shared {
        page.push_str(&type_section(&name, definition));
    }
    page
}

/// Types that stand in the schemas of more than one kind; and the table source, which any value may be.
fn shared_types(kinds: &[Kind]) -> BTreeMap<String, &Value> {
    let mut uses: BTreeMap<String, (usize, &Value)> = BTreeMap::new();
    for kind in kinds {
        for (name, definition) in kind.schema["$defs"].as_object().into_iter().flatten() {
            uses.entry(name.clone()).or_insert((0, definition)).0 += 1;
        }
    }
    uses.retain(|name, (count, _)| *count > 1 || name == "TableSource");
    uses.into_iter().map(|(name, (_, definition))| (name, definition)).collect()
}

/// Names of a kind's types: spec first, each type after the first that names it.
fn reachable(kind: &Kind) -> Vec<String> {
    let mut found = Vec::new();
    collect_references(&kind.schema["properties"], &kind.schema["$defs"], &mut found);
    found
}

fn collect_references(schema: &Value, definitions: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), referred(value)) {
                    ("$ref", Some(name)) if !found.contains(&name) => {
                        found.push(name.clone());
                        collect_references(&definitions[&name], definitions, found);
                    }
                    _ => collect_references(value, definitions, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, definitions, found)),
        _ => {}
    }
}

fn referred(reference: &Value) -> Option<String> {
    reference.as_str()?.strip_prefix("#/$defs/").map(str::to_owned)
}

fn type_section(name: &str, definition: &Value) -> String {
    let mut section = format!("\n### {name}\n\n{}\n", paragraph(definition));
    for rule in definition["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let _ = writeln!(section, "\nRule: {}.", rule["message"].as_str().unwrap_or_default());
    }
    if let Some(fields) = definition["properties"].as_object() {
        let required: Vec<&str> =
            definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        section.push_str("\n| Field | Type | Description |\n|---|---|---|\n");
        for (field, schema) in fields {
            let mark = if required.contains(&field.as_str()) { " \\*" } else { "" };
            let _ =
                writeln!(section, "| `{field}`{mark} | {} | {} |", cell(&type_text(schema)), cell(&paragraph(schema)));
        }
    } else if let Some(values) = definition["oneOf"].as_array() {
        section.push_str("\n| Value | Description |\n|---|---|\n");
        for value in values {
            let _ = writeln!(
                section,
                "| `{}` | {} |",
                value["const"].as_str().unwrap_or_default(),
                cell(&paragraph(value))
            );
        }
    }
    section
}

/// A schema's type for people: `list of [Task](#task)`, `string, at most 40 characters`.
fn type_text(schema: &Value) -> String {
    if let Some(name) = referred(&schema["$ref"]) {
        return format!("[{name}](#{})", anchor(&name));
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let texts: Vec<String> = choices.iter().filter(|choice| choice["type"] != "null").map(type_text).collect();
        return texts.join(" or ");
    }
    match type_name(schema) {
        "array" => format!("list of {}{}", type_text(&schema["items"]), limit(schema, "maxItems", "entries")),
        "object" if schema["additionalProperties"].is_object() => {
            format!(
                "map of {}{}",
                type_text(&schema["additionalProperties"]),
                limit(schema, "maxProperties", "entries")
            )
        }
        "string" => format!("string{}", limit(schema, "maxLength", "characters")),
        "integer" => format!("integer{}", range(schema)),
        "" => "any value".to_owned(),
        other => other.to_owned(),
    }
}

/// The type, but for `null`: fields that may be left out may be null, too.
fn type_name(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(name) => name,
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default(),
        _ => "",
    }
}

fn limit(schema: &Value, word: &str, unit: &str) -> String {
    schema[word].as_u64().map(|most| format!(", at most {most} {unit}")).unwrap_or_default()
}

fn range(schema: &Value) -> String {
    match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        _ => String::new(),
    }
}

pub fn paragraph(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text for a cell of a table.
pub fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn anchor(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "-").replace('.', "")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::{generate, kinds};

    #[test]
    fn every_link_within_the_page_has_its_heading() {
        let page = manifests(&kinds::all());
        let headings: Vec<String> =
            page.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' ')).map(anchor).collect();
        for link in page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(headings.iter().any(|heading| heading == link), "no heading for #{link}");
        }
    }

    /// Markdown files of the root, docs/ and examples/.
    fn pages() -> Vec<PathBuf> {
        let root = generate::root();
        let mut folders = vec![root.join("docs"), root.join("examples")];
        let mut found = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("CHANGELOG.md")];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
                match path.extension() {
                    None if path.is_dir() => folders.push(path),
                    Some(ending) if ending == "md" => found.push(path),
                    _ => {}
                }
            }
        }
        found
    }

    #[test]
    fn every_relative_link_of_the_documentation_leads_to_a_file() {
        for page in pages() {
            let text = fs::read_to_string(&page).unwrap();
            for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = link.split('#').next().unwrap_or_default();
                if !target.is_empty() && !target.contains("://") {
                    assert!(page.parent().unwrap().join(target).exists(), "{}: {link}", page.display());
                }
            }
        }
    }
}
