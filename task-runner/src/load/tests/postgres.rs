//! The loader with a PostgreSQL server. Each test has a database of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use pintail_protocol::{Connection, ConnectionTarget};

use super::*;
use crate::tests::servers;
use crate::workspace::Environment;

impl Warehouse {
    /// A new database, `w` in SQL.
    fn postgres() -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("load_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let server = Self::of_database("postgres", AccessMode::Write);
        server.run(&format!("CALL postgres_execute('w', 'CREATE DATABASE {name}', use_transaction = false)"));
        Self::of_database(&name, AccessMode::Write)
    }

    fn of_database(name: &str, mode: AccessMode) -> Self {
        let words = servers::postgres();
        let mut fixture = Fixture::new();
        let folder = std::env::var_os("PINTAIL_EXTENSIONS_DIR").map(std::path::PathBuf::from);
        let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../lib/extensions"));
        fixture.environment = Environment::new(BTreeMap::new(), folder);
        let target = ConnectionTarget::Postgres {
            host: words["host"].to_owned(),
            port: words["port"].parse().unwrap(),
            database: name.to_owned(),
            user: words["user"].to_owned(),
            password: None,
            ssl_mode: "disable".to_owned(),
        };
        fixture.order.connections.push(Connection { name: "w".to_owned(), mode, target });
        Self { fixture }
    }

    fn on_server(&self, sql: &str) {
        self.run(&format!("CALL postgres_execute('w', {})", crate::sql::text(sql)));
    }
}

#[test]
fn every_mode_loads_into_postgresql() {
    let warehouse = Warehouse::postgres();
    let query = "SELECT unnest([1, 2]) AS id, 'x' AS name";
    assert_eq!(warehouse.load(1, &into_table(LoadMode::Append), query), Ok(result(2, 0, None)));
    assert_eq!(warehouse.load(2, &into_table(LoadMode::Append), query), Ok(result(2, 0, None)));
    assert_eq!(warehouse.load(3, &into_table(LoadMode::Replace), query), Ok(result(2, 0, None)));
    let query = "FROM (VALUES (2, 'x'), (1, 'y'), (3, 'z')) AS v(id, name)";
    assert_eq!(warehouse.load(4, &upsert(&["id"]), query), Ok(result(1, 1, None)));
    assert_eq!(warehouse.load(5, &upsert(&["id"]), query), Ok(result(0, 0, None)));
    assert_eq!(warehouse.load(6, &upsert(&["id"]), &format!("{query} WHERE false")), Ok(result(0, 0, None)));
    assert_eq!(warehouse.rows("FROM w.t ORDER BY id"), ["1|y", "2|x", "3|z"]);
}

#[test]
fn postgresql_leaves_equal_rows_and_their_stamp_untouched() {
    let warehouse = Warehouse::postgres();
    let load = Load { stamp: Some("loaded at".to_owned()), ..upsert(&["id"]) };
    let query = |name: &str| {
        format!(
            "SELECT 1 AS id, 'nan'::DOUBLE AS f, NULL::VARCHAR AS n, '{{\"a\": 1}}'::JSON AS j, [1, NULL] AS l, 'a' AS name
             UNION ALL SELECT 2, 1.5, 'x', '[]', NULL, '{name}'"
        )
    };
    assert_eq!(warehouse.load(1, &load, &query("b")), Ok(result(2, 0, None)));
    assert_eq!(warehouse.load(2, &load, &query("b")), Ok(result(0, 0, None)));
    assert_eq!(warehouse.load(3, &load, &query("c")), Ok(result(0, 1, None)));
    let stamp = |run: i64| at(run).strftime("%Y-%m-%d %H:%M:%S").to_string();
    assert_eq!(
        warehouse.rows("SELECT id, name, \"loaded at\" FROM w.t ORDER BY id"),
        [format!("1|a|{}", stamp(1)), format!("2|c|{}", stamp(3))]
    );
}

#[test]
fn postgresql_keeps_what_a_first_load_makes_and_takes_the_second() {
    let warehouse = Warehouse::postgres();
    let query = "SELECT 1 AS id, sum(range) AS total, 5::UTINYINT AS u, 18446744073709551615::UBIGINT AS ub, 'a'::ENUM('a') AS e,
                 1.25::DECIMAL(12,2) AS d, TIMESTAMPTZ '2026-03-29 01:30:00+01' AS z, '2026-01-01'::TIMESTAMP_S AS s,
                 '\\x00'::BLOB AS b, DATE '2026-01-01' AS day FROM range(10)";
    assert_eq!(warehouse.load(1, &upsert(&["id"]), query), Ok(result(1, 0, None)));
    assert_eq!(warehouse.load(2, &upsert(&["id"]), query), Ok(result(0, 0, None)));
    assert_eq!(
        warehouse.rows("FROM w.t"),
        ["1|45|5|18446744073709551615|a|1.25|2026-03-29 00:30:00+00|2026-01-01 00:00:00|\\x00|2026-01-01"]
    );
}

#[test]
fn a_type_that_postgresql_cannot_keep_is_refused() {
    let warehouse = Warehouse::postgres();
    for query in ["SELECT '2026-01-01'::TIMESTAMP_NS AS x", "SELECT MAP {'a': 1} AS x"] {
        assert_eq!(warehouse.refuses(1, &into_table(LoadMode::Append), query).reason, "ColumnTypes", "{query}");
    }
    warehouse.refuses(2, &into_table(LoadMode::Append), "SELECT {'a': 1} AS x");
    assert_eq!(
        warehouse.rows("SELECT count(*) FROM duckdb_tables() WHERE database_name = 'w' AND table_name = 't'"),
        ["0"]
    );
}

