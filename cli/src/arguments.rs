//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::Timestamp;

use crate::serve::LISTEN;

/// SQL data workflows on DuckDB: the same manifests on a laptop and on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "pintail", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 good; 1 a run or a test failed or manifests have problems; 2 wrong usage; 3 the cluster cannot be \
reached; 4 --wait-timeout is over; 130 interrupted.\n\n\
Commands work on this machine, in a store; with --cluster, --context, --namespace or --kubeconfig on a cluster."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check manifests: YAML, fields, names, references, types, expressions, cycles.
    Lint(Lint),
    /// Serve an editor by the Language Server Protocol, over stdin and stdout: problems, hover, completion, definitions.
    Lsp(Lsp),
    /// Show which columns each column of a result comes from, back to inputs and databases.
    Lineage(Lineage),
    /// Compare what workflows publish with what they published before, and refuse what breaks those that read it.
    Diff(Diff),
    /// What a database holds.
    #[command(subcommand)]
    Schema(Schema),
    /// Run the WorkflowTests of manifests: given tables in, expected rows out, nothing sent.
    Test(Test),
    /// Run the workflows of manifests on this machine, producers of datasets before those that read them; or a
    /// Workflow of a cluster, by its name; or once a LaunchPlan, by `plan/NAME`.
    Run(Run),
    /// Run what LaunchPlans ask for on this machine, until Ctrl-C: schedules, new versions of datasets, arrivals, events.
    Serve(Serve),
    /// Print the coming ticks of a LaunchPlan's schedules.
    Next(Next),
    /// Show the run that a trigger of a LaunchPlan would start, or start it.
    Trigger(Trigger),
    /// Follow a run on a cluster to its end.
    Watch(Watch),
    /// Go on with a run that was interrupted: same uid, nothing that is committed is done again.
    Resume(Resume),
    /// Run again, in a new Execution that takes over the results whose definition and inputs are equal.
    Retry(Retry),
    /// Stop a run on a cluster: its running tasks are ended, no other starts.
    Cancel(Cancel),
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
    /// Check whether a cluster is ready for Pintail: versions, resources, rights, operator, image, store.
    Doctor(Doctor),
    /// Print the version of Pintail and of its engine.
    Version,
    /// Print a shell's completion script.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Where runs, logs, reports and published data of this machine are kept.
#[derive(Debug, Args)]
pub struct StoreArguments {
    /// Work on this machine, in this folder or `s3://bucket/prefix` (credentials, endpoint and region from the AWS_…
    /// variables). If left out, $PINTAIL_STORE, else `.pintail`.
    #[arg(long, value_name = "PLACE")]
    pub store: Option<String>,
}

