use super::*;

#[test]
fn append_keeps_what_is_there_and_the_order_of_the_query() {
    let warehouse = Warehouse::new();
    let load = into_table(LoadMode::Append);
    assert_eq!(warehouse.load(1, &load, "SELECT 2 AS id UNION ALL SELECT 1"), Ok(result(2, 0, None)));
    assert_eq!(warehouse.load(2, &load, "SELECT 2 AS id"), Ok(result(1, 0, None)));
    assert_eq!(warehouse.rows("FROM w.t"), ["2", "1", "2"]);
}

#[test]
fn replace_takes_away_all_rows_and_keeps_the_tables_definition() {
    let warehouse = Warehouse::new();
    warehouse.run("CREATE TABLE w.t (id BIGINT PRIMARY KEY, note VARCHAR DEFAULT 'none'); INSERT INTO w.t VALUES (1, 'a'), (2, 'b')");
    let load = into_table(LoadMode::Replace);
    assert_eq!(warehouse.load(1, &load, "SELECT unnest([2, 3, 4]) AS id"), Ok(result(3, 0, None)));
    assert_eq!(warehouse.rows("FROM w.t"), ["2|none", "3|none", "4|none"]);
    warehouse.run("INSERT INTO w.t VALUES (9, 'x')");
    let failure = {
        let session = warehouse.session();
        session.connection().execute_batch("INSERT INTO w.t VALUES (9, 'y')").unwrap_err().to_string()
    };
    assert!(failure.contains("primary key"), "{failure}");
}

#[test]
fn upsert_inserts_new_rows_updates_changed_ones_and_leaves_equal_ones() {
    let warehouse = Warehouse::new();
    let load = Load { stamp: Some("loaded_at".to_owned()), ..upsert(&["id"]) };
    let first = "FROM (VALUES (1, 'a', 1.5::DOUBLE), (2, NULL, 'nan'::DOUBLE), (3, 'c', NULL)) AS v(id, name, price)";
    assert_eq!(warehouse.load(1, &load, first), Ok(result(3, 0, None)));
    let second = "FROM (VALUES (1, 'a', 1.5::DOUBLE), (2, NULL, 'nan'::DOUBLE), (3, NULL, NULL), (4, 'd', 0)) AS v(id, name, price)";
    assert_eq!(warehouse.load(2, &load, second), Ok(result(1, 1, None)));
    let stamp = |run: i64| at(run).strftime("%Y-%m-%d %H:%M:%S").to_string();
    assert_eq!(
        warehouse.rows("FROM w.t ORDER BY id"),
        [
            format!("1|a|1.5|{}", stamp(1)),
            format!("2|NULL|nan|{}", stamp(1)),
            format!("3|NULL|NULL|{}", stamp(2)),
            format!("4|d|0.0|{}", stamp(2)),
        ]
    );
}

#[test]
fn upsert_works_beside_a_primary_key_and_other_indexes() {
    let warehouse = Warehouse::new();
    warehouse.run(
        "CREATE TABLE w.t (id BIGINT PRIMARY KEY, name VARCHAR, tags VARCHAR[]); CREATE INDEX i ON w.t (name);
         INSERT INTO w.t SELECT range, 'old', ['x'] FROM range(5000)",
    );
    let query =
        "SELECT range AS id, CASE WHEN range % 2 = 0 THEN 'new' ELSE 'old' END AS name, ['x'] AS tags FROM range(6000)";
    assert_eq!(warehouse.load(1, &upsert(&["id"]), query), Ok(result(1000, 2500, None)));
    assert_eq!(warehouse.load(2, &upsert(&["id"]), query), Ok(result(0, 0, None)));
    assert_eq!(
        warehouse.rows("SELECT count(*), count(DISTINCT id), count(*) FILTER (name = 'new') FROM w.t"),
        ["6000|6000|3000"]
    );
}

#[test]
fn upsert_takes_a_key_of_several_columns_and_of_all_columns() {
    let warehouse = Warehouse::new();
    let load = upsert(&["region", "day"]);
    let query = "FROM (VALUES ('eu', DATE '2026-01-01', 1), ('us', DATE '2026-01-01', 2)) AS v(region, day, n)";
    assert_eq!(warehouse.load(1, &load, query), Ok(result(2, 0, None)));
    let query = "FROM (VALUES ('eu', DATE '2026-01-01', 9), ('eu', DATE '2026-01-02', 3)) AS v(region, day, n)";
    assert_eq!(warehouse.load(2, &load, query), Ok(result(1, 1, None)));
    let all = Load { table: "all_keys".to_owned(), ..upsert(&["a", "b"]) };
    assert_eq!(warehouse.load(3, &all, "SELECT 1 AS a, 2 AS b"), Ok(result(1, 0, None)));
    assert_eq!(warehouse.load(4, &all, "SELECT unnest([1, 3]) AS a, 2 AS b"), Ok(result(1, 0, None)));
}

#[test]
fn two_rows_of_one_batch_with_one_key_are_refused_by_count_and_column_not_by_value() {
    let warehouse = Warehouse::new();
    let query = "FROM (VALUES (4711, 'Jane'), (4711, 'Joe'), (1, 'x'), (2, 'y'), (2, 'y')) AS v(customer, name)";
    let failure = warehouse.refuses(1, &upsert(&["customer"]), query);
    assert_eq!(failure.reason, "DuplicateKey");
    assert!(failure.message.contains("(customer)") && failure.message.contains(": 2."), "{failure}");
    assert!(!failure.message.contains("4711") && !failure.message.contains("Jane"), "{failure}");
}

