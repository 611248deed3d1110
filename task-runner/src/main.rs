//! `pintail-runner`: executes one work order as a process of its own.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use pintail_protocol::{AGENT_PORT, AGENT_TOKEN_PATH, CHECKER_PORT, ExitCode, FailureClass, WorkOrder};
use pintail_task_runner::agent::{HttpSink, run_agent};
use pintail_task_runner::checker::{serve_checks, work};
use pintail_task_runner::failure::TaskFailure;
use pintail_task_runner::interrupt::Interrupt;
use pintail_task_runner::log::Log;
use pintail_task_runner::process::{
    LastWord, agent_order_from_environment, cancelled_by_signals, end_with_parent, hear_signals,
    order_from_environment, read_order, request_from_environment, unreported,
};
use pintail_task_runner::read::answer;
use pintail_task_runner::run::{Ending, run_order};
use pintail_task_runner::workspace::Environment;
use tokio::net::TcpListener;

/// Executes one work order of Pintail: one committed result, or one failure.
#[derive(Parser)]
#[command(name = "pintail-runner", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Executes an order and commits its result.
    ///
    /// Exit codes: 0 committed, 2 the order cannot be read, 3 another attempt's result is committed, 4 a permanent
    /// failure, 5 a transient one, 6 one of the infrastructure, 7 a lock is held by another run, 130 interrupted.
    Run(Run),
    /// Shows rows of results or logs of the store on standard output.
    ///
    /// Exit codes: as of `run`; a failure is one line on standard error.
    Read {
        /// Take the request from the variable PINTAIL_READ_REQUEST.
        #[arg(long, required = true)]
        request_from_environment: bool,
    },
    /// Watches folders and buckets and takes events, as the order in the variable PINTAIL_AGENT says, until SIGTERM.
    ///
    /// A longer order is the object of the store PINTAIL_STORE that PINTAIL_AGENT_OBJECT names.
    ///
    /// Exit codes: 0 told to end, 2 the order cannot be read, 6 the address cannot be used.
    Agent(Agent),
    /// Checks SQL that is sent to it, without running it, until SIGTERM.
    ///
    /// Exit codes: 0 told to end, 6 the address cannot be used, or DuckDB does not start.
    Checker(Checker),
    /// One process of the checker.
    #[command(hide = true)]
    CheckWorker {
        /// Ends with this process.
        #[arg(long)]
        parent_pid: i32,
    },
}

#[derive(Args)]
struct Checker {
    /// Address that takes requests, `/v1/check`, and answers `/healthz`.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], CHECKER_PORT)))]
    listen: SocketAddr,
}

#[derive(Args)]
struct Agent {
    /// Address that takes events, `/events/<plan>/<trigger>`, and answers `/healthz`.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], AGENT_PORT)))]
    listen: SocketAddr,
    /// File with the token for the operator; read for each request.
    #[arg(long, value_name = "FILE", default_value = AGENT_TOKEN_PATH)]
    token: PathBuf,
}

#[derive(Args)]
struct Run {
    /// File with the work order as JSON, or `-` for standard input.
    #[arg(long, required_unless_present = "order_from_environment")]
    order: Option<PathBuf>,
    /// Take the order from the variable PINTAIL_WORK_ORDER, or from the object of the store PINTAIL_STORE that
    /// PINTAIL_WORK_ORDER_OBJECT names.
    #[arg(long, conflicts_with = "order")]
    order_from_environment: bool,
    /// Tells this process from others of the same attempt.
    #[arg(long)]
    pod_uid: String,
    /// File that takes the result or failure as JSON of at most 2 KiB.
    #[arg(long)]
    termination_message: Option<PathBuf>,
    /// Interrupt the work when this process, which started it, ends.
    #[arg(long)]
    parent_pid: Option<i32>,
}

