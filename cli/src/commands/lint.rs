//! `pintail lint`.

use std::collections::BTreeMap;

use kube::ResourceExt;

use crate::arguments::{Lint, LintOutput};
use crate::check::check;
use crate::diagnostics;
use crate::failure::{Code, CommandFailure};
use crate::manifests::{Manifests, SqlText};
use crate::output::{print_json, print_text};

pub fn lint(arguments: &Lint) -> Result<(), CommandFailure> {
    let manifests = Manifests::read(&arguments.files)?;
    let (problems, checked) = check(&manifests)?;
    let results = checked.workflows.iter().map(|checked| (checked.workflow.name_any(), checked.results.as_slice()));
    let results: Vec<_> = results.collect();
    match arguments.output {
        LintOutput::Pretty => print_text(&diagnostics::as_text(&problems, &texts(&manifests))),
        LintOutput::Concise => print_text(&diagnostics::as_lines(&problems)),
        LintOutput::Json => print_json(&diagnostics::as_json(&problems, &results))?,
        LintOutput::Sarif => print_json(&diagnostics::as_sarif(&problems))?,
    }
    let files = manifests.sources().len();
    let notes = problems.iter().filter(|located| located.problem.rule.is_note()).count();
    let count = problems.len() - notes;
    if count == 0 {
        let notes = match notes {
            0 => String::new(),
            1 => ", 1 note".to_owned(),
            several => format!(", {several} notes"),
        };
        eprintln!("{files} {}: no problems{notes}", if files == 1 { "file" } else { "files" });
        return Ok(());
    }
    eprintln!(
        "{count} {} in {files} {}",
        if count == 1 { "problem" } else { "problems" },
        if files == 1 { "file" } else { "files" }
    );
    Err(CommandFailure::shown(Code::Failed))
}

/// The text of every file that a problem may be in.
fn texts(manifests: &Manifests) -> BTreeMap<String, String> {
    let mut texts = manifests.sources().clone();
    for text in manifests.sql_texts().values() {
        if let SqlText::File { name, text } = text {
            texts.insert(name.clone(), text.clone());
        }
    }
    texts
}
