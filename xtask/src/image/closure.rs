//! The shared libraries that a program needs, with its loader.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::problem;
use crate::Problems;

/// Where the loader finds each library of the program, as `ldd` says.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>, Problems> {
    let output =
        Command::new("ldd").arg(program).output().map_err(|error| problem(program, &format!("ldd: {error}")))?;
    if !output.status.success() {
        let cause = String::from_utf8_lossy(&output.stderr);
        return Err(problem(program, &format!("ldd: {}; `make build` makes the programs", cause.trim())));
    }
    parse(&String::from_utf8_lossy(&output.stdout)).map_err(|missing| {
        problem(program, &format!("its library {missing} is not on this machine; `make setup` fetches DuckDB"))
    })
}

/// Lines are `name => path (address)`, `path (address)` for the loader, and `name (address)` for what the kernel gives.
fn parse(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for line in text.lines() {
        let (name, place) = line.trim().split_once(" => ").unwrap_or(("", line.trim()));
        let path = place.split_once(" (").map_or(place, |(path, _)| path);
        if path == "not found" {
            return Err(name.to_owned());
        }
        if path.starts_with('/') {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_found_and_a_missing_one_is_named() {
        let text =
            "\tlinux-vdso.so.1 (0x1)\n\tlibduckdb.so => /p/bin/../lib/libduckdb.so (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(parse(text).unwrap(), [Path::new("/p/bin/../lib/libduckdb.so"), Path::new("/lib64/ld.so.2")]);
        assert_eq!(parse("\tlibduckdb.so => not found\n").unwrap_err(), "libduckdb.so");
    }
}