fn main() -> std::process::ExitCode {
    let environment = Environment::of_process();
    let code = match Arguments::parse().command {
        Command::Run(arguments) => {
            let last_word = Arc::new(LastWord::new(arguments.termination_message.clone()));
            let ending = run(&arguments, &environment, &last_word);
            last_word.say(&ending.message);
            ending.code
        }
        Command::Read { .. } => show(&environment).unwrap_or_else(|failure| complain(&failure)),
        Command::Agent(arguments) => ended(watch(&arguments, &environment)),
        Command::Checker(arguments) => ended(serve(arguments.listen)),
        Command::CheckWorker { parent_pid } => ended(end_with_parent(parent_pid).and_then(|()| work())),
    };
    std::process::ExitCode::from(code as u8)
}

fn ended(ending: Result<(), TaskFailure>) -> ExitCode {
    ending.map_or_else(|failure| complain(&failure), |()| ExitCode::Committed)
}

fn run(arguments: &Run, environment: &Environment, last_word: &Arc<LastWord>) -> Ending {
    // First of all: nothing else ends the first process of a container.
    let interrupt = Arc::new(Interrupt::default());
    let heard = hear_signals(Arc::clone(&interrupt), Arc::clone(last_word));
    let order = heard
        .and_then(|()| arguments.parent_pid.map_or(Ok(()), end_with_parent))
        .and_then(|()| read(arguments, environment));
    match order {
        Ok(order) => {
            let log = Log::new(&order, environment);
            run_order(&order, &arguments.pod_uid, environment, &interrupt, &log)
        }
        Err(failure) => {
            Log::default().error(&failure.to_string());
            Ending { code: code_of(&failure), message: unreported(failure) }
        }
    }
}

fn read(arguments: &Run, environment: &Environment) -> Result<WorkOrder, TaskFailure> {
    match &arguments.order {
        Some(path) => read_order(path),
        None => order_from_environment(environment),
    }
}

/// Until SIGTERM or SIGINT.
fn serve(listen: SocketAddr) -> Result<(), TaskFailure> {
    let cannot = |error: std::io::Error, what: &str| TaskFailure::from_io(&error, what);
    let runtime = tokio::runtime::Runtime::new().map_err(|error| cannot(error, "start the checker"))?;
    runtime.block_on(async {
        let stop = cancelled_by_signals()?;
        let listening = format!("listen on {listen}");
        let listener = TcpListener::bind(listen).await.map_err(|error| cannot(error, &listening))?;
        let address = listener.local_addr().map_err(|error| cannot(error, &listening))?;
        Log::default().info(&format!("checks are taken at {address}"));
        serve_checks(listener, stop).await
    })
}

/// Until SIGTERM or SIGINT.
fn watch(arguments: &Agent, environment: &Environment) -> Result<(), TaskFailure> {
    let order = agent_order_from_environment(environment)?;
    let sink = Arc::new(HttpSink::new(&order.operator_url, arguments.token.clone())?);
    let cannot = |error: std::io::Error, what: &str| TaskFailure::from_io(&error, what);
    let runtime = tokio::runtime::Runtime::new().map_err(|error| cannot(error, "start the agent"))?;
    let ending = runtime.block_on(async {
        let stop = cancelled_by_signals()?;
        let listening = format!("listen on {}", arguments.listen);
        let listener = TcpListener::bind(arguments.listen).await.map_err(|error| cannot(error, &listening))?;
        run_agent(order, environment, sink, Some(listener), stop).await
    });
    // A listing of a folder cannot be broken off.
    runtime.shutdown_background();
    ending
}

fn complain(failure: &TaskFailure) -> ExitCode {
    eprintln!("{}", failure.to_string().replace('\n', " "));
    code_of(failure)
}

fn show(environment: &Environment) -> Result<ExitCode, TaskFailure> {
    let answer = answer(&request_from_environment(environment)?)?;
    std::io::stdout().write_all(&answer).map_err(|error| TaskFailure::from_io(&error, "write the answer"))?;
    Ok(ExitCode::Committed)
}

/// What is permanently wrong before the work begins is wrong in what was asked for.
fn code_of(failure: &TaskFailure) -> ExitCode {
    if failure.class == FailureClass::Permanent { ExitCode::Usage } else { failure.class.into() }
}
