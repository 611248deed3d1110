//! docs/reference/cli.md: the help of every command.

use std::fmt::Write;

use clap::Command;

/// Wide enough for the longest usage line, narrow enough for a page.
const COLUMNS: usize = 100;

const HEAD: &str = "\
# Command line

What each command's `--help` says. Data goes to standard output, everything else to standard error. Exit codes, `-o json`
and environment variables: [output and exit codes](output.md). Made from the code by `make generate`.
";

/// The page.
pub fn page() -> String {
    let mut command = pintail::command_line().term_width(COLUMNS);
    command.build();
    let mut page = HEAD.to_owned();
    append(&mut page, &mut command, "pintail");
    page
}

fn append(page: &mut String, command: &mut Command, name: &str) {
    let help = command.clone().term_width(COLUMNS).render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    for inner in command.get_subcommands_mut() {
        let name = format!("{name} {}", inner.get_name());
        append(page, inner, &name);
    }
}
