use super::*;

#[test]
fn odd_column_names_are_only_names() {
    let warehouse = Warehouse::new();
    let load = Load { stamp: Some("loaded \"at\"".to_owned()), ..upsert(&["sélect \"x\"", "order"]) };
    let query = r#"SELECT 1 AS "sélect ""x""", 2 AS "order", 'v' AS "it's; -- $x", 7 AS rowid, [1] AS "a.b""#;
    assert_eq!(warehouse.load(1, &load, query), Ok(result(1, 0, None)));
    let changed = query.replace("'v'", "'w'");
    let twice = format!("{changed} UNION ALL {changed}");
    assert_eq!(warehouse.refuses(2, &load, &twice).reason, "DuplicateKey");
    let load = Load { prefer: prefer("it's; -- $x", false), ..load };
    assert_eq!(warehouse.load(3, &load, &twice), Ok(result(0, 1, None)));
    assert_eq!(warehouse.rows(r#"SELECT "it's; -- $x", rowid, "loaded ""at""" IS NULL FROM w.t"#), ["w|7|false"]);
}

#[test]
fn odd_table_and_schema_names_are_only_names() {
    let warehouse = Warehouse::new();
    warehouse.run(r#"CREATE SCHEMA w."my ""schema""""#);
    let load = Load {
        schema: Some("my \"schema\"".to_owned()),
        table: "tä'ble \"1\"".to_owned(),
        ..into_table(LoadMode::Append)
    };
    assert_eq!(warehouse.load(1, &load, "SELECT 1 AS id"), Ok(result(1, 0, None)));
    assert_eq!(warehouse.load(2, &load, "SELECT 2 AS id"), Ok(result(1, 0, None)));
    assert_eq!(warehouse.rows(r#"SELECT count(*) FROM w."my ""schema"""._pintail_loads"#), ["2"]);
}

#[test]
fn columns_meet_by_name_whatever_their_case_and_order() {
    let warehouse = Warehouse::new();
    warehouse.run("CREATE TABLE w.t (\"Id\" BIGINT, \"Name\" VARCHAR, extra INTEGER DEFAULT 5)");
    let load = upsert(&["ID"]);
    assert_eq!(warehouse.load(1, &load, "SELECT 'a' AS NAME, 1 AS id"), Ok(result(1, 0, None)));
    assert_eq!(warehouse.load(2, &load, "SELECT 'b' AS name, 1 AS \"iD\""), Ok(result(0, 1, None)));
    assert_eq!(warehouse.rows("FROM w.t"), ["1|b|5"]);
}

#[test]
fn a_column_that_the_table_lacks_is_refused_in_every_mode() {
    for load in [into_table(LoadMode::Append), into_table(LoadMode::Replace), upsert(&["id"])] {
        let warehouse = Warehouse::new();
        warehouse.run("CREATE TABLE w.t (id BIGINT, a VARCHAR)");
        let failure = warehouse.refuses(1, &load, "SELECT 1 AS id, 'x' AS a, 'y' AS b");
        assert_eq!(failure.reason, "ColumnsDiffer");
        assert!(
            failure.message.contains("w.main.t has no column b: the query gives id, a, b; the table has id, a."),
            "{failure}"
        );
    }
}

#[test]
fn a_stamp_that_the_query_gives_or_the_table_lacks_is_refused() {
    let warehouse = Warehouse::new();
    let load = Load { stamp: Some("loaded_at".to_owned()), ..into_table(LoadMode::Append) };
    assert_eq!(warehouse.refuses(1, &load, "SELECT 1 AS id, now() AS Loaded_At").reason, "ColumnsDiffer");
    warehouse.run("CREATE TABLE w.t (id INTEGER)");
    let failure = warehouse.refuses(1, &load, "SELECT 1 AS id");
    assert!(failure.message.contains("has no column loaded_at"), "{failure}");
}

#[test]
fn a_stamp_may_be_a_time_with_zone() {
    let warehouse = Warehouse::new();
    warehouse.run("CREATE TABLE w.t (id INTEGER, loaded_at TIMESTAMPTZ)");
    let load = Load { stamp: Some("loaded_at".to_owned()), ..into_table(LoadMode::Append) };
    warehouse.load(1, &load, "SELECT 1 AS id").unwrap();
    let expected = at(1).strftime("%Y-%m-%d %H:%M:%S+00").to_string();
    assert_eq!(warehouse.rows("SELECT loaded_at FROM w.t"), [expected]);
    warehouse.run("DROP TABLE w.t; CREATE TABLE w.t (id INTEGER, loaded_at VARCHAR)");
    assert_eq!(warehouse.refuses(2, &load, "SELECT 1 AS id").reason, "ColumnTypes");
}

#[test]
fn a_column_that_the_load_names_must_be_in_the_query() {
    let warehouse = Warehouse::new();
    let with_key = upsert(&["nokey"]);
    let with_prefer = Load { prefer: prefer("nofile", true), ..upsert(&["id"]) };
    let with_watermark = Load { watermark: Some(watermark("noday", None)), ..into_table(LoadMode::Append) };
    for (load, name) in [(with_key, "nokey"), (with_prefer, "nofile"), (with_watermark, "noday")] {
        let failure = warehouse.refuses(1, &load, "SELECT 1 AS id");
        assert_eq!(failure.reason, "ColumnsDiffer");
        assert!(failure.message.contains(&format!("column `{name}` is not in the query")), "{failure}");
    }
}

#[test]
fn a_type_that_could_change_a_value_is_refused() {
    let warehouse = Warehouse::new();
    warehouse.run("CREATE TABLE w.t (id BIGINT, price DECIMAL(12,2), n INTEGER)");
    let failure = warehouse.refuses(1, &upsert(&["id"]), "SELECT '1' AS id, 1.5::DOUBLE AS price, 1 AS n");
    assert_eq!(failure.reason, "ColumnTypes");
    assert!(
        failure.message.contains("`id` is VARCHAR in the query and BIGINT in the table; `price` is DOUBLE"),
        "{failure}"
    );
}

#[test]
fn a_wider_number_is_taken_where_each_value_fits() {
    let warehouse = Warehouse::new();
    warehouse.run("CREATE TABLE w.t (id BIGINT, total INTEGER)");
    let load = upsert(&["id"]);
    assert_eq!(warehouse.load(1, &load, "SELECT 1 AS id, sum(range) AS total FROM range(10)"), Ok(result(1, 0, None)));
    let failure = warehouse.refuses(2, &load, "SELECT 1 AS id, 30077700777 AS total");
    assert_eq!(failure.reason, "ConversionError");
    assert!(!failure.message.contains("30077700777"), "{failure}");
    assert_eq!(warehouse.rows("FROM w.t"), ["1|45"]);
}

#[test]
fn nested_values_and_times_with_zone_come_back_as_they_went() {
    let warehouse = Warehouse::new();
    let query = "SELECT 1 AS id, {'a': 1, 'b c': [1.5, NULL]} AS s, MAP {'k': 'v'} AS m, TIMESTAMPTZ '2026-03-29 01:30:00+01' AS z,
                 'x'::ENUM('x', 'y') AS e, '{\"a\": 1}'::JSON AS j, '\\x00'::BLOB AS b, uuid_nil AS u
                 FROM (SELECT '00000000-0000-0000-0000-000000000000'::UUID AS uuid_nil)";
    assert_eq!(warehouse.load(1, &upsert(&["id"]), query), Ok(result(1, 0, None)));
    assert_eq!(warehouse.load(2, &upsert(&["id"]), query), Ok(result(0, 0, None)));
    assert_eq!(warehouse.load(3, &upsert(&["id"]), &query.replace("1.5", "1.6")), Ok(result(0, 1, None)));
    assert_eq!(warehouse.rows("SELECT z, s['b c'][1] FROM w.t"), ["2026-03-29 00:30:00+00|1.6"]);
}
