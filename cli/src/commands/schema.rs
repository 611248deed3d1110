//! `pintail schema pull`.

use std::path::Path;

use pintail_api as api;
use pintail_execution::{connection_target, sql_name};
use pintail_plan::manifest::{Document, parse_manifests};
use pintail_plan::{FieldPath, Problem, Rule};
use pintail_protocol::{DatabaseTable, plain_table};

use crate::arguments::SchemaPull;
use crate::failure::CommandFailure;
use crate::manifests::Manifests;
use crate::output::print_text;

/// As many tables as a Connection may list.
const TABLES_MAX: usize = 500;

pub fn pull(arguments: &SchemaPull) -> Result<(), CommandFailure> {
    let manifests = Manifests::read_right(&arguments.files)?;
    let name = sql_name(&arguments.connection);
    let (Some(connection), Some(document)) = (manifests.connections().get(&name), manifests.connection_document(&name))
    else {
        let names: Vec<&str> = manifests.connections().keys().map(String::as_str).collect();
        return Err(CommandFailure::usage(format!(
            "there is no Connection {:?} in these files; there are: {}",
            arguments.connection,
            names.join(", ")
        )));
    };
    let spec = &connection.spec;
    if spec.duckdb.is_none() && spec.postgres.is_none() {
        return Err(CommandFailure::usage(format!(
            "connection {name} is no database; duckdb and postgres have tables"
        )));
    }
    let target = connection_target(&name, spec).map_err(CommandFailure::failed)?;
    let found = pintail_task_runner::database_tables(&name, target, manifests.secrets().clone())
        .map_err(|failure| CommandFailure::failed(format!("connection {name}: {failure}")))?;
    if found.len() > TABLES_MAX {
        return Err(CommandFailure::failed(format!(
            "connection {name} has {} tables, and a Connection lists at most {TABLES_MAX}: list those that are used by hand",
            found.len()
        )));
    }
    let tables = with_marks(found, spec.tables.as_deref().unwrap_or_default());
    let count = tables.len();
    if !arguments.write {
        print_text(&format!("tables:\n{}", tables_text(&tables, 2)));
        return Ok(());
    }
    let file = Path::new(&*document.file);
    let text = manifests.sources().get(&*document.file).cloned().unwrap_or_default();
    let changed = with_tables(&text, document, spec.tables.is_some(), &tables).map_err(CommandFailure::failed)?;
    check_written(document, &changed)?;
    // Whole or not at all.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot =
        |error: &dyn std::fmt::Display| CommandFailure::failed(format!("cannot write {}: {error}", document.file));
    let mut written = tempfile::NamedTempFile::new_in(folder).map_err(|error| cannot(&error))?;
    std::io::Write::write_all(&mut written, changed.as_bytes()).map_err(|error| cannot(&error))?;
    if let Ok(metadata) = std::fs::metadata(file) {
        std::fs::set_permissions(written.path(), metadata.permissions()).map_err(|error| cannot(&error))?;
    }
    written.persist(file).map_err(|error| cannot(&error))?;
    eprintln!("{}: {count} {} of connection {name}", document.file, if count == 1 { "table" } else { "tables" });
    Ok(())
}

/// What was found, with what a person said of it before.
fn with_marks(found: Vec<DatabaseTable>, before: &[api::ConnectionTable]) -> Vec<api::ConnectionTable> {
    let sensitive = |table: &str, column: &str| {
        let same = before.iter().filter(|it| plain_table(&it.name) == plain_table(table)).flat_map(|it| &it.columns);
        same.filter(|it| it.name.eq_ignore_ascii_case(column)).find_map(|it| it.sensitive)
    };
    let table = |table: DatabaseTable| api::ConnectionTable {
        columns: table
            .columns
            .into_iter()
            .map(|column| api::TableColumn {
                sensitive: sensitive(&table.name, &column.name),
                name: column.name,
                data_type: column.data_type,
            })
            .collect(),
        name: table.name,
    };
    found.into_iter().map(table).collect()
}

/// The list in YAML, a column a line.
fn tables_text(tables: &[api::ConnectionTable], indent: usize) -> String {
    let pad = " ".repeat(indent);
    let mut text = String::new();
    for table in tables {
        text += &format!("{pad}- name: {}\n{pad}  columns:\n", scalar(&table.name));
        for column in &table.columns {
            let mark = match column.sensitive {
                Some(sensitive) => format!(", sensitive: {sensitive}"),
                None => String::new(),
            };
            let (name, data_type) = (scalar(&column.name), scalar(&column.data_type));
            text += &format!("{pad}    - {{ name: {name}, type: {data_type}{mark} }}\n");
        }
    }
    if tables.is_empty() { format!("{pad}[]\n") } else { text }
}

