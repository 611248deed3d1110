use serde_json::json;

use super::*;

#[test]
fn types_are_written_as_duckdb_writes_them() {
    for (given, written) in [
        ("bigint", "BIGINT"),
        ("int", "INTEGER"),
        ("text", "VARCHAR"),
        ("VARCHAR(20)", "VARCHAR"),
        ("decimal", "DECIMAL(18,3)"),
        ("numeric(12, 2)", "DECIMAL(12,2)"),
        ("varchar[]", "VARCHAR[]"),
        ("int[3][]", "INTEGER[3][]"),
        ("double precision", "DOUBLE"),
        ("timestamp with time zone", "TIMESTAMP WITH TIME ZONE"),
        (
            "struct(a int, \"B c\" map(varchar, decimal(3,1)[]))",
            "STRUCT(a INTEGER, \"B c\" MAP(VARCHAR, DECIMAL(3,1)[]))",
        ),
        ("enum('a', 'it''s')", "ENUM('a', 'it''s')"),
        ("union(num int, str varchar)[]", "UNION(num INTEGER, str VARCHAR)[]"),
    ] {
        assert_eq!(Type::parse(given).map(|parsed| parsed.to_string()), Ok(written.to_owned()), "{given}");
        assert_eq!(Type::parse(written).map(|parsed| parsed.to_string()), Ok(written.to_owned()), "{written}");
    }
}

#[test]
fn text_that_is_no_type_is_refused_with_a_hint() {
    for (given, hint) in [
        ("int64", Some("`BIGINT`")),
        ("VARCHR", Some("`VARCHAR`")),
        ("DECIMAL(2,3)", None),
        ("DECIMAL(40)", None),
        ("STRUCT()", None),
        ("STRUCT(a INT, A INT)", None),
        ("MAP(VARCHAR)", None),
        ("BIGINT)", None),
        ("BIGINT; DROP TABLE x", None),
        ("", None),
        ("'", None),
    ] {
        let found = Type::parse(given).expect_err(given);
        assert_eq!(found.suggestion.as_deref(), hint, "{given}: {}", found.message);
    }
    assert!(Type::parse(&format!("INT{}", "[]".repeat(400))).is_err());
    assert!(Type::parse(&"STRUCT(a ".repeat(100)).is_err());
}

#[test]
fn literals_fit_their_type_or_not() {
    for (data_type, value, fits) in [
        ("BIGINT", json!(1), true),
        ("BIGINT", json!(1.5), false),
        ("BIGINT", json!("1"), false),
        ("TINYINT", json!(128), false),
        ("TINYINT", json!(-128), true),
        ("UBIGINT", json!(u64::MAX), true),
        ("UTINYINT", json!(-1), false),
        ("DOUBLE", json!(1), true),
        ("DECIMAL(5,2)", json!("123.45"), true),
        ("DECIMAL(5,2)", json!(123.45), true),
        ("DECIMAL(5,2)", json!("1234.5"), false),
        ("DECIMAL(5,2)", json!("1.234"), false),
        ("DATE", json!("2024-02-30"), false),
        ("DATE", json!("2024-02-29"), true),
        ("TIMESTAMP", json!("2024-02-29"), true),
        ("TIMESTAMP", json!("2024-02-29 10:00:00"), true),
        ("TIMESTAMP", json!("2024-02-29T10:00:00Z"), true),
        ("TIMESTAMP", json!("yesterday"), false),
        ("TIME", json!("10:00"), true),
        ("VARCHAR", json!(1), false),
        ("VARCHAR[]", json!(["a"]), true),
        ("VARCHAR[]", json!([1]), false),
        ("INT[2]", json!([1]), false),
        ("STRUCT(a INT)", json!({"a": 1}), true),
        ("STRUCT(a INT)", json!({"b": 1}), false),
        ("MAP(VARCHAR, INT)", json!({"x": 1}), true),
        ("ENUM('a')", json!("b"), false),
        ("JSON", json!({"x": []}), true),
        ("BOOLEAN", json!("true"), false),
    ] {
        let parsed = Type::parse(data_type).expect(data_type);
        assert_eq!(parsed.check(&value).is_ok(), fits, "{data_type} {value}");
    }
}
