//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// SQL data workflows on DuckDB: the same manifests on a laptop and on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "pintail", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 good; 1 a run failed or manifests have problems; 2 wrong usage; 130 interrupted."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check manifests: YAML, fields, names, references, types, expressions, cycles.
    Lint(Lint),
    /// Run the workflows of manifests on this machine, producers of datasets before those that read them.
    Run(Run),
    /// Go on with a run that was interrupted: same uid, nothing that is committed is done again.
    Resume(Resume),
    /// Run again, in a new Execution that takes over the results whose definition and inputs are equal.
    Retry(Retry),
    /// List runs, newest first, or published versions of datasets.
    List(List),
    /// Show a run or a published version as it is stored.
    Get(Get),
    /// Print the log of a run's tasks.
    Logs(Logs),
    /// Show schema and first rows of an output, a task's result or a published version, or ask it a question in SQL.
    Preview(Preview),
    /// Open an SQL prompt with a task's tables, parameters and connections, as the task sees them.
    Sql(Sql),
    /// Print the version of Pintail and of its engine.
    Version,
    /// Print a shell's completion script.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Where runs, logs, reports and published data are kept.
#[derive(Debug, Args)]
pub struct StoreArguments {
    /// A folder, or `s3://bucket/prefix` (credentials, endpoint and region from the AWS_… variables).
    #[arg(long, value_name = "PLACE", env = "PINTAIL_STORE", default_value = ".pintail")]
    pub store: String,
}

#[derive(Debug, Args)]
pub struct Lint {
    /// Manifests, or folders whose *.yaml files are read.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// How problems are printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: LintOutput,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LintOutput {
    /// With the lines that they are about.
    #[default]
    Pretty,
    /// One line each.
    Concise,
    /// One JSON document, stable.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

#[derive(Debug, Args)]
pub struct Run {
    /// Manifests, or folders whose *.yaml files are read.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Run only that workflow of the manifests.
    #[arg(long, value_name = "NAME")]
    pub workflow: Option<String>,
    /// Bind an input: a value of its type; for a table a file, or JSON in the shape of a table source.
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    pub inputs: Vec<String>,
    #[command(flatten)]
    pub store: StoreArguments,
    /// How the finished Execution is printed on standard output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Pretty,
    /// The object as it is on a cluster, as JSON.
    Json,
    /// Names only.
    Name,
}

#[derive(Debug, Args)]
pub struct Resume {
    /// Name of the run; `@latest` for the newest.
    #[arg(value_name = "RUN")]
    pub name: String,
    #[command(flatten)]
    pub store: StoreArguments,
    /// How the finished Execution is printed on standard output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Retry {
    /// Name of the run; `@latest` for the newest.
    #[arg(value_name = "RUN")]
    pub name: String,
    /// Manifests to run instead of those of that run.
    #[arg(value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub store: StoreArguments,
    /// How the finished Execution is printed on standard output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct List {
    /// What is listed.
    #[arg(value_enum, default_value_t)]
    pub kind: ListKind,
    #[command(flatten)]
    pub store: StoreArguments,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ListKind {
    /// Executions.
    #[default]
    Runs,
    /// Published versions of datasets.
    Artifacts,
}

#[derive(Debug, Args)]
pub struct Get {
    /// Name of a run or of a published version; `@latest` for the newest run.
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub store: StoreArguments,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// Name of the run; `@latest` for the newest.
    #[arg(value_name = "RUN")]
    pub name: String,
    /// Only that task's.
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    #[command(flatten)]
    pub store: StoreArguments,
}

#[derive(Debug, Args)]
pub struct Preview {
    /// Name of a published version, of a dataset (its newest version), or of a run; `@latest` for the newest run.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Of a run: the output or task to show.
    #[arg(value_name = "OUTPUT|TASK")]
    pub part: Option<String>,
    /// A question in SQL instead of the first rows; the table is called `result`.
    #[arg(long, value_name = "QUERY")]
    pub sql: Option<String>,
    /// How many rows are shown.
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    pub limit: u32,
    #[command(flatten)]
    pub store: StoreArguments,
    /// How the rows are printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Sql {
    /// The task.
    #[arg(value_name = "TASK")]
    pub task: String,
    /// The run whose data is used.
    #[arg(long, value_name = "RUN", default_value = "@latest")]
    pub run: String,
    /// Run this statement instead of opening a prompt.
    #[arg(short = 'c', long, value_name = "QUERY")]
    pub command: Option<String>,
    #[command(flatten)]
    pub store: StoreArguments,
}
