//! Problems of manifests, printed for people, for programs, and for code scanning.

use std::collections::BTreeMap;
use std::fmt::Write;

use pintail_plan::{Located, Rule};
use pintail_protocol::{CheckedResult, ResultColumn, TableShape};
use serde_json::{Value, json};

/// Version of the JSON that [`as_json`] gives; it grows only where a field changes its meaning or goes.
const JSON_VERSION: u32 = 1;

/// With the lines that they are about. `sources` holds the text of each file.
pub fn as_text(problems: &[Located], sources: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for located in problems {
        // Whoever writes a Secret wrongly has its value on the very line that would be shown.
        let source = sources.get(&located.file).filter(|text| !text.contains("kind: Secret"));
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", one(located, source.map(String::as_str)));
    }
    text
}

/// SARIF's word too.
fn severity(rule: Rule) -> &'static str {
    if rule.is_note() { "note" } else { "error" }
}

fn one(located: &Located, source: Option<&str>) -> String {
    let problem = &located.problem;
    let mut text = format!("{}[{}]: {}\n", severity(problem.rule), problem.rule.id(), problem.message);
    let _ = writeln!(text, "  --> {}:{}:{} ({})", located.file, located.line, located.column, problem.path);
    let line = source.and_then(|source| source.lines().nth(located.line.saturating_sub(1)));
    if let Some(line) = line {
        let number = located.line.to_string();
        let margin = " ".repeat(number.len());
        let before: String =
            line.chars().take(located.column.saturating_sub(1)).map(|c| if c == '\t' { c } else { ' ' }).collect();
        let _ = writeln!(text, "{margin} |\n{number} | {line}\n{margin} | {before}^");
    }
    if let Some(suggestion) = &problem.suggestion {
        let _ = writeln!(text, "  = help: did you mean {suggestion}?");
    }
    text.push('\n');
    text
}

/// One line each.
pub fn as_lines(problems: &[Located]) -> String {
    problems.iter().fold(String::new(), |text, located| text + &located.to_string() + "\n")
}

/// One JSON document: the problems, and the columns of each result; null where they are not known.
pub fn as_json(problems: &[Located], results: &[(String, &[CheckedResult])]) -> Value {
    let entry = |located: &Located| {
        json!({
            "file": located.file,
            "line": located.line,
            "column": located.column,
            "rule": located.problem.rule.id(),
            "severity": severity(located.problem.rule),
            "path": located.problem.path.to_string(),
            "message": located.problem.message,
            "suggestion": located.problem.suggestion,
        })
    };
    let result = |workflow: &str, result: &CheckedResult| {
        let column = |column: &ResultColumn| json!({ "name": column.name, "type": column.data_type });
        let columns = |shape: &TableShape| shape.columns.iter().map(column).collect::<Vec<_>>();
        json!({
            "workflow": workflow,
            "task": result.task,
            "output": result.output,
            "columns": result.shape.as_ref().filter(|shape| !shape.open).map(columns),
        })
    };
    json!({
        "version": JSON_VERSION,
        "problems": problems.iter().map(entry).collect::<Vec<_>>(),
        "results": results
            .iter()
            .flat_map(|(workflow, results)| results.iter().map(|it| result(workflow, it)))
            .collect::<Vec<_>>(),
    })
}

/// SARIF 2.1.0 (OASIS), the format that code scanning reads.
pub fn as_sarif(problems: &[Located]) -> Value {
    let rule = |rule: &Rule| {
        json!({
            "id": rule.id(),
            "shortDescription": { "text": rule.title() },
            "fullDescription": { "text": rule.explanation() },
        })
    };
    let result = |located: &Located| {
        let problem = &located.problem;
        let text = match &problem.suggestion {
            Some(suggestion) => format!("{}: {}; did you mean {suggestion}?", problem.path, problem.message),
            None => format!("{}: {}", problem.path, problem.message),
        };
        json!({
            "ruleId": problem.rule.id(),
            "level": severity(problem.rule),
            "message": { "text": text },
            "locations": [{
                "physicalLocation": {
                    "artifactLocation": { "uri": located.file },
                    "region": { "startLine": located.line, "startColumn": located.column },
                },
            }],
        })
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "pintail",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": Rule::ALL.iter().map(rule).collect::<Vec<_>>(),
            } },
            "results": problems.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}
