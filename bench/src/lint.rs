//! Linting a workflow of 200 tasks, SQL and all: the whole command, from its start to its end, beside that of one task.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::measure::{self, Failure};
use crate::program::{self, scratch};

const TASKS: usize = 200;
const ROUNDS: usize = 21;

pub fn run() -> Result<(), Failure> {
    let folder = scratch()?;
    let write = |name: &str, tasks: usize| {
        let file = folder.path().join(name);
        fs::write(&file, manifest(tasks)).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok::<_, Failure>(file)
    };
    let (large, small) = (write("large.yaml", TASKS)?, write("small.yaml", 1)?);
    let (of_large, of_small) = measure::in_turn(ROUNDS, || lint(&large), || lint(&small))?;
    let each_ms = (of_large.median().saturating_sub(of_small.median())).as_secs_f64() * 1e3 / (TASKS - 1) as f64;
    println!(
        "`pintail lint` of {TASKS} tasks\n  {of_large}; aim: under 1 s\n  of one task: {of_small}; ratio {:.1}\n  each \
         task more: {each_ms:.1} ms; aim: under 5 ms",
        of_large.ratio(&of_small)
    );
    Ok(())
}

fn lint(file: &Path) -> Result<(), Failure> {
    program::succeed(Command::new(program::bin("pintail")).arg("lint").arg(file))
}

/// A chain with a side branch: every task has a query, an expression and two dependencies.
fn manifest(tasks: usize) -> String {
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
    for task in 1..tasks {
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
