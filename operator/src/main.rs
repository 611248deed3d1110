//! `pintail-operator`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pintail_operator::process::main()
}
