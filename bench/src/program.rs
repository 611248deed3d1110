//! Programs that are measured.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::measure::Failure;

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// A program of `make build`.
pub fn bin(name: &str) -> PathBuf {
    root().join("bin").join(name)
}

/// The Python of `make setup`, which has the package duckdb of the same version as the runner.
fn python() -> Result<PathBuf, Failure> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.or(home).ok_or("neither HOME nor XDG_CACHE_HOME is set")?;
    Ok(cache.join("pintail/venv/bin/python"))
}

/// A folder that goes when the benchmark ends. On the disk of the repository: `/tmp` may be memory.
pub fn scratch() -> Result<TempDir, Failure> {
    let target = root().join("target");
    std::fs::create_dir_all(&target).map_err(|error| format!("{}: {error}", target.display()))?;
    TempDir::new_in(&target).map_err(|error| format!("{}: {error}", target.display()))
}

/// Runs a fresh Python with the work that `rivals/statements.py` describes.
pub fn run_in_python(folder: &Path, work: &Value) -> Result<(), Failure> {
    let input = folder.join("statements.json");
    let explain = |error: std::io::Error| format!("{}: {error}", input.display());
    std::fs::write(&input, work.to_string()).map_err(explain)?;
    let mut command = Command::new(python()?);
    command.arg(root().join("bench/rivals/statements.py")).stdin(std::fs::File::open(&input).map_err(explain)?);
    succeed(&mut command)
}

/// Runs a program to its end; what it prints is kept for the failure.
pub fn succeed(command: &mut Command) -> Result<(), Failure> {
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
