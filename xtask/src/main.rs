//! What the project writes and checks about itself: `cargo xtask generate [--check]`, `layers`, `image`.

mod chart;
mod command_line;
mod generate;
mod image;
mod kinds;
mod layers;
mod reference;
mod rules;

use std::process::ExitCode;

use clap::Parser;

/// Generators and checks of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Write crds/, schemas/, docs/reference/ and parts of charts/ from the types, the command line and the lint rules.
    Generate {
        /// Write nothing; fail where a file is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Compare what each crate depends on with what it may.
    Layers,
    /// Write the container images of operator and runner, from the programs that `make build` made.
    Image(image::Options),
}

/// What went wrong, one line each.
pub type Problems = Vec<String>;

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Generate { check } => generate::run(check),
        Task::Layers => layers::run(),
        Task::Image(options) => image::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            ExitCode::FAILURE
        }
    }
}
