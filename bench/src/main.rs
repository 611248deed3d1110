//! What things cost, as ratios of medians in one run. Nothing is asserted. `make bench` runs all, `scripts/bench NAME…`
//! those named.

mod checker;
mod engine;
mod launches;
mod lint;
mod measure;
mod order;
mod program;
mod retail;
mod scheduler;
mod steps;

use std::process::ExitCode;

use measure::Failure;

type Benchmark = fn() -> Result<(), Failure>;

/// Names and benchmarks, cheap ones first.
const ALL: &[(&str, Benchmark)] = &[
    ("scheduler", scheduler::run),
    ("lint", lint::run),
    ("checker", checker::run),
    ("start", engine::start),
    ("retail", retail::run),
    ("copy", engine::copy),
    ("launches", launches::run),
    ("steps", steps::run),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    // The rival of `steps` is a process of its own, so that its processor time can be told from the rest.
    if wanted.first().is_some_and(|name| name == steps::NULL_CONTROLLER) {
        return match steps::null_controller() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("{}: {failure}", steps::NULL_CONTROLLER);
                ExitCode::FAILURE
            }
        };
    }
    if let Some(unknown) = wanted.iter().find(|name| ALL.iter().all(|(known, _)| known != name)) {
        let known: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no benchmark {unknown:?}; there are {}", known.join(", "));
        return ExitCode::from(2);
    }
    for (name, run) in ALL.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)) {
        if let Err(failure) = run() {
            eprintln!("{name}: {failure}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
