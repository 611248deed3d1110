//! docs/reference/lint-rules.md: every rule with its reason.

use std::fmt::Write;

use pintail_plan::Rule;

const HEAD: &str = "\
# Lint rules

What `pintail lint` demands, and `pintail run` before it starts. The ids are stable. Made from the code by `make generate`.

| Rule | What is demanded |
|---|---|
";

/// The page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for rule in Rule::ALL {
        let _ = writeln!(page, "| [{0}](#{0}) | {1} |", rule.id(), rule.title().replace('|', "\\|"));
    }
    for rule in Rule::ALL {
        let _ = write!(page, "\n## {}\n\n{}\n\n{}\n", rule.id(), rule.title(), rule.explanation());
    }
    page
}
