//! `pintail-operator`.

use std::process::ExitCode;

/// Objects are trees of small maps and strings: malloc and free of glibc took a sixth of the time and more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pintail_operator::process::main()
}
