//! Work orders for the runner alone, without a run around it.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use pintail_protocol::{
    Destination, DuckDbWork, FORMAT, Identity, NamedQuery, OutputKind, OutputTarget, Resources, StoreLocation, Work,
    WorkOrder,
};

use crate::measure::Failure;
use crate::program;

/// What both rivals may use.
pub const CPU_MILLIS: u64 = 2_000;
pub const MEMORY_BYTES: u64 = 4 << 30;

/// Runs one query by `pintail-runner` into a new store in `folder`: one whole attempt, with digest and commit.
pub fn run(folder: &Path, number: usize, sql: &str) -> Result<(), Failure> {
    let store = folder.join(format!("store-{number}"));
    let order = order(&store, sql);
    let path = folder.join(format!("{number}.order"));
    let text = serde_json::to_vec(&order).map_err(|error| error.to_string())?;
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut command = Command::new(program::bin("pintail-runner"));
    command.args(["run", "--pod-uid", "bench", "--order"]).arg(&path);
    command.arg("--termination-message").arg(folder.join(format!("{number}.termination")));
    program::succeed(&mut command)?;
    fs::remove_dir_all(&store).map_err(|error| format!("{}: {error}", store.display()))
}

fn order(store: &Path, sql: &str) -> WorkOrder {
    let text = str::to_owned;
    WorkOrder {
        format: FORMAT,
        identity: Identity {
            namespace: text("default"),
            execution: text("bench"),
            execution_uid: text("bench"),
            execution_start: Timestamp::UNIX_EPOCH,
            workflow: text("bench"),
            revision: text("bench-0"),
            task: text("result"),
            item: None,
            attempt: 1,
        },
        store: StoreLocation::Folder { path: store.to_string_lossy().into_owned() },
        relations: Vec::new(),
        parameters: Vec::new(),
        files: Vec::new(),
        connections: Vec::new(),
        work: Work::DuckDb(DuckDbWork {
            setup: Vec::new(),
            queries: vec![NamedQuery { output: text("result"), sql: text(sql) }],
            load: None,
        }),
        outputs: vec![OutputTarget {
            name: text("result"),
            kind: OutputKind::Table,
            destination: Destination::Run,
            contract: None,
        }],
        resources: Resources { cpu_millis: Some(CPU_MILLIS), memory_bytes: Some(MEMORY_BYTES), scratch_bytes: None },
        reuse_key: text("bench"),
        reuse: None,
    }
}
