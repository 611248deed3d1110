//! Compares what crates depend on with what they may: the table of rooms in docs/explanation/architecture.md.

use std::process::Command;

use serde_json::Value;

use crate::{Problems, generate};

/// What one crate may and may not depend on directly. Dependencies of tests alone are free.
struct Room {
    name: &'static str,
    /// Our own crates that it may use; all others are barred.
    ours: &'static [&'static str],
    /// What of other people's crates it may use, where that is closed.
    only: Option<&'static [&'static str]>,
    /// Other people's crates that it must not use.
    never: &'static [&'static str],
}

const LIBRARIES: &[&str] =
    &["pintail-api", "pintail-engine", "pintail-execution", "pintail-plan", "pintail-protocol", "pintail-storage"];
const COMMAND_LINE: &[&str] = &[
    "pintail-api",
    "pintail-engine",
    "pintail-execution",
    "pintail-plan",
    "pintail-protocol",
    "pintail-storage",
    "pintail-task-runner",
];
const EVERYTHING: &[&str] = &[
    "pintail",
    "pintail-api",
    "pintail-engine",
    "pintail-execution",
    "pintail-operator",
    "pintail-plan",
    "pintail-protocol",
    "pintail-storage",
    "pintail-task-runner",
];
/// Crates that do IO, for rooms that are pure.
const OUTSIDE: &[&str] = &["duckdb", "lettre", "object_store", "reqwest", "tokio"];

const ROOMS: &[Room] = &[
    Room { name: "pintail-api", ours: &[], only: None, never: OUTSIDE },
    Room { name: "pintail-engine", ours: &[], only: Some(&["croner", "jiff", "serde", "thiserror"]), never: &[] },
    Room { name: "pintail-plan", ours: &["pintail-api", "pintail-engine"], only: None, never: OUTSIDE },
    Room { name: "pintail-protocol", ours: &["pintail-engine"], only: None, never: &["duckdb", "kube"] },
    Room { name: "pintail-storage", ours: &["pintail-protocol"], only: None, never: &["duckdb", "kube"] },
    Room { name: "pintail-execution", ours: LIBRARIES, only: None, never: &["duckdb", "kube", "tokio"] },
    Room {
        name: "pintail-task-runner",
        ours: &["pintail-protocol", "pintail-storage"],
        only: None,
        never: &["k8s-openapi", "kube"],
    },
    // The operator never opens a data file, and never runs a task in its own process.
    Room { name: "pintail-operator", ours: LIBRARIES, only: None, never: &["duckdb"] },
    Room { name: "pintail", ours: COMMAND_LINE, only: None, never: &["duckdb"] },
    Room { name: "pintail-bench", ours: EVERYTHING, only: None, never: &[] },
    Room { name: "xtask", ours: EVERYTHING, only: None, never: &[] },
];

/// Rooms that talk to a cluster.
const PROGRAMS: &[&str] = &["pintail", "pintail-operator", "pintail-bench"];
/// Features of `kube` that bring a client; libraries have none.
const CLIENT_FEATURES: &[&str] = &["client", "config", "runtime", "ws"];

/// Checks every crate of the workspace.
pub fn run() -> Result<(), Problems> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(generate::root())
        .output()
        .map_err(|error| vec![format!("cargo metadata: {error}")])?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| vec![format!("cargo metadata: {error}")])?;
    let problems = violations(&metadata);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn violations(metadata: &Value) -> Problems {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages.flat_map(crate_violations).collect()
}

fn crate_violations(package: &Value) -> Problems {
    let name = package["name"].as_str().unwrap_or_default();
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        return vec![format!("{name}: not in the table of rooms (xtask/src/layers.rs): say what it may depend on")];
    };
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    // `kind` is null for what the crate itself needs.
    dependencies
        .filter(|dependency| dependency["kind"] != "dev")
        .filter_map(|dependency| room.refuses(dependency))
        .map(|why| format!("{name}: {why}"))
        .collect()
}

impl Room {
    /// Why a dependency is refused.
    fn refuses(&self, dependency: &Value) -> Option<String> {
        let name = dependency["name"].as_str().unwrap_or_default();
        let ours = ROOMS.iter().any(|room| room.name == name);
        if ours {
            return (!self.ours.contains(&name)).then(|| format!("may not depend on our {name}"));
        }
        if self.never.contains(&name) || self.only.is_some_and(|only| !only.contains(&name)) {
            return Some(format!("may not depend on {name}"));
        }
        let features: Vec<&str> = dependency["features"].as_array()?.iter().filter_map(Value::as_str).collect();
        if PROGRAMS.contains(&self.name) {
            return None;
        }
        let client = CLIENT_FEATURES.iter().find(|feature| features.contains(*feature));
        client.filter(|_| name == "kube").map(|feature| format!("may not use the feature {feature} of kube"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems_of(name: &str, dependency: Value) -> Problems {
        violations(&json!({ "packages": [{ "name": name, "dependencies": [dependency] }] }))
    }

    #[test]
    fn a_crate_of_ours_that_is_not_allowed_is_named() {
        let problems = problems_of("pintail-plan", json!({ "name": "pintail-storage", "kind": null, "features": [] }));
        assert_eq!(problems, ["pintail-plan: may not depend on our pintail-storage"]);
    }

    #[test]
    fn a_barred_crate_is_named_unless_only_tests_use_it() {
        let barred =
            |kind: Value| problems_of("pintail-engine", json!({ "name": "tokio", "kind": kind, "features": [] }));
        assert_eq!(barred(Value::Null), ["pintail-engine: may not depend on tokio"]);
        assert_eq!(barred(json!("dev")), Problems::new());
    }

    #[test]
    fn a_library_has_no_client_of_kubernetes() {
        let problems =
            problems_of("pintail-api", json!({ "name": "kube", "kind": null, "features": ["derive", "client"] }));
        assert_eq!(problems, ["pintail-api: may not use the feature client of kube"]);
    }

    #[test]
    fn a_crate_that_the_table_does_not_know_is_named() {
        assert_eq!(problems_of("new", json!({ "name": "serde", "kind": null, "features": [] })).len(), 1);
    }
}
