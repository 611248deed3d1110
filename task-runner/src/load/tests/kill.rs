use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pintail_protocol::ConnectionTarget;

use super::*;

/// Names the folder of the database, in the process that is killed.
const FOLDER: &str = "PINTAIL_TEST_KILLED_LOAD";

impl Warehouse {
    fn of_folder(folder: &Path) -> Self {
        let mut warehouse = Self::new();
        let path = folder.join("w.duckdb").display().to_string();
        warehouse.fixture.order.connections[0].target = ConnectionTarget::DuckDb { path, busy_timeout_ms: 0 };
        warehouse
    }
}

/// Three runs into one database, each of which finds what it or an earlier attempt of it did.
#[test]
#[ignore = "is run, and killed, by a_load_that_is_killed_at_any_moment_ends_as_an_undisturbed_one"]
fn loads_that_are_killed() {
    let folder = std::env::var(FOLDER).unwrap();
    let warehouse = Warehouse::of_folder(Path::new(&folder));
    let merged = Load {
        stamp: Some("loaded_at".to_owned()),
        watermark: Some(watermark("day", Some(Overlap::DurationMs(10 * 86_400_000)))),
        ..upsert(&["id"])
    };
    let appended = Load { table: "log".to_owned(), ..into_table(LoadMode::Append) };
    let replaced = Load { table: "now".to_owned(), ..into_table(LoadMode::Replace) };
    for run in 1..=3 {
        let query = format!(
            "SELECT range AS id, DATE '2026-01-01' + (range // 1000)::INTEGER AS day, md5((range + (range % 7 = {run})::INTEGER)::VARCHAR) AS text
             FROM range({})",
            run * 40_000
        );
        for (task, load) in [("merged", &merged), ("appended", &appended), ("replaced", &replaced)] {
            let identity = Identity { task: task.to_owned(), ..warehouse.identity(run) };
            super::load_alone(&warehouse.session(), &identity, load, &query, at(run)).unwrap();
        }
    }
}

fn start(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "load::tests::kill::loads_that_are_killed", "--ignored"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for the end of a process until the deadline, then kills it. Says whether it ended by itself.
fn ends_within(mut child: Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the load failed: {status}");
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    // SIGKILL
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

/// All that must be equal, whenever a load was killed.
fn content(folder: &Path) -> Vec<String> {
    let warehouse = Warehouse::of_folder(folder);
    let digests = ["id, day, text FROM w.t", "* FROM w.log", "* FROM w.now"]
        .map(|columns| warehouse.rows(&format!("SELECT count(*), sum(hash(x)) FROM (SELECT {columns}) AS x")));
    let ledger = warehouse.rows("SELECT * EXCLUDE (loaded_at) FROM w._pintail_loads ORDER BY ALL");
    digests.into_iter().flatten().chain(ledger).collect()
}

#[test]
fn a_load_that_is_killed_at_any_moment_ends_as_an_undisturbed_one() {
    let undisturbed = tempfile::tempdir().unwrap();
    let started = Instant::now();
    assert!(ends_within(start(undisturbed.path()), Duration::from_secs(300)));
    let whole = started.elapsed();
    let expected = content(undisturbed.path());
    assert_eq!(expected.len(), 3 + 9, "{expected:?}");

    // The golden ratio's multiples spread over the whole run.
    let mut fraction = 0.5;
    let mut kills = 0;
    for _round in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        for _kill in 0..6 {
            fraction = (fraction + 0.618_034_f64).fract();
            if ends_within(start(folder.path()), whole.mul_f64(fraction)) {
                break;
            }
            kills += 1;
        }
        assert!(ends_within(start(folder.path()), Duration::from_secs(300)));
        assert_eq!(content(folder.path()), expected);
    }
    assert!(kills > 0, "no process was killed");
}
