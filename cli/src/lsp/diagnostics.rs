//! Problems as an editor shows them.

use lsp_types::{Diagnostic, DiagnosticSeverity, NumberOrString, Range};
use pintail_plan::Located;
use pintail_plan::manifest::Position as Place;
use serde_json::json;

use super::text;

const SOURCE: &str = "pintail";

/// Of the problems of a file with this text.
pub fn diagnostics<'a>(problems: impl Iterator<Item = &'a Located>, text: &str) -> Vec<Diagnostic> {
    problems.map(|located| diagnostic(located, text)).collect()
}

fn diagnostic(located: &Located, text: &str) -> Diagnostic {
    let problem = &located.problem;
    let message = match &problem.suggestion {
        Some(suggestion) => format!("{}; did you mean {suggestion}?", problem.message),
        None => problem.message.clone(),
    };
    Diagnostic {
        range: text::range(text, Place { line: located.line, column: located.column }),
        severity: Some(if problem.rule.is_note() {
            DiagnosticSeverity::INFORMATION
        } else {
            DiagnosticSeverity::ERROR
        }),
        code: Some(NumberOrString::String(problem.rule.id().to_owned())),
        source: Some(SOURCE.to_owned()),
        data: Some(json!({ "path": problem.path.to_string(), "suggestion": problem.suggestion })),
        ..Diagnostic::new_simple(Range::default(), message)
    }
}

/// Nothing could be checked.
pub fn failure(message: &str) -> Diagnostic {
    Diagnostic {
        severity: Some(DiagnosticSeverity::ERROR),
        source: Some(SOURCE.to_owned()),
        ..Diagnostic::new_simple(Range::default(), message.to_owned())
    }
}
