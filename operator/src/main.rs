//! `pintail-operator`.

use std::process::ExitCode;

/// Objects are trees of small maps and strings: a third of the operator's time was malloc and free of glibc.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pintail_operator::process::main()
}
