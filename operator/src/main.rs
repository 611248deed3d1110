//! `pintail-operator`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(2)
}