#[test]
fn odd_names_are_only_names_in_postgresql() {
    let warehouse = Warehouse::postgres();
    warehouse.on_server(r#"CREATE SCHEMA "my ""schema""""#);
    let load = Load {
        schema: Some("my \"schema\"".to_owned()),
        table: "tä'ble \"1\"".to_owned(),
        ..upsert(&["sélect \"x\"", "order"])
    };
    let query = r#"SELECT 1 AS "sélect ""x""", 2 AS "order", 'v' AS "it's; -- $x""#;
    assert_eq!(warehouse.load(1, &load, query), Ok(result(1, 0, None)));
    assert_eq!(warehouse.load(2, &load, &query.replace("'v'", "'w'")), Ok(result(0, 1, None)));
    assert_eq!(warehouse.load(2, &load, "SELECT error('no')"), Ok(result(0, 1, None)));
}

#[test]
fn watermarks_hold_in_postgresql() {
    let warehouse = Warehouse::postgres();
    let load = Load { watermark: Some(watermark("day", Some(Overlap::DurationMs(86_400_000)))), ..upsert(&["id"]) };
    let query = "FROM (VALUES (1, DATE '2026-01-01'), (2, DATE '2026-01-05')) AS v(id, day)";
    assert_eq!(warehouse.load(1, &load, query), Ok(result(2, 0, Some("2026-01-05"))));
    let late = "FROM (VALUES (3, DATE '2026-01-03'), (4, DATE '2026-01-04')) AS v(id, day)";
    assert_eq!(warehouse.load(2, &load, late), Ok(result(1, 0, Some("2026-01-05"))));
    warehouse.on_server("DROP TABLE t");
    assert_eq!(warehouse.load(3, &load, late), Ok(result(2, 0, Some("2026-01-04"))));
    assert_eq!(
        warehouse.rows("SELECT watermark FROM w._pintail_loads ORDER BY execution"),
        ["NULL", "NULL", "2026-01-04"]
    );
}

#[test]
fn a_failed_load_into_postgresql_leaves_nothing_behind() {
    let warehouse = Warehouse::postgres();
    warehouse.on_server("CREATE TABLE t (id bigint PRIMARY KEY, name varchar(3)); INSERT INTO t VALUES (4711, 'a')");
    let failure = warehouse.refuses(1, &into_table(LoadMode::Append), "SELECT 4711 AS id, 'b' AS name");
    assert_eq!(failure.reason, "ConstraintError");
    assert!(failure.message.contains("t_pkey") && !failure.message.contains("4711"), "{failure}");
    let failure = warehouse.refuses(2, &into_table(LoadMode::Replace), "SELECT 1 AS id, 'Jane' AS name");
    assert_eq!(failure.reason, "ConversionError");
    assert!(!failure.message.contains("Jane"), "{failure}");
    assert_eq!(warehouse.rows("FROM w.t"), ["4711|a"]);
    assert_eq!(warehouse.rows("SELECT count(*) FROM w._pintail_loads"), ["0"]);
}

#[test]
fn loads_that_meet_in_postgresql_follow_one_another() {
    let warehouse = Warehouse::postgres();
    let load = Load { watermark: Some(watermark("n", None)), ..into_table(LoadMode::Append) };
    let query = "SELECT range AS n FROM range(20000)";
    let start = std::sync::Barrier::new(4);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let attempt = |run: i64| {
            let (warehouse, load, start) = (&warehouse, &load, &start);
            scope.spawn(move || {
                let session = warehouse.session();
                start.wait();
                super::load_alone(&session, &warehouse.identity(run), load, query, at(run))
            })
        };
        // Two attempts of one run, and two other runs.
        let running: Vec<_> = [1, 1, 2, 3].map(attempt).into_iter().collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for outcome in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_ne!(outcome.class, FailureClass::Permanent, "{outcome}");
    }
    assert!(outcomes.iter().any(|outcome| outcome.is_ok()), "{outcomes:?}");
    for run in 1..=3 {
        assert_eq!(warehouse.load(run, &load, query).unwrap().watermark.as_deref(), Some("19999"));
    }
    assert_eq!(warehouse.rows("SELECT count(*), count(DISTINCT n) FROM w.t"), ["20000|20000"]);
}

#[test]
fn a_lost_connection_to_postgresql_is_not_the_tasks_fault() {
    let warehouse = Warehouse::postgres();
    let session = warehouse.session();
    let load = into_table(LoadMode::Append);
    let target = super::super::target::Target::of(&session, &load).unwrap();
    let failure = target
        .transaction(|| {
            target.run_on_server("CREATE TABLE t (id integer)")?;
            warehouse.on_server(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            );
            target.run_on_server("INSERT INTO t VALUES (1)")
        })
        .unwrap_err();
    assert_eq!((failure.class, failure.reason), (FailureClass::Infrastructure, "ConnectionLost"));
    drop(session);
    assert_eq!(warehouse.load(1, &load, "SELECT 1 AS id"), Ok(result(1, 0, None)));
}

#[test]
fn a_million_rows_reach_postgresql_by_few_statements() {
    let warehouse = Warehouse::postgres();
    let query = "SELECT range AS id, md5(range::VARCHAR) AS text FROM range(1000000)";
    assert_eq!(warehouse.load(1, &upsert(&["id"]), query), Ok(result(1_000_000, 0, None)));
    assert_eq!(warehouse.load(2, &upsert(&["id"]), query), Ok(result(0, 0, None)));
}

#[test]
fn a_connection_that_is_only_read_is_no_target() {
    let warehouse = Warehouse::of_database("postgres", AccessMode::Read);
    assert_eq!(warehouse.refuses(1, &into_table(LoadMode::Append), "SELECT 1 AS id").reason, "InvalidLoad");
}
