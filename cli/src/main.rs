//! `pintail`, the command line.

use std::process::ExitCode;

use clap::Parser;
use pintail::Arguments;

fn main() -> ExitCode {
    pintail::run(Arguments::parse())
}
