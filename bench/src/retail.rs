//! The example retail-summary against its three queries, one after another, in a fresh Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::measure::{self, Failure};
use crate::program::{self, root, run_in_python, scratch};

const ROUNDS: usize = 11;
const QUERIES: [&str; 3] = ["trends", "elasticity", "segments"];
/// The workflow's inputs, as its defaults have them.
const PARAMETERS: [(&str, &str); 2] = [("$min_quantity", "0"), ("$dormant_before", "DATE '2011-05-01'")];

pub fn run() -> Result<(), Failure> {
    let folder = scratch()?;
    let store = folder.path().join("store");
    pintail(&store, "recent-orders")?;
    let recent = parquet_below(&store.join("default/artifacts/recent_ecommerce_data"))
        .ok_or("the run of recent-orders published no Parquet file")?;
    let work = rival(folder.path(), &recent)?;
    let (ours, theirs) =
        measure::in_turn(ROUNDS, || pintail(&store, "retail-summary"), || run_in_python(folder.path(), &work))?;
    println!("The example retail-summary: four tasks with its report page, against its three queries alone");
    println!("  pintail run:   {ours}\n  python duckdb: {theirs}\n  ratio: {:.2}", ours.ratio(&theirs));
    Ok(())
}

fn pintail(store: &Path, workflow: &str) -> Result<(), Failure> {
    let example = root().join("examples/retail-summary");
    let mut command = Command::new(program::bin("pintail"));
    command.arg("run").arg(&example).arg(example.join("local")).args(["--workflow", workflow, "--store"]).arg(store);
    program::succeed(&mut command)
}

fn rival(folder: &Path, recent: &Path) -> Result<serde_json::Value, Failure> {
    let example = root().join("examples/retail-summary");
    let mut statements = vec![format!("CREATE VIEW recent AS FROM read_parquet('{}')", recent.display())];
    for name in QUERIES {
        let file = example.join(name).with_extension("sql");
        let mut query = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        for (parameter, value) in PARAMETERS {
            query = query.replace(parameter, value);
        }
        let target = folder.join(name).with_extension("parquet");
        statements.push(format!("COPY ({query}) TO '{}' (FORMAT parquet, COMPRESSION zstd)", target.display()));
    }
    let database = example.join("data/warehouse/e_commerce.duckdb");
    Ok(json!({ "settings": {}, "database": { "name": "e_commerce", "path": database }, "statements": statements }))
}

/// The one Parquet file of a published version.
fn parquet_below(folder: &Path) -> Option<PathBuf> {
    for path in fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|ending| ending == "parquet") {
            return Some(path);
        }
        if let Some(found) = parquet_below(&path) {
            return Some(found);
        }
    }
    None
}
