mod bucket;
mod contract;
mod fault;
mod folder;
mod server;

use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use pintail_protocol::{FORMAT, Identity, ReportOutcome, Results, StoreLocation, TaskReport};

use crate::{RunTask, Store};

/// A report of one process of an attempt of the task `trends`.
fn report(pod_uid: &str) -> TaskReport {
    let identity = Identity {
        namespace: "default".to_owned(),
        execution: "retail-1".to_owned(),
        execution_uid: "5a4c".to_owned(),
        execution_start: Timestamp::UNIX_EPOCH,
        workflow: "retail".to_owned(),
        revision: "retail-1234".to_owned(),
        task: "trends".to_owned(),
        item: None,
        attempt: 1,
    };
    TaskReport {
        format: FORMAT,
        identity,
        pod_uid: pod_uid.to_owned(),
        reuse_key: String::new(),
        started_at: Timestamp::UNIX_EPOCH,
        ended_at: Timestamp::UNIX_EPOCH,
        engine: "v1.5.5".to_owned(),
        inputs: Vec::new(),
        reused_from: None,
        outcome: ReportOutcome::Succeeded(Results::default()),
    }
}

fn trends() -> RunTask {
    RunTask::of(&report("any").identity).unwrap()
}

async fn folder_store(folder: &Path) -> Store {
    Store::open(&folder_location(folder)).await.unwrap()
}

fn folder_location(folder: &Path) -> StoreLocation {
    StoreLocation::Folder { path: folder.to_str().unwrap().to_owned() }
}

fn text(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
