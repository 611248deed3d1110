use serde_json::json;

use super::{Fixture, rows};

#[test]
fn a_parameter_has_exactly_its_type_and_value() {
    let mut fixture = Fixture::new();
    for (index, (data_type, value, _)) in cases().iter().enumerate() {
        fixture.parameter(&format!("p{index}"), data_type, value.clone());
    }
    let session = fixture.open().unwrap();
    for (index, (data_type, value, expected)) in cases().iter().enumerate() {
        let query = format!("SELECT typeof($p{index}), $P{index}");
        let canonical = if *data_type == "INT" { "INTEGER" } else { data_type };
        assert_eq!(rows(&session, &query).unwrap(), [format!("{canonical}|{expected}")], "{data_type} {value}");
    }
}

fn cases() -> Vec<(&'static str, serde_json::Value, &'static str)> {
    vec![
        ("BIGINT", json!(-9_007_199_254_740_993_i64), "-9007199254740993"),
        ("BIGINT", json!("9007199254740993"), "9007199254740993"),
        ("INT", json!(null), "NULL"),
        ("BOOLEAN", json!(true), "true"),
        ("DOUBLE", json!(0.1), "0.1"),
        ("DECIMAL(12,2)", json!("1234567890.12"), "1234567890.12"),
        ("DATE", json!("2024-02-29"), "2024-02-29"),
        ("TIMESTAMP", json!("2024-02-29T12:00:00Z"), "2024-02-29 12:00:00"),
        ("TIMESTAMP WITH TIME ZONE", json!("2024-02-29T12:00:00+02:00"), "2024-02-29 10:00:00+00"),
        ("VARCHAR", json!("it's \"$p0\" -- \n; \\ é"), "it's \"$p0\" -- \n; \\ é"),
        ("VARCHAR", json!("'); DROP TABLE x; --"), "'); DROP TABLE x; --"),
        ("VARCHAR[]", json!(["a", null, "it's"]), "[a, NULL, 'it\\'s']"),
        ("STRUCT(a BIGINT, b VARCHAR)", json!({"a": 1, "b": "x"}), "{'a': 1, 'b': x}"),
        ("MAP(VARCHAR, BIGINT)", json!({"k": 1}), "{k=1}"),
        ("BLOB", json!("00ff"), "\\x00\\xFF"),
        ("JSON", json!({"a": [1, "x"]}), "{\"a\":[1,\"x\"]}"),
        ("JSON", json!("text"), "\"text\""),
    ]
}

#[test]
fn parameters_reach_statements_that_wrap_a_query() {
    let mut fixture = Fixture::new();
    fixture.parameter("n", "BIGINT", json!(3)).parameter("names", "VARCHAR[]", json!(["a", "b"]));
    let session = fixture.open().unwrap();
    let file = fixture.folder.path().join("out/x.parquet");
    let copy = format!("COPY (\nSELECT unnest($names) AS x FROM range($n)\n) TO '{}'", file.display());
    assert_eq!(session.execute(&copy, &[]).unwrap(), 6);
    assert_eq!(session.stage("staged", "SELECT $n AS n, $names AS names FROM range($n)", &[]).unwrap(), 3);
    let columns = session.describe("FROM staged", &[]).unwrap();
    assert_eq!(columns[1].data_type, "VARCHAR[]");
    assert_eq!(session.execute("CREATE TABLE other AS SELECT $n AS n, 'x' AS \"AS\" FROM range(2)", &[]).unwrap(), 2);
    assert_eq!(session.execute("SET VARIABLE a = $n", &[]).unwrap_err().reason, "ParameterNotAllowed");
    assert_eq!(session.execute("DELETE FROM staged WHERE n = $n", &[]).unwrap(), 3);
    assert_eq!(session.execute("CREATE TEMP TABLE t AS SELECT 1 AS x", &[]).unwrap(), 1);
}

#[test]
fn a_parameter_that_nothing_gives_is_named_with_near_ones() {
    let mut fixture = Fixture::new();
    fixture.parameter("min_quantity", "BIGINT", json!(1));
    let session = fixture.open().unwrap();
    let failure = rows(&session, "SELECT $min_quantiti").unwrap_err();
    assert_eq!(failure.reason, "UnknownParameter");
    assert!(failure.message.contains("$min_quantiti: did you mean $min_quantity?"), "{failure}");
    for query in ["SELECT ?", "SELECT $1"] {
        assert_eq!(rows(&session, query).unwrap_err().reason, "AnonymousParameter");
    }
}

#[test]
fn a_value_that_is_not_of_its_type_is_refused_without_showing_it() {
    let mut fixture = Fixture::new();
    fixture.parameter("day", "DATE", json!("tomorrowish"));
    let failure = fixture.open().err().unwrap();
    assert_eq!((failure.reason, failure.message.as_str()), ("InvalidParameter", "the value of $day is not a DATE"));
}

#[test]
fn an_error_never_shows_the_value_of_a_parameter() {
    let mut fixture = Fixture::new();
    fixture.parameter("secret", "VARCHAR", json!("hunter2"));
    let session = fixture.open().unwrap();
    for query in [
        "SELECT $secret::BIGINT",
        "SELECT error($secret)",
        "SELECT x FROM range(3) t(x) WHERE x = $secret",
        "SELECT DATE '2020-01-01' + $secret",
        "SELECT missing, $secret",
    ] {
        let failure = rows(&session, query).unwrap_err();
        assert!(!failure.message.contains("hunter2"), "{failure}");
    }
}

#[test]
fn a_query_is_bound_before_the_types_of_its_parameters_are_known() {
    let mut fixture = Fixture::new();
    fixture.parameter("day", "TIMESTAMP", json!("2024-01-01")).parameter("names", "VARCHAR[]", json!(["a", "b"]));
    fixture.parameter("s", "STRUCT(a BIGINT)", json!({"a": 1})).parameter("n", "BIGINT", json!(3));
    let session = fixture.open().unwrap();
    for (query, expected) in [
        ("SELECT $day + INTERVAL 1 DAY", "2024-01-02 00:00:00"),
        ("SELECT date_trunc('month', $day)::DATE", "2024-01-01"),
        ("SELECT $s.a", "1"),
        ("SELECT $names[2]", "b"),
        ("SELECT len($names)", "2"),
        ("SELECT 'a' IN $names", "true"),
        ("SELECT list_filter($names, lambda x: x > 'a')", "[b]"),
        ("SELECT max(x) FROM range($n) t(x) WHERE $n IS NULL OR x < $n LIMIT $n", "2"),
        ("SELECT -$n", "-3"),
        ("PIVOT (SELECT 'x' AS k, $n AS v) ON k IN ('x') USING sum(v)", "3"),
    ] {
        session.check(query).unwrap();
        assert_eq!(rows(&session, query).unwrap(), [expected], "{query}");
    }
}
