use pintail_protocol::{
    CheckDatabase, CheckInput, CheckParameter, CheckQuery, CheckRequest, CheckResponse, CheckTable, CheckTask,
    CheckWork, DatabaseKind, DatabaseTable, FORMAT, How, LineageTarget, OutputKind, ParameterType, ResultColumn,
    ResultLineage, SourceTable, Sources, TableOrigin, TableShape,
};

use super::super::Checker;

fn columns(list: &str) -> Vec<ResultColumn> {
    let column = |text: &str| {
        let (name, data_type) = text.split_once(' ').unwrap();
        ResultColumn { name: name.to_owned(), data_type: data_type.to_owned() }
    };
    list.split(", ").map(column).collect()
}

fn input(name: &str, list: &str) -> CheckInput {
    CheckInput { name: name.to_owned(), shape: Some(TableShape { columns: columns(list), open: false }) }
}

fn task(name: &str, setup: &[&str], sql: &str) -> CheckTask {
    let table = |name: &str| CheckTable { name: name.to_owned(), origin: TableOrigin::Input(name.to_owned()) };
    let query =
        CheckQuery { output: "result".to_owned(), sql: sql.to_owned(), kind: OutputKind::Table, contract: None };
    CheckTask {
        name: name.to_owned(),
        tables: ["t", "u"].map(table).to_vec(),
        parameters: Vec::new(),
        databases: vec![("lake".to_owned(), true)],
        work: CheckWork::DuckDb {
            setup: setup.iter().map(|text| (*text).to_owned()).collect(),
            queries: vec![query],
            load: None,
        },
    }
}

fn check(tasks: Vec<CheckTask>) -> CheckResponse {
    let table = DatabaseTable { name: "k".to_owned(), columns: columns("id BIGINT, note VARCHAR") };
    let lake = CheckDatabase { name: "lake".to_owned(), kind: DatabaseKind::DuckDb, tables: Some(vec![table]) };
    let request = CheckRequest {
        format: FORMAT,
        databases: vec![lake],
        inputs: vec![input("t", "a INTEGER, b VARCHAR, d DATE, l INTEGER[]"), input("u", "a INTEGER, c VARCHAR")],
        scalars: Vec::new(),
        tasks,
        masking: vec!["md5".to_owned(), "sha256".to_owned()],
    };
    let response = Checker::new().unwrap().check(&request).unwrap();
    assert_eq!(response.findings, []);
    response
}

