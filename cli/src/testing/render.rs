//! Results of tests for people, for programs, and for build servers (JUnit).

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::rows::{Row, Shown};
use super::{Detail, Difference, Failure, Tested};

/// Version of the JSON that [`as_json`] gives; it grows only where a field changes its meaning or goes.
const JSON_VERSION: u32 = 1;
/// Details of one expectation that are shown to people; the JSON has all of them.
const DETAILS_SHOWN: usize = 20;

/// A line a test, and below those that failed what is different: `~` differs, `-` is missing, `+` is unexpected.
pub fn as_text(tested: &[Tested]) -> String {
    let width = tested.iter().map(|test| test.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for test in tested {
        let word = if test.failures.is_empty() { "ok  " } else { "FAIL" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{word}  {:width$}  {}", test.name, milliseconds(test.took));
        for failure in &test.failures {
            text.push_str(&failure_text(test, failure));
        }
    }
    text
}

/// `7 tests: 6 passed, 1 failed (85 ms)`.
pub fn summary(tested: &[Tested]) -> String {
    let failed = tested.iter().filter(|test| !test.failures.is_empty()).count();
    let tests = if tested.len() == 1 { "test" } else { "tests" };
    let counts = match (tested.len() - failed, failed) {
        (_, 0) => "passed".to_owned(),
        (passed, failed) => format!("{passed} passed, {failed} failed"),
    };
    let colon = if failed == 0 { "" } else { ":" };
    let took: Duration = tested.iter().map(|test| test.took).sum();
    format!("{} {tests}{colon} {counts} ({})", tested.len(), milliseconds(took))
}

fn milliseconds(took: Duration) -> String {
    format!("{} ms", took.as_millis())
}

fn failure_text(test: &Tested, failure: &Failure) -> String {
    let mut text = String::new();
    let (line, column) = failure.place.unwrap_or((test.line, 1));
    let _ = writeln!(text, "      {}", failure.message.replace('\n', "\n      "));
    let _ = writeln!(text, "        --> {}:{line}:{column} ({})", test.file, failure.path);
    for detail in failure.details.iter().take(DETAILS_SHOWN) {
        text.push_str(&detail_text(detail));
    }
    let more = failure.details.len().saturating_sub(DETAILS_SHOWN);
    if more > 0 {
        let _ = writeln!(text, "        … and {more} more");
    }
    text
}

fn detail_text(detail: &Detail) -> String {
    match detail {
        Detail::Missing { row, position } => format!("      - {}   expected row {}\n", flow(row), position + 1),
        Detail::Unexpected { row } => format!("      + {}\n", flow(row)),
        Detail::Differs { equal, values, position } => {
            let mut text = format!("      ~ {}   expected row {}\n", flow(equal), position + 1);
            let width = values.iter().map(|value| value.name.chars().count()).max().unwrap_or(0);
            for value in values {
                let (expected, found) = (scalar(&value.expected), scalar(&value.found));
                let _ = writeln!(text, "          {:width$}  expected {expected}, found {found}", value.name);
            }
            text
        }
        Detail::Value(Difference { name, expected, found }) => {
            format!("      ~ {name}\n          expected {}\n          found    {}\n", scalar(expected), scalar(found))
        }
    }
}

/// As it could stand in the manifest.
fn flow(row: &Row) -> String {
    if row.is_empty() {
        return "{ }".to_owned();
    }
    let fields: Vec<String> = row.iter().map(|(name, value)| format!("{name}: {}", scalar(value))).collect();
    format!("{{ {} }}", fields.join(", "))
}

fn scalar(value: &Shown) -> String {
    match &value.text {
        None => "null".to_owned(),
        Some(text) if value.is_bare => text.clone(),
        Some(text) => Value::from(text.as_str()).to_string(),
    }
}

/// One JSON document. Values are text as DuckDB writes them, null is NULL.
pub fn as_json(tested: &[Tested]) -> Value {
    let row = |row: &Row| row.iter().map(|(name, value)| (name.clone(), json!(value.text))).collect::<Value>();
    let difference =
        |value: &Difference| json!({ "name": value.name, "expected": value.expected.text, "found": value.found.text });
    let detail = |detail: &Detail| match detail {
        Detail::Missing { position, row: missing } => {
            json!({ "kind": "Missing", "expectedRow": position + 1, "row": row(missing) })
        }
        Detail::Unexpected { row: unexpected } => json!({ "kind": "Unexpected", "row": row(unexpected) }),
        Detail::Differs { position, equal, values } => json!({
            "kind": "Differs",
            "expectedRow": position + 1,
            "row": row(equal),
            "values": values.iter().map(difference).collect::<Vec<_>>(),
        }),
        Detail::Value(value) => json!({ "kind": "Value", "values": [difference(value)] }),
    };
    let failure = |failure: &Failure| {
        json!({
            "path": failure.path.to_string(),
            "line": failure.place.map(|(line, _)| line),
            "column": failure.place.map(|(_, column)| column),
            "message": failure.message,
            "details": failure.details.iter().map(detail).collect::<Vec<_>>(),
        })
    };
    let test = |test: &Tested| {
        json!({
            "name": test.name,
            "workflow": test.workflow,
            "file": test.file,
            "line": test.line,
            "passed": test.failures.is_empty(),
            "durationMs": u64::try_from(test.took.as_millis()).unwrap_or(u64::MAX),
            "failures": test.failures.iter().map(failure).collect::<Vec<_>>(),
        })
    };
    json!({ "version": JSON_VERSION, "tests": tested.iter().map(test).collect::<Vec<_>>() })
}

/// The XML that build servers read: a suite a workflow.
pub fn as_junit(tested: &[Tested]) -> String {
    let seconds = |took: Duration| format!("{:.3}", took.as_secs_f64());
    let counts = |tests: &[&Tested]| {
        let failed = tests.iter().filter(|test| !test.failures.is_empty()).count();
        let took: Duration = tests.iter().map(|test| test.took).sum();
        format!("tests=\"{}\" failures=\"{failed}\" errors=\"0\" time=\"{}\"", tests.len(), seconds(took))
    };
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let all: Vec<&Tested> = tested.iter().collect();
    let _ = writeln!(text, "<testsuites name=\"pintail\" {}>", counts(&all));
    let mut workflows: Vec<&str> = Vec::new();
    for test in tested.iter().filter(|test| !tested.is_empty() && !test.workflow.is_empty()) {
        if !workflows.contains(&test.workflow.as_str()) {
            workflows.push(&test.workflow);
        }
    }
    for workflow in workflows {
        let tests: Vec<&Tested> = tested.iter().filter(|test| test.workflow == workflow).collect();
        let _ = writeln!(text, "  <testsuite name=\"{}\" {}>", escaped(workflow), counts(&tests));
        for test in tests {
            text.push_str(&junit_case(test, &seconds(test.took)));
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn junit_case(test: &Tested, seconds: &str) -> String {
    let mut text = format!(
        "    <testcase name=\"{}\" classname=\"{}\" file=\"{}\" line=\"{}\" time=\"{seconds}\"",
        escaped(&test.name),
        escaped(&test.workflow),
        escaped(&test.file),
        test.line
    );
    if test.failures.is_empty() {
        text.push_str("/>\n");
        return text;
    }
    text.push_str(">\n");
    for failure in &test.failures {
        let (message, body) = (escaped(&failure.message), escaped(&failure_text(test, failure)));
        let _ = writeln!(text, "      <failure type=\"Difference\" message=\"{message}\">{body}</failure>");
    }
    text.push_str("    </testcase>\n");
    text
}

/// For XML's text and attributes; characters that XML does not have become U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            char if char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
    }
    escaped
}