/// Which cluster, and where in it. Any of them means the cluster.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "On a cluster")]
pub struct ClusterArguments {
    /// Work on the cluster of the current context.
    #[arg(long)]
    pub cluster: bool,
    /// Work on the cluster of this context.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Work in this namespace of the cluster; if left out, in that of the context.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Work on the cluster of this file; if left out, $KUBECONFIG, else `~/.kube/config`.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// The store, or the cluster.
#[derive(Debug, Args)]
pub struct PlaceArguments {
    #[command(flatten)]
    pub store: StoreArguments,
    #[command(flatten)]
    pub cluster: ClusterArguments,
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
pub struct Lsp {
    /// Manifests, or folders whose *.yaml files are read, counted from the editor's workspace: what is checked, whatever is
    /// open. If left out, each document is checked with its folder and that one's folder `local`.
    #[arg(value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Lineage {
    /// Manifests, or folders whose *.yaml files are read.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: LineageOutput,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LineageOutput {
    /// For people.
    #[default]
    Text,
    /// One JSON document, stable.
    Json,
    /// A job event of OpenLineage for each workflow, one a line, with the facet columnLineage.
    #[value(name = "openlineage")]
    OpenLineage,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// A manifest or a folder, as it was.
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The same as it is now.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// How the changes are printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: DiffOutput,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum DiffOutput {
    /// For people.
    #[default]
    Text,
    /// One JSON document, stable.
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Schema {
    /// Ask a database for its tables, for the `tables` of its Connection, which SQL is checked against.
    Pull(SchemaPull),
}

#[derive(Debug, Args)]
pub struct SchemaPull {
    /// Name of the Connection, of kind `duckdb` or `postgres`.
    #[arg(value_name = "CONNECTION")]
    pub connection: String,
    /// Manifests, or folders whose *.yaml files are read.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Put the tables into the Connection's manifest instead of printing them; the rest of the file stays as it is.
    #[arg(long)]
    pub write: bool,
}

#[derive(Debug, Args)]
pub struct Test {
    /// Manifests of the workflows, their connections and the tests, or folders whose *.yaml files are read.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Run only the tests whose name contains this; several times for several.
    #[arg(long = "name", value_name = "TEXT")]
    pub names: Vec<String>,
    /// Write the results to this file as well, in the XML of JUnit that build servers read.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// How the results are printed on standard output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TestOutput,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum TestOutput {
    /// A line a test, and what is different.
    #[default]
    Pretty,
    /// One JSON document, stable.
    Json,
    /// The XML of JUnit.
    Junit,
}

#[derive(Debug, Args)]
pub struct Run {
    /// Manifests, or folders whose *.yaml files are read; on a cluster the name of one Workflow. Before them, or instead
    /// of the Workflow, `plan/NAME` for one run with the inputs of that LaunchPlan.
    #[arg(required = true, value_name = "FILE|DIR|WORKFLOW|plan/NAME")]
    pub what: Vec<PathBuf>,
    /// Run only that workflow of the manifests.
    #[arg(long, value_name = "NAME", conflicts_with = "ClusterArguments")]
    pub workflow: Option<String>,
    /// Bind an input: a value of its type; for a table a file, or JSON in the shape of a table source.
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    pub inputs: Vec<String>,
    #[command(flatten)]
    pub place: PlaceArguments,
    /// Name of the Execution; if left out, the workflow's and five random characters.
    #[arg(long, value_name = "NAME", requires = "ClusterArguments", help_heading = "On a cluster")]
    pub name: Option<String>,
    #[command(flatten)]
    pub follow: FollowArguments,
    /// Create nothing: let the cluster check the Execution, and print it.
    #[arg(long, requires = "ClusterArguments", help_heading = "On a cluster")]
    pub dry_run: bool,
    /// How the finished Execution is printed on standard output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// How long a run on a cluster is followed.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "On a cluster")]
pub struct FollowArguments {
    /// Create the run and do not follow it.
    #[arg(long, requires = "ClusterArguments", conflicts_with = "wait_timeout")]
    pub detach: bool,
    /// Follow the run for at most this long, for example `30m`; then it goes on by itself, and the exit code is 4.
    #[arg(long, value_name = "DURATION", requires = "ClusterArguments", value_parser = duration)]
    pub wait_timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    pintail_plan::parse_duration(text)
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Manifests, or folders whose *.yaml files are read.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub store: StoreArguments,
    /// Address that takes events, at `/events/<plan>/<trigger>`; with port 0, any that is free.
    #[arg(long, value_name = "ADDRESS", default_value_t = LISTEN)]
    pub listen: SocketAddr,
    /// What is printed on standard output; what happens is told on standard error.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ServeOutput,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ServeOutput {
    /// Nothing.
    #[default]
    Pretty,
    /// A line of JSON for everything that happens.
    Json,
}

#[derive(Debug, Args)]
pub struct Next {
    /// Name of the LaunchPlan.
    #[arg(value_name = "PLAN")]
    pub plan: String,
    /// Manifests, or folders whose *.yaml files are read.
    #[arg(value_name = "FILE|DIR", required_unless_present = "ClusterArguments", conflicts_with = "ClusterArguments")]
    pub files: Vec<PathBuf>,
    /// How many ticks are printed.
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// Print those after this time, RFC 3339; if left out, after now.
    #[arg(long, value_name = "TIME")]
    pub after: Option<Timestamp>,
    #[command(flatten)]
    pub cluster: ClusterArguments,
    /// How they are printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: DoctorOutput,
}

#[derive(Debug, Args)]
pub struct Trigger {
    /// The LaunchPlan and its trigger.
    #[arg(value_name = "PLAN/TRIGGER")]
    pub trigger: String,
    /// Manifests, or folders whose *.yaml files are read.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Of a schedule: its tick at this time, RFC 3339, or the last one before; if left out, before now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
    /// Of datasets: the version to be told of, once for each dataset; if left out, the newest.
    #[arg(long = "version", value_name = "ARTIFACT")]
    pub versions: Vec<String>,
    /// Of objects: the path below the connection's root.
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// Of events: the data, as JSON.
    #[arg(long, value_name = "JSON")]
    pub data: Option<String>,
    /// Start the run, and follow it to its end. An occurrence that had a run starts no other.
    #[arg(long)]
    pub run: bool,
    #[command(flatten)]
    pub store: StoreArguments,
    /// How the run is printed on standard output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Watch {
    /// Name of the run; `@latest` for the newest.
    #[arg(value_name = "RUN")]
    pub name: String,
    #[command(flatten)]
    pub cluster: ClusterArguments,
    /// Follow the run for at most this long, for example `30m`; the exit code then is 4.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub wait_timeout: Option<Duration>,
    /// How the finished Execution is printed on standard output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Cancel {
    /// Name of the run; `@latest` for the newest.
    #[arg(value_name = "RUN")]
    pub name: String,
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub cluster: ClusterArguments,
    /// How what was found is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: DoctorOutput,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DoctorOutput {
    /// One line each.
    #[default]
    Pretty,
    /// One JSON document, stable.
    Json,
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
    /// Manifests to run instead of those of that run, on this machine.
    #[arg(value_name = "FILE|DIR", conflicts_with = "ClusterArguments")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub place: PlaceArguments,
    #[command(flatten)]
    pub follow: FollowArguments,
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
    pub place: PlaceArguments,
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
    pub place: PlaceArguments,
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
    pub place: PlaceArguments,
    /// Go on with what tasks write until the run has ended.
    #[arg(short, long, requires = "ClusterArguments", help_heading = "On a cluster")]
    pub follow: bool,
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
    pub place: PlaceArguments,
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