/// `f(t.a)` for a value that is computed of a column, `sum(t.a)` of several rows, `md5(t.a)` for a masked one.
fn shown(sources: &Sources) -> String {
    let one = |source: pintail_protocol::ColumnSource| {
        let table = match source.table {
            SourceTable::Input(name) => name,
            SourceTable::Result { task, .. } | SourceTable::Loaded { task } => task,
            SourceTable::Database { connection, table } => format!("{connection}.{table}"),
        };
        let column = format!("{table}.{}", source.column);
        match source.how {
            _ if source.masked => format!("md5({column})"),
            How::Identity => column,
            How::Transformation => format!("f({column})"),
            How::Aggregation => format!("sum({column})"),
            How::Conditional => format!("if({column})"),
            How::Window => format!("over({column})"),
            How::Filter => format!("where({column})"),
            How::Join => format!("join({column})"),
            How::GroupBy => format!("group({column})"),
            How::Sort => format!("order({column})"),
        }
    };
    sources.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn text(lineage: &ResultLineage) -> String {
    let column = |column: &pintail_protocol::ColumnLineage| {
        let unknown = if column.unknown.is_some() { "?" } else { "" };
        format!("{}{unknown}: {}", column.name, shown(&column.sources))
    };
    let mut lines: Vec<String> = lineage.columns.iter().map(column).collect();
    if !lineage.rows.is_empty() {
        lines.push(format!("rows: {}", shown(&lineage.rows)));
    }
    lines.join("; ")
}

fn of(setup: &[&str], sql: &str) -> String {
    text(check(vec![task("q", setup, sql)]).lineage.last().unwrap())
}

#[test]
fn each_column_comes_from_the_columns_that_give_its_values() {
    for (sql, expected) in [
        ("SELECT a, b AS x FROM t", "a: t.a; x: t.b"),
        ("FROM t", "a: t.a; b: t.b; d: t.d; l: t.l"),
        ("SELECT * EXCLUDE (l, d) REPLACE (a + 1 AS a) FROM t", "a: f(t.a); b: t.b"),
        ("SELECT COLUMNS('a|b') FROM t", "a: t.a; b: t.b"),
        ("SELECT a + length(b) AS x, 1 AS y, a::VARCHAR AS z FROM t", "x: f(t.a) f(t.b); y: ; z: f(t.a)"),
        ("SELECT sum(a) AS s, count(b) AS n, count(*) AS m FROM t", "s: sum(t.a); n: if(t.b); m: "),
        ("SELECT t.b, u.c FROM t JOIN u USING (a)", "b: t.b; c: u.c; rows: join(t.a) join(u.a)"),
        ("SELECT a, b, c FROM t FULL JOIN u USING (a)", "a: f(t.a) f(u.a); b: t.b; c: u.c; rows: join(t.a) join(u.a)"),
        ("SELECT b FROM t WHERE a > 3 ORDER BY d LIMIT 2", "b: t.b; rows: where(t.a) order(t.d)"),
        ("SELECT b, max(a) AS m FROM t GROUP BY b", "b: t.b; m: sum(t.a); rows: group(t.b)"),
        ("SELECT CASE WHEN b = 'x' THEN a END AS x, b IS NULL AS n FROM t", "x: f(t.a) if(t.b); n: if(t.b)"),
        ("SELECT sum(a) FILTER (b = 'x') AS s FROM t", "s: sum(t.a) if(t.b)"),
        ("SELECT lag(b) OVER (PARTITION BY d ORDER BY a) AS x FROM t", "x: over(t.a) f(t.b) over(t.d)"),
        ("SELECT list_transform(l, x -> x + a) AS x, [y * 2 FOR y IN l] AS z FROM t", "x: f(t.a) f(t.l); z: f(t.l)"),
        ("SELECT unnest(l) AS x, b FROM t", "x: f(t.l); b: t.b; rows: join(t.l)"),
        ("SELECT x, b FROM t, unnest(l) AS q(x)", "x: f(t.l); b: t.b; rows: join(t.l)"),
        ("SELECT value FROM t, json_each(b)", "value: f(t.b); rows: join(t.b)"),
        ("SELECT {'x': a, 'y': b} AS s FROM t", "s: f(t.a) f(t.b)"),
        ("SELECT s.y AS y FROM (SELECT {'x': a, 'y': b} AS s FROM t)", "y: f(t.a) f(t.b)"),
        (
            "PIVOT (SELECT a, b, d FROM t) ON b IN ('p', 'q') USING sum(a)",
            "d: t.d; p: sum(t.a) if(t.b); q: sum(t.a) if(t.b); rows: group(t.d)",
        ),
        (
            "SELECT name, value FROM (UNPIVOT (SELECT b, d::VARCHAR AS d FROM t) ON b, d)",
            "name: ; value: f(t.b) f(t.d); rows: where(t.b) where(t.d)",
        ),
        ("VALUES (1, 2)", "col0: ; col1: "),
        ("SELECT x FROM (VALUES (1)) v(x), range(3)", "x: "),
        ("SELECT id, note FROM lake.k", "id: lake.k.id; note: lake.k.note"),
        ("SELECT rowid AS r FROM lake.k", "r: "),
    ] {
        assert_eq!(of(&[], sql), expected, "{sql}");
    }
}

#[test]
fn unions_subqueries_and_with_queries_are_followed() {
    for (sql, expected) in [
        ("SELECT a FROM t UNION ALL SELECT length(c) FROM u", "a: f(t.a) f(u.c)"),
        ("SELECT a FROM t EXCEPT SELECT a FROM u", "a: t.a; rows: where(u.a)"),
        ("WITH x AS (SELECT b AS c FROM t) SELECT c FROM x", "c: t.b"),
        ("WITH x AS MATERIALIZED (SELECT a, b FROM t) SELECT p.a, q.b FROM x p, x q", "a: t.a; b: t.b"),
        (
            "WITH RECURSIVE r AS (SELECT a, b FROM t UNION ALL SELECT r.a + 1, u.c FROM r JOIN u USING (a)) FROM r",
            "a: f(t.a); b: t.b u.c; rows: join(t.a) join(u.a)",
        ),
        ("SELECT (SELECT max(c) FROM u) AS m FROM t", "m: sum(u.c)"),
        (
            "SELECT b, (SELECT max(c) FROM u WHERE u.a = t.a) AS m FROM t",
            "b: t.b; m: sum(u.c); rows: where(t.a) where(u.a)",
        ),
        ("SELECT b FROM t WHERE a IN (SELECT a FROM u)", "b: t.b; rows: where(t.a) where(u.a)"),
        ("SELECT a IN (SELECT a FROM u) AS x FROM t", "x: f(t.a) f(u.a)"),
        ("SELECT b FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)", "b: t.b; rows: where(t.a) where(u.a)"),
        (
            "SELECT b, c FROM t, LATERAL (SELECT c FROM u WHERE u.a = t.a)",
            "b: t.b; c: u.c; rows: where(t.a) where(u.a)",
        ),
        ("SELECT b, c FROM t ASOF JOIN u ON t.a >= u.a", "b: t.b; c: u.c; rows: join(t.a) join(u.a)"),
        ("SELECT b FROM t ANTI JOIN u USING (a)", "b: t.b; rows: join(t.a) join(u.a)"),
        ("SELECT DISTINCT ON (a) a, b FROM t ORDER BY d", "a: t.a; b: t.b; rows: group(t.a) order(t.d)"),
        ("FROM query_table('t') SELECT b", "b: t.b"),
    ] {
        assert_eq!(of(&[], sql), expected, "{sql}");
    }
    assert!(of(&[], "SUMMARIZE SELECT b FROM t").contains("min: sum(t.b); max: sum(t.b)"));
}

#[test]
fn a_masked_column_stays_masked_unless_it_comes_in_the_clear_as_well() {
    for (sql, expected) in [
        ("SELECT md5(b) AS x, sha256('s' || lower(b)) AS y FROM t", "x: md5(t.b); y: md5(t.b)"),
        ("SELECT substr(md5(b), 1, 4) AS x FROM t", "x: md5(t.b)"),
        ("SELECT md5(b) || b AS x FROM t", "x: f(t.b)"),
        ("SELECT hash(b) AS x FROM t", "x: f(t.b)"),
        ("SELECT max(x) AS x FROM (SELECT md5(b) AS x FROM t)", "x: md5(t.b)"),
    ] {
        assert_eq!(of(&[], sql), expected, "{sql}");
    }
    // A macro of that name is what it does.
    assert_eq!(of(&["CREATE TEMP MACRO md5(x) AS upper(x)"], "SELECT md5(b) AS x FROM t"), "x: f(t.b)");
}

#[test]
fn tables_and_macros_of_setup_are_followed() {
    for (setup, sql, expected) in [
        (vec!["CREATE TEMP TABLE w AS SELECT b AS x, md5(b) AS y FROM t"], "FROM w", "x: t.b; y: md5(t.b)"),
        (
            vec!["CREATE TEMP TABLE w (x VARCHAR, n INTEGER)", "INSERT INTO w (n, x) SELECT a, c FROM u"],
            "FROM w",
            "x: u.c; n: u.a",
        ),
        (vec!["CREATE TEMP MACRO top() AS (SELECT max(c) FROM u)"], "SELECT top() AS x FROM t", "x: sum(u.c)"),
        (vec!["CREATE TEMP VIEW v AS SELECT b FROM t"], "FROM v", "b: t.b"),
    ] {
        assert_eq!(of(&setup, sql), expected, "{setup:?} {sql}");
    }
}

#[test]
fn what_cannot_be_followed_comes_from_every_column() {
    let all = "f(t.a) f(t.b) f(t.d) f(t.l) f(u.a) f(u.c) f(lake.k.id) f(lake.k.note)";
    let changed = ["CREATE TEMP TABLE w AS SELECT 1 AS x", "UPDATE w SET x = (SELECT max(a) FROM t)"];
    assert_eq!(of(&changed, "FROM w"), format!("x?: {all}"));
    let variable = ["SET VARIABLE v = 1"];
    assert_eq!(of(&variable, "SELECT getvariable('v') AS x, 2 AS y"), format!("x?: {all}; y?: {all}"));
    // What only decides does not make its columns unknown.
    assert_eq!(of(&changed, "SELECT b FROM t WHERE a IN (SELECT x FROM w)"), "b: t.b; rows: where(t.a)");
}

#[test]
fn what_setup_writes_to_a_database_is_told() {
    let setup = ["CREATE TABLE lake.made AS SELECT b FROM t", "INSERT INTO lake.k SELECT a, b FROM t"];
    let response = check(vec![task("q", &setup, "SELECT note, b FROM lake.k, lake.made")]);
    let written: Vec<(LineageTarget, String)> =
        response.lineage.iter().map(|lineage| (lineage.target.clone(), text(lineage))).collect();
    let table = |name: &str, statement| LineageTarget::Table {
        connection: "lake".to_owned(),
        table: name.to_owned(),
        statement,
    };
    let expected = [
        (table("made", 0), "b: t.b"),
        (table("k", 1), "id: f(t.a); note: t.b"),
        (LineageTarget::Output("result".to_owned()), "note: t.b lake.k.note; b: t.b lake.made.b"),
    ];
    assert_eq!(written, expected.map(|(target, text)| (target, text.to_owned())));
}

#[test]
fn a_parameter_comes_from_the_values_that_it_is_computed_of() {
    let values = task("v", &[], "SELECT max(a) AS top FROM t");
    for (sql, expected) in [
        ("SELECT $top AS x, b FROM t", "x: f(v.top); b: t.b"),
        ("SELECT b FROM t WHERE a = $top", "b: t.b; rows: where(t.a) where(v.top)"),
        ("SELECT b FROM t LIMIT $top", "b: t.b"),
        // A constant is demanded: the value may be in any column.
        ("SELECT round(a::DOUBLE, $top) AS x FROM t", "x: f(t.a) f(v.top)"),
        ("SELECT $plain AS x", "x: "),
        // Its value is not known; what is computed with it still comes from the column.
        ("SELECT sha256($plain || b) AS x, a + $plain AS y FROM t", "x: md5(t.b); y: f(t.a)"),
        ("SELECT round(a::DOUBLE, $plain) AS x FROM t", "x: f(t.a)"),
    ] {
        let mut reader = task("q", &[], sql);
        let name = if sql.contains("$plain") { "plain" } else { "top" };
        let columns = vec![("v".to_owned(), "result".to_owned(), "top".to_owned())];
        reader.parameters.push(CheckParameter {
            name: name.to_owned(),
            data_type: ParameterType::Known("INTEGER".to_owned()),
            example: None,
            is_named: true,
            columns: if name == "plain" { Vec::new() } else { columns },
        });
        let response = check(vec![values.clone(), reader]);
        assert_eq!(text(response.lineage.last().unwrap()), expected, "{sql}");
    }
}