/// A text as a value within braces: plain where every parser reads it as this text, else in double quotes.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let is_plain = text.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
        && text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '.' | ' '))
        && !text.ends_with(' ')
        && !WORDS.contains(&text.to_lowercase().as_str());
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// The file with these tables in the document's `spec`, in the place of those that are there.
fn with_tables(
    text: &str,
    document: &Document,
    has_tables: bool,
    tables: &[api::ConnectionTable],
) -> Result<String, String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let line_of = |path: FieldPath| document.locate(Problem::new(Rule::UnknownField, path, "")).line.saturating_sub(1);
    let spec_path = FieldPath::root().field("spec");
    let spec = line_of(spec_path.clone());
    let by_hand = || {
        format!(
            "{}: `spec` is not written one field a line; put this there by hand:\n{}",
            document.file,
            tables_text(tables, 2)
        )
    };
    let is_block = lines.get(spec).is_some_and(|line| without_comment(line).ends_with("spec:"));
    let first = lines.iter().enumerate().skip(spec + 1).find(|(_, line)| !is_blank(line)).map(|(_, line)| indent(line));
    let field_indent =
        first.filter(|first| is_block && *first > indent(lines.get(spec).unwrap_or(&""))).ok_or_else(by_hand)?;
    let (start, end) = if has_tables {
        let start = line_of(spec_path.field("tables"));
        (start, block_end(&lines, start, field_indent))
    } else {
        let end = block_end(&lines, spec, indent(lines.get(spec).unwrap_or(&"")));
        (end, end)
    };
    if has_tables && !lines.get(start).is_some_and(|line| line.trim_start().starts_with("tables:")) {
        return Err(by_hand());
    }
    let mut result = lines[..start].concat();
    if !result.is_empty() && !result.ends_with('\n') {
        result.push('\n');
    }
    result += &format!("{}tables:\n{}", " ".repeat(field_indent), tables_text(tables, field_indent + 2));
    result += &lines[end..].concat();
    Ok(result)
}

fn without_comment(line: &str) -> &str {
    line.split(" #").next().unwrap_or(line).trim_end()
}

fn is_blank(line: &str) -> bool {
    let text = line.trim();
    text.is_empty() || text.starts_with('#')
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The line after the value of a field that begins at `start`; comments and blank lines behind it are not its own.
fn block_end(lines: &[&str], start: usize, field_indent: usize) -> usize {
    let mut end = start + 1;
    for (at, line) in lines.iter().enumerate().skip(start + 1) {
        if is_blank(line) {
            continue;
        }
        let is_item = indent(line) == field_indent && line.trim_start().starts_with("- ");
        if indent(line) <= field_indent && !is_item || line.starts_with("---") || line.starts_with("...") {
            break;
        }
        end = at + 1;
    }
    end
}

/// What was written must be what was meant, whatever the file looked like.
fn check_written(document: &Document, text: &str) -> Result<(), CommandFailure> {
    let parsed = parse_manifests(&document.file, text);
    match parsed.problems.first() {
        None => Ok(()),
        Some(problem) => {
            Err(CommandFailure::failed(format!("the file would have a problem, so it stays as it was: {problem}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Vec<api::ConnectionTable> {
        let column = |name: &str, data_type: &str, sensitive| api::TableColumn {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            sensitive,
        };
        let columns = vec![column("id", "BIGINT", None), column("e mail", "DECIMAL(12,2)", Some(true))];
        vec![api::ConnectionTable { name: "sales.on".to_owned(), columns }]
    }

    fn written(text: &str, has_tables: bool) -> Result<String, String> {
        let parsed = parse_manifests("c.yaml", text);
        assert_eq!(parsed.problems, []);
        with_tables(text, &parsed.documents[0], has_tables, &tables())
    }

    const TABLES: &str = "  tables:
    - name: sales.on
      columns:
        - { name: id, type: BIGINT }
        - { name: e mail, type: \"DECIMAL(12,2)\", sensitive: true }
";

    #[test]
    fn tables_are_put_behind_the_other_fields_and_nothing_else_changes() {
        let head =
            "# Ours.\napiVersion: pintail.dev/v1alpha1\nkind: Connection\nmetadata: { name: lake }\nspec:  # where\n";
        let kind = "  duckdb:\n    path: a.duckdb   # the file\n";
        let tail = "\n# Behind.\n---\napiVersion: v1\nkind: Service\n";
        let new = written(&format!("{head}{kind}{tail}"), false).unwrap();
        assert_eq!(new, format!("{head}{kind}{TABLES}{tail}"));
        // Once more gives the same.
        assert_eq!(written(&new, true).unwrap(), new);
    }

    #[test]
    fn tables_take_the_place_of_those_that_are_there() {
        let head = "apiVersion: pintail.dev/v1alpha1\nkind: Connection\nmetadata: { name: lake }\nspec:\n";
        let kind = "  # The file.\n  duckdb: { path: a.duckdb }\n";
        for old in [
            "  tables: [ { name: a, columns: [ { name: b, type: DATE } ] } ]\n",
            "  tables:\n  - name: a\n    columns:\n    # Only this.\n    - name: b\n      type: DATE\n",
        ] {
            assert_eq!(written(&format!("{head}{old}{kind}"), true).unwrap(), format!("{head}{TABLES}{kind}"));
            assert_eq!(written(&format!("{head}{kind}{old}"), true).unwrap(), format!("{head}{kind}{TABLES}"));
        }
    }

    #[test]
    fn a_spec_on_one_line_is_left_to_a_person() {
        let text = "apiVersion: pintail.dev/v1alpha1\nkind: Connection\nmetadata: { name: lake }\nspec: { duckdb: { path: a } }\n";
        assert!(written(text, false).unwrap_err().contains("by hand"));
    }
}
