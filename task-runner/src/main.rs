//! `pintail-runner`: executes one work order as a process of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use pintail_protocol::{ExitCode, FailureClass, WorkOrder};
use pintail_task_runner::failure::TaskFailure;
use pintail_task_runner::interrupt::Interrupt;
use pintail_task_runner::log::Log;
use pintail_task_runner::process::{
    LastWord, end_with_parent, hear_signals, order_from_environment, read_order, request_from_environment, unreported,
};
use pintail_task_runner::read::answer;
use pintail_task_runner::run::{Ending, run_order};
use pintail_task_runner::workspace::Environment;

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
        Command::Read { .. } => show(&environment).unwrap_or_else(|failure| {
            eprintln!("{}", failure.to_string().replace('\n', " "));
            code_of(&failure)
        }),
    };
    std::process::ExitCode::from(code as u8)
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

fn show(environment: &Environment) -> Result<ExitCode, TaskFailure> {
    let answer = answer(&request_from_environment(environment)?)?;
    std::io::stdout().write_all(&answer).map_err(|error| TaskFailure::from_io(&error, "write the answer"))?;
    Ok(ExitCode::Committed)
}

/// What is permanently wrong before the work begins is wrong in what was asked for.
fn code_of(failure: &TaskFailure) -> ExitCode {
    if failure.class == FailureClass::Permanent { ExitCode::Usage } else { failure.class.into() }
}
