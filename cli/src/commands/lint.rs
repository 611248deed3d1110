//! `pintail lint`.

use crate::arguments::{Lint, LintOutput};
use crate::diagnostics;
use crate::failure::{Code, CommandFailure};
use crate::manifests::Manifests;
use crate::output::{print_json, print_text};

pub fn lint(arguments: &Lint) -> Result<(), CommandFailure> {
    let manifests = Manifests::read(&arguments.files)?;
    let problems = manifests.problems();
    match arguments.output {
        LintOutput::Pretty => print_text(&diagnostics::as_text(&problems, manifests.sources())),
        LintOutput::Concise => print_text(&diagnostics::as_lines(&problems)),
        LintOutput::Json => print_json(&diagnostics::as_json(&problems))?,
        LintOutput::Sarif => print_json(&diagnostics::as_sarif(&problems))?,
    }
    let files = manifests.sources().len();
    if problems.is_empty() {
        eprintln!("{files} {}: no problems", if files == 1 { "file" } else { "files" });
        return Ok(());
    }
    let count = problems.len();
    eprintln!(
        "{count} {} in {files} {}",
        if count == 1 { "problem" } else { "problems" },
        if files == 1 { "file" } else { "files" }
    );
    Err(CommandFailure::shown(Code::Failed))
}
