//! `pintail`: check manifests, run them on this machine or on a cluster, look at what came of it.
//!
//! Data goes to standard output, everything else to standard error.

mod arguments;
mod check;
mod cluster;
mod commands;
mod diagnostics;
mod failure;
mod interrupt;
mod local;
mod lsp;
mod manifests;
mod openlineage;
mod output;
mod place;
mod progress;
mod render;
mod serve;
mod testing;

use std::process::ExitCode;

use clap::CommandFactory;

pub use arguments::Arguments;
use arguments::{Command, Schema};
use failure::CommandFailure;

/// The whole command line, for reference pages and completions.
#[must_use]
pub fn command_line() -> clap::Command {
    Arguments::command()
}

/// Does what the arguments ask, and gives the exit code.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandFailure { code, message }) => {
            if !message.is_empty() {
                eprintln!("error: {message}");
            }
            code.into()
        }
    }
}

fn dispatch(command: Command) -> Result<(), CommandFailure> {
    match command {
        Command::Lint(arguments) => commands::lint::lint(&arguments),
        Command::Lsp(arguments) => lsp::lsp(&arguments),
        Command::Lineage(arguments) => commands::lineage::lineage(&arguments),
        Command::Diff(arguments) => commands::diff::diff(&arguments),
        Command::Schema(Schema::Pull(arguments)) => commands::schema::pull(&arguments),
        Command::Test(arguments) => commands::test::test(&arguments),
        Command::Version => {
            println!("pintail {} (DuckDB {})", env!("CARGO_PKG_VERSION"), pintail_task_runner::engine_version());
            Ok(())
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut command_line(), "pintail", &mut std::io::stdout());
            Ok(())
        }
        command => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .map_err(|error| CommandFailure::failed(format!("cannot start: {error}")))?;
            runtime.block_on(asynchronous(command))
        }
    }
}

async fn asynchronous(command: Command) -> Result<(), CommandFailure> {
    match command {
        Command::Run(arguments) => commands::run::run(arguments).await,
        Command::Serve(arguments) => serve::serve(arguments).await,
        Command::Next(arguments) => commands::next::next(arguments).await,
        Command::Trigger(arguments) => commands::trigger::trigger(arguments).await,
        Command::Watch(arguments) => commands::cluster::watch(arguments).await,
        Command::Cancel(arguments) => commands::cluster::cancel(arguments).await,
        Command::Doctor(arguments) => cluster::doctor::doctor(arguments).await,
        Command::Resume(arguments) => commands::run::resume(arguments).await,
        Command::Retry(arguments) => commands::run::retry(arguments).await,
        Command::List(arguments) => commands::list::list(arguments).await,
        Command::Get(arguments) => commands::list::get(arguments).await,
        Command::Logs(arguments) => commands::logs::logs(arguments).await,
        Command::Preview(arguments) => commands::preview::preview(arguments).await,
        Command::Sql(arguments) => commands::sql::sql(arguments).await,
        Command::Lint(_)
        | Command::Lsp(_)
        | Command::Lineage(_)
        | Command::Diff(_)
        | Command::Schema(_)
        | Command::Test(_)
        | Command::Version
        | Command::Completions { .. } => Ok(()),
    }
}