#[test]
fn prefer_chooses_between_rows_with_one_key() {
    let warehouse = Warehouse::new();
    let query = "FROM (VALUES (1, 'f1', 'old'), (1, 'f2', 'new'), (1, NULL, 'unknown'), (2, 'f1', 'b'), (2, 'f1', 'a'))
                 AS v(id, source_file, name)";
    let load = Load { prefer: prefer("source_file", true), ..upsert(&["id"]) };
    assert_eq!(warehouse.load(1, &load, query), Ok(result(2, 0, None)));
    // Where the term ties, the other columns decide, so that a repeat changes nothing.
    assert_eq!(warehouse.rows("FROM w.t ORDER BY id"), ["1|f2|new", "2|f1|a"]);
    assert_eq!(warehouse.load(2, &load, query), Ok(result(0, 0, None)));
    let load = Load { prefer: prefer("source_file", false), ..load };
    assert_eq!(warehouse.load(3, &load, query), Ok(result(0, 1, None)));
    assert_eq!(warehouse.rows("FROM w.t WHERE id = 1"), ["1|f1|old"]);
}

#[test]
fn a_key_that_is_null_is_refused() {
    let warehouse = Warehouse::new();
    let failure = warehouse.refuses(1, &upsert(&["a", "b"]), "SELECT 1 AS a, NULL::INTEGER AS b UNION ALL SELECT 2, 3");
    assert_eq!(failure.reason, "NullKey");
    assert!(failure.message.contains("(a, b): 1."), "{failure}");
}

#[test]
fn an_empty_batch_makes_the_table_and_loads_nothing() {
    for load in [into_table(LoadMode::Append), into_table(LoadMode::Replace), upsert(&["id"])] {
        let warehouse = Warehouse::new();
        let load = Load { stamp: Some("seen".to_owned()), ..load };
        let query = "SELECT 1::BIGINT AS id, 1.5::DECIMAL(12,2) AS price WHERE false";
        assert_eq!(warehouse.load(1, &load, query), Ok(result(0, 0, None)));
        assert_eq!(
            warehouse.rows("SELECT column_name, column_type FROM (DESCRIBE w.t)"),
            ["id|BIGINT", "price|DECIMAL(12,2)", "seen|TIMESTAMP"]
        );
    }
}

#[test]
fn a_broken_constraint_is_named_without_the_value() {
    let warehouse = Warehouse::new();
    warehouse.run("CREATE TABLE w.t (id BIGINT PRIMARY KEY); INSERT INTO w.t VALUES (4711)");
    let failure = warehouse.refuses(1, &into_table(LoadMode::Append), "SELECT 4711 AS id");
    assert_eq!(failure.reason, "ConstraintError");
    assert!(!failure.message.contains("4711"), "{failure}");
    assert_eq!(warehouse.rows("SELECT count(*) FROM w._pintail_loads"), ["0"]);
}

#[test]
fn a_failed_load_leaves_nothing_behind() {
    let warehouse = Warehouse::new();
    warehouse.run("CREATE TABLE w.t (id BIGINT, CHECK (id < 5)); INSERT INTO w.t VALUES (1), (2)");
    let failure = warehouse.refuses(1, &into_table(LoadMode::Replace), "SELECT range AS id FROM range(10)");
    assert_eq!(failure.reason, "ConstraintError");
    assert_eq!(warehouse.rows("FROM w.t"), ["1", "2"]);
}

#[test]
fn the_query_may_name_parameters_and_the_table_it_loads_into() {
    let mut warehouse = Warehouse::new();
    warehouse.fixture.parameter("step", "BIGINT", serde_json::json!(10));
    let load = into_table(LoadMode::Append);
    assert_eq!(warehouse.load(1, &load, "SELECT $step AS id -- first"), Ok(result(1, 0, None)));
    assert_eq!(warehouse.load(2, &load, "SELECT max(id) + $step AS id FROM w.t"), Ok(result(1, 0, None)));
    assert_eq!(warehouse.rows("FROM w.t"), ["10", "20"]);
}

#[test]
fn a_large_batch_is_loaded_by_few_statements() {
    let warehouse = Warehouse::new();
    let load = Load { stamp: Some("loaded_at".to_owned()), prefer: prefer("b", true), ..upsert(&["id"]) };
    let query = "SELECT range % 900000 AS id, range AS b, md5(range::VARCHAR) AS text FROM range(1000000)";
    assert_eq!(warehouse.load(1, &load, query), Ok(result(900_000, 0, None)));
    assert_eq!(warehouse.load(2, &load, query), Ok(result(0, 0, None)));
}

#[test]
fn a_database_that_is_not_written_is_no_target() {
    let warehouse = Warehouse::new();
    for connection in ["nowhere", "temp", "memory"] {
        let load = Load { connection: connection.to_owned(), ..into_table(LoadMode::Append) };
        let failure = warehouse.load(1, &load, "SELECT 1 AS id");
        if connection == "nowhere" {
            assert_eq!(failure.unwrap_err().reason, "InvalidLoad");
        }
    }
}
