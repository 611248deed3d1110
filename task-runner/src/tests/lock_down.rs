use pintail_protocol::AccessMode;

use super::Fixture;

/// Runs a raw statement, past our own checks of statements, as far as the engine's lock-down alone goes.
fn refused(session: &crate::session::Session, sql: &str) -> bool {
    session.connection().execute_batch(sql).is_err()
}

#[test]
fn sql_reaches_nothing_outside_of_the_session() {
    let mut fixture = Fixture::new();
    let other = fixture.write("private/other.csv", "a\n1\n");
    let input = fixture.write("in/a.csv", "a\n1\n");
    fixture.table("orders", pintail_protocol::TableFormat::Csv, &[&input], Some(super::contract(&[("a", "BIGINT")])));
    let session = fixture.open().unwrap();
    let folder = fixture.folder.path().display();
    for sql in [
        "FROM read_text('/etc/passwd')".to_owned(),
        "FROM read_csv('/etc/passwd')".to_owned(),
        "FROM read_blob('/proc/self/environ')".to_owned(),
        "FROM glob('/etc/*')".to_owned(),
        format!("FROM read_csv('{other}')"),
        format!("FROM read_text('{folder}/out/../private/other.csv')"),
        format!("FROM '{folder}/in/*.csv'"),
        format!("COPY (SELECT 1) TO '{folder}/private/x.parquet'"),
        format!("COPY (SELECT 1) TO '{input}'"),
        format!("ATTACH '{folder}/private/x.duckdb' AS x"),
        format!("EXPORT DATABASE '{folder}/private/x'"),
    ] {
        assert!(refused(&session, &sql), "{sql}");
    }
    for sql in [
        "SET threads = 1",
        "SET enable_external_access = true",
        "RESET enable_external_access",
        "SET allowed_directories = ['/']",
        "SET lock_configuration = false",
        "SET temp_directory = '/tmp/x'",
        "SET GLOBAL autoload_known_extensions = true",
        "SET allow_unredacted_secrets = true",
        "SET TimeZone = 'Europe/Paris'",
        "PRAGMA profiling_output = '/tmp/x'",
        "LOAD httpfs",
        "INSTALL httpfs",
        "LOAD '/tmp/x.duckdb_extension'",
        "SELECT getenv('HOME')",
        "CREATE SECRET (TYPE s3, KEY_ID 'x')",
        "FROM read_csv('https://127.0.0.1:1/x.csv')",
        "FROM read_parquet('s3://bucket/x.parquet')",
    ] {
        assert!(refused(&session, sql), "{sql}");
    }
    assert_eq!(super::rows(&session, "FROM orders").unwrap(), ["1"]);
}

#[test]
fn an_attached_file_is_read_and_written_after_the_lock() {
    let mut fixture = Fixture::new();
    fixture.duckdb("lake", "warehouse/lake.duckdb", AccessMode::Write);
    {
        let session = fixture.open().unwrap();
        session.batch("CREATE TABLE lake.t AS FROM range(10) t(x)", "write").unwrap();
        session.batch("INSERT INTO lake.t FROM range(200000)", "write").unwrap();
        session.batch("CHECKPOINT lake", "checkpoint").unwrap();
        session.batch("UPDATE lake.t SET x = x + 1", "write").unwrap();
    }
    fixture.order.connections.clear();
    fixture.duckdb("lake", "warehouse/lake.duckdb", AccessMode::Read);
    let session = fixture.open().unwrap();
    assert_eq!(super::rows(&session, "SELECT count(*), min(x) FROM lake.t").unwrap(), ["200010|1"]);
    assert!(refused(&session, "INSERT INTO lake.t VALUES (1)"));
}

#[test]
fn a_database_that_is_not_there_or_not_one_is_named() {
    let mut fixture = Fixture::new();
    fixture.duckdb("lake", "none.duckdb", AccessMode::Read);
    let failure = fixture.open().err().unwrap();
    assert_eq!(failure.reason, "DatabaseMissing");
    assert!(failure.message.starts_with("connection `lake`: "), "{failure}");
    fixture.write("none.duckdb", &"hello".repeat(5000));
    assert_eq!(fixture.open().err().unwrap().reason, "NotADatabase");
}

#[test]
fn a_new_database_is_whole_as_soon_as_it_can_be_seen() {
    for number in 0..20 {
        let mut fixture = Fixture::new();
        fixture.duckdb("lake", "lake.duckdb", AccessMode::Write);
        let path = fixture.folder.path().join("lake.duckdb");
        let seen = std::thread::spawn(move || {
            loop {
                if let Ok(content) = std::fs::read(&path) {
                    return content;
                }
            }
        });
        let session = fixture.open().unwrap();
        let seen = seen.join().unwrap();
        // The main header and two headers of the database.
        assert!(seen.len() >= 3 * 4096 && seen[8..12] == *b"DUCK", "{number}: {} bytes", seen.len());
        drop(session);
        assert_eq!(std::fs::read_dir(fixture.folder.path()).unwrap().filter(is_ours).count(), 0);
    }
}

fn is_ours(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
    entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".pintail-")
}

#[test]
fn a_file_that_another_process_writes_is_busy() {
    let mut fixture = Fixture::new();
    fixture.duckdb("lake", "lake.duckdb", AccessMode::Write);
    drop(fixture.open().unwrap());
    // The same lock that DuckDB takes, held by another process.
    let path = fixture.folder.path().join("lake.duckdb");
    let code = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()";
    let mut holder = std::process::Command::new("python3")
        .args(["-c", code])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut line).unwrap();
    let failure = fixture.open().err().unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(failure.class, pintail_protocol::FailureClass::Busy, "{failure}");
    assert!(fixture.open().is_ok());
}
