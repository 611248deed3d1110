//! `pintail-runner`: executes one work order as a process of its own.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use pintail_protocol::{ExitCode, FORMAT, TerminationMessage};
use pintail_task_runner::failure::TaskFailure;
use pintail_task_runner::interrupt::Interrupt;
use pintail_task_runner::log::Log;
use pintail_task_runner::process::{end_with_parent, hear_signals, read_order, termination_text};
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
    Run {
        /// File with the work order as JSON, or `-` for standard input.
        #[arg(long)]
        order: PathBuf,
        /// Tells this process from others of the same attempt.
        #[arg(long)]
        pod_uid: String,
        /// File that takes the result or failure as JSON of at most 2 KiB.
        #[arg(long)]
        termination_message: Option<PathBuf>,
        /// Interrupt the work when this process, which started it, ends.
        #[arg(long)]
        parent_pid: Option<i32>,
    },
}

fn main() -> std::process::ExitCode {
    let Command::Run { order, pod_uid, termination_message, parent_pid } = Arguments::parse().command;
    let ending = run(&order, &pod_uid, parent_pid);
    if let Some(path) = termination_message
        && let Err(error) = std::fs::write(&path, termination_text(&ending.message))
    {
        Log::default().error(&format!("could not write {}: {error}", path.display()));
    }
    std::process::ExitCode::from(ending.code as u8)
}

fn run(order: &std::path::Path, pod_uid: &str, parent_pid: Option<i32>) -> Ending {
    let order = match read_order(order) {
        Ok(order) => order,
        Err(failure) => return refused(ExitCode::Usage, failure),
    };
    let interrupt = Arc::new(Interrupt::default());
    let heard = hear_signals(Arc::clone(&interrupt)).and_then(|()| parent_pid.map_or(Ok(()), end_with_parent));
    if let Err(failure) = heard {
        return refused(ExitCode::from(failure.class), failure);
    }
    let environment = Environment::of_process();
    let log = Log::new(&order, &environment);
    run_order(&order, pod_uid, &environment, &interrupt, &log)
}

fn refused(code: ExitCode, failure: TaskFailure) -> Ending {
    Log::default().error(&failure.to_string());
    let message = TerminationMessage { format: FORMAT, failure: Some(failure.into()), report: None, digest: None };
    Ending { code, message }
}
