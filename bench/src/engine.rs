//! The runner against a fresh Python with the same DuckDB: the same statement, threads, memory and file format.

use std::path::Path;

use serde_json::{Value, json};

use crate::measure::{self, Failure};
use crate::order::{self, CPU_MILLIS, MEMORY_BYTES};
use crate::program::{run_in_python, scratch};

/// Six columns of the usual types, without an input file.
const LARGE: &str = "SELECT range AS id, (hash(range) % 100000)::INTEGER AS customer, \
    TIMESTAMP '2024-01-01' + to_seconds(range % 31536000) AS ordered_at, \
    'product ' || (hash(range + 1) % 5000) AS product, \
    ((hash(range + 2) % 1000000) / 100)::DECIMAL(12,2) AS price, (hash(range + 3) % 1000) / 7 AS weight \
    FROM range(20000000)";
const SMALL: &str = "SELECT 42 AS answer";

/// Twenty million rows to Parquet.
pub fn copy() -> Result<(), Failure> {
    println!("COPY of 20 million rows and 6 columns to Parquet, whole processes (ours with digest and commit)");
    compare(LARGE, 5, "aim: at most 1.05")
}

/// One row: the cost of a start.
pub fn start() -> Result<(), Failure> {
    println!("A task of one row, whole processes");
    compare(SMALL, 21, "aim: at most 0.2")
}

fn compare(sql: &str, rounds: usize, aim: &str) -> Result<(), Failure> {
    let folder = scratch()?;
    let mut number = 0;
    let ours = || {
        number += 1;
        order::run(folder.path(), number, sql)
    };
    let (ours, theirs) = measure::in_turn(rounds, ours, || run_in_python(folder.path(), &rival(folder.path(), sql)))?;
    println!("  pintail-runner: {ours}\n  python duckdb:  {theirs}\n  ratio: {:.2}; {aim}", ours.ratio(&theirs));
    Ok(())
}

fn rival(folder: &Path, sql: &str) -> Value {
    let file = folder.join("rival.parquet");
    // The runner gives DuckDB 65 % of a task's memory.
    let memory_mib = (MEMORY_BYTES >> 20) * 65 / 100;
    json!({
        "settings": { "threads": CPU_MILLIS / 1000, "memory_limit": format!("{memory_mib}MiB") },
        "statements": [format!("COPY ({sql}) TO '{}' ({})", file.display(), FILE_OPTIONS)],
    })
}

/// How the runner writes Parquet.
const FILE_OPTIONS: &str = "FORMAT parquet, COMPRESSION zstd";
