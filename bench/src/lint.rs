//! Linting a workflow of 1,000 tasks: the whole command, from its start to its end.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::measure::{self, Failure};
use crate::program::{self, scratch};

const TASKS: usize = 1_000;
const ROUNDS: usize = 21;

pub fn run() -> Result<(), Failure> {
    let folder = scratch()?;
    let file = folder.path().join("large.yaml");
    fs::write(&file, manifest()).map_err(|error| format!("{}: {error}", file.display()))?;
    let times = measure::alone(ROUNDS, || lint(&file))?;
    println!("`pintail lint` of {TASKS} tasks\n  {times}; aim: under 100 ms");
    Ok(())
}

fn lint(file: &Path) -> Result<(), Failure> {
    program::succeed(Command::new(program::bin("pintail")).arg("lint").arg(file))
}

/// A chain with a side branch: every task has a query, an expression and two dependencies.
fn manifest() -> String {
    let mut text = "\
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata:
  name: large
spec:
  inputs:
    - name: least
      type: BIGINT
      default: 0
  tasks:
    - name: task_0
      uses: [least]
      duckdb:
        query: SELECT range AS n FROM range(1000) WHERE range > $least
"
    .to_owned();
    for task in 1..TASKS {
        let (previous, other) = (task - 1, task / 2);
        let uses =
            if previous == other { format!("task_{previous}") } else { format!("task_{previous}, task_{other}") };
        let _ = write!(
            text,
            "    - name: task_{task}
      uses: [{uses}, least]
      when: $(tasks.task_{previous}.rows > 0)
      timeout: 10m
      duckdb:
        query: |
          SELECT n, count(*) AS rows_of_n FROM task_{previous} WHERE n > $least GROUP BY ALL ORDER BY n
"
        );
    }
    text
}
