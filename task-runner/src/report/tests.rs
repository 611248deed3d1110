use std::process::Command;

use pintail_protocol::{Chart, Mark, ReportTable};

use super::*;
use crate::sql::identifier;
use crate::tests::Fixture;

fn session(setup: &str) -> (Fixture, Session) {
    let fixture = Fixture::new();
    let session = fixture.open().unwrap();
    session.batch(setup, "make the test's tables").unwrap();
    (fixture, session)
}

fn chart(relation: &str, mark: Mark, x: &str, ys: &[&str]) -> Chart {
    Chart {
        relation: relation.to_owned(),
        mark,
        x_column: x.to_owned(),
        y_columns: ys.iter().map(|y| (*y).to_owned()).collect(),
        color_column: None,
        title: None,
    }
}

fn table(relation: &str, limit: u32) -> ReportTable {
    ReportTable { relation: relation.to_owned(), title: None, limit }
}

fn report(charts: Vec<Chart>, tables: Vec<ReportTable>) -> ReportWork {
    ReportWork { title: "Title".to_owned(), text: String::new(), charts, tables }
}

fn specification(session: &Session, chart: &Chart) -> Value {
    chart::drawing(session, chart).unwrap().specification
}

/// The document after its scripts have run in Chromium, with no network but the loopback.
fn rendered(html: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    std::fs::write(&page, html).unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("chromium runs; `make setup` installs it");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_kind_of_chart_is_drawn_in_a_browser_under_the_pages_policy() {
    let (_fixture, session) = session(
        "CREATE TEMP TABLE t AS SELECT range::INTEGER AS n, DATE '2024-01-01' + range::INTEGER AS day, \
         'k' || range AS k, range * 1.5 AS a, 20 - range AS b, 'g' || range % 3 AS g FROM range(20); \
         CREATE TEMP TABLE none AS SELECT * FROM t WHERE false;",
    );
    let mut colored = chart("t", Mark::Bar, "k", &["a"]);
    colored.color_column = Some("g".to_owned());
    let charts = vec![
        chart("t", Mark::Bar, "k", &["a", "b"]),
        colored,
        chart("t", Mark::Line, "day", &["a", "b"]),
        chart("t", Mark::Area, "n", &["a"]),
        chart("t", Mark::Point, "a", &["b"]),
        chart("none", Mark::Bar, "k", &["a"]),
    ];
    let drawn = rendered(&page(&session, &report(charts, vec![]), &Fixture::new().order.identity).unwrap());
    assert!(drawn.contains("data-charts=\"drawn\""), "{}", &drawn[..drawn.len().min(2000)]);
    assert_eq!(drawn.matches("<svg ").count(), 6);
    assert_eq!(drawn.matches("aria-roledescription=\"bar\"").count(), 60);
}

#[test]
fn a_chart_that_cannot_be_drawn_says_so_in_its_place() {
    let drawing = chart::Drawing {
        title: "Broken".to_owned(),
        description: "Broken".to_owned(),
        note: None,
        specification: serde_json::json!({ "mark": "none of those" }),
    };
    let identity = Fixture::new().order.identity;
    let drawn = rendered(&assemble(&report(vec![], vec![]), &[drawing], "", &identity));
    assert!(drawn.contains("data-charts=\"failed\"") && drawn.contains("This chart could not be drawn: "));
}

#[test]
fn data_and_names_are_text_and_never_markup() {
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&";
    let (_fixture, session) =
        session(&format!("CREATE TEMP TABLE t AS SELECT {} AS {}, 1 AS n", crate::sql::text(evil), identifier(evil)));
    let mut work = report(vec![chart("t", Mark::Bar, evil, &["n"])], vec![table("t", 5)]);
    (work.title, work.text) = (evil.to_owned(), evil.to_owned());
    (work.charts[0].title, work.tables[0].title) = (Some(evil.to_owned()), Some(evil.to_owned()));
    let mut identity = Fixture::new().order.identity;
    identity.workflow = evil.to_owned();
    let html = page(&session, &work, &identity).unwrap();
    let (head, _) = html.split_once("<script>").unwrap();
    assert!(!head.contains("<img") && !head.contains("<script>"), "{head}");
    let drawn = rendered(&html);
    assert!(drawn.contains("data-charts=\"drawn\""));
    assert_eq!(drawn.matches("<img").count(), 0);
    assert_eq!(drawn.matches("<script").count(), 3);
}

#[test]
fn the_page_runs_only_scripts_that_its_policy_names_by_digest() {
    let (_fixture, session) = session("CREATE TEMP TABLE t AS SELECT 1 AS n, 'a' AS k");
    let html =
        page(&session, &report(vec![chart("t", Mark::Bar, "k", &["n"])], vec![]), &Fixture::new().order.identity);
    let html = html.unwrap();
    let policy = html.split_once("Content-Security-Policy\" content=\"").unwrap().1.split_once('"').unwrap().0;
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    for script in html.split("<script>").skip(1).map(|rest| rest.split_once("</script>").unwrap().0) {
        assert!(policy.contains(&source(script)));
    }
    let without = page(&session, &report(vec![], vec![table("t", 5)]), &Fixture::new().order.identity).unwrap();
    assert!(
        without.contains("script-src 'none'") && without.contains("data-charts=\"drawn\"") && without.len() < 20_000
    );
}

#[test]
fn a_chart_has_at_most_5000_rows_and_says_where_there_are_more() {
    let (_fixture, session) = session("CREATE TEMP TABLE t AS SELECT range AS n FROM range(6000)");
    let drawing = chart::drawing(&session, &chart("t", Mark::Point, "n", &["n"])).unwrap();
    assert_eq!(drawing.specification["data"]["values"].as_array().unwrap().len(), 5000);
    assert_eq!(drawing.note.as_deref(), Some("First 5000 of 6000 rows."));
    session.batch("CREATE TEMP TABLE few AS FROM t LIMIT 5000", "make a table").unwrap();
    assert_eq!(chart::drawing(&session, &chart("few", Mark::Point, "n", &["n"])).unwrap().note, None);
}

#[test]
fn the_type_of_a_column_decides_how_the_horizontal_axis_is_drawn() {
    let (_fixture, session) = session(
        "CREATE TEMP TABLE t AS SELECT 1.50::DECIMAL(9,2) AS price, TIMESTAMP '2024-01-01 12:00' AS at, 'x' AS k, true AS yes, 1 AS n",
    );
    for (mark, column, expected_type, expected_value) in [
        (Mark::Line, "price", "quantitative", serde_json::json!(1.5)),
        (Mark::Line, "at", "temporal", serde_json::json!(1_704_110_400_000.0)),
        (Mark::Line, "k", "nominal", serde_json::json!("x")),
        (Mark::Point, "yes", "nominal", serde_json::json!("true")),
        (Mark::Bar, "price", "nominal", serde_json::json!("1.50")),
        (Mark::Bar, "AT", "nominal", serde_json::json!("2024-01-01 12:00:00")),
    ] {
        let drawn = specification(&session, &chart("t", mark, column, &["n"]));
        assert_eq!(drawn["encoding"]["x"]["type"], expected_type, "{column}");
        assert_eq!(drawn["data"]["values"][0]["x"], expected_value, "{column}");
    }
}

#[test]
fn bars_stand_in_the_order_of_the_rows_with_short_dates() {
    let (_fixture, session) = session(
        "CREATE TEMP TABLE t AS FROM (VALUES (DATE '2024-03-01', 3), (DATE '2024-01-01', 1), (NULL, 2), (DATE '2024-02-01', NULL)) v(month, n); \
         CREATE TEMP TABLE days AS SELECT month + INTERVAL 1 DAY AS day, n FROM t",
    );
    let months = specification(&session, &chart("t", Mark::Bar, "month", &["n"]));
    assert_eq!(months["encoding"]["x"]["sort"], Value::Null);
    let values =
        serde_json::json!([{ "x": "2024-03", "y": 3.0 }, { "x": "2024-01", "y": 1.0 }, { "x": null, "y": 2.0 }]);
    assert_eq!(months["data"]["values"], values);
    let days = specification(&session, &chart("days", Mark::Bar, "day", &["n"]));
    assert_eq!(days["data"]["values"][0]["x"], "2024-03-02");
}

#[test]
fn several_vertical_columns_are_told_apart_by_colour() {
    let (_fixture, session) = session("CREATE TEMP TABLE t AS SELECT 'k' AS k, 1 AS a, 2 AS b, 'inf'::DOUBLE AS c");
    let drawn = specification(&session, &chart("t", Mark::Bar, "k", &["a", "b", "c"]));
    let values = serde_json::json!([{ "x": "k", "y": 1.0, "s": "a" }, { "x": "k", "y": 2.0, "s": "b" }]);
    assert_eq!(drawn["data"]["values"], values);
    assert_eq!(drawn["encoding"]["xOffset"]["field"], "s");
}

#[test]
fn a_chart_of_a_wrong_column_is_refused_by_name() {
    let (_fixture, session) = session("CREATE TEMP TABLE t AS SELECT 'k' AS k, 1 AS a");
    let failure = |x: &str, y: &str| {
        let work = report(vec![chart("t", Mark::Bar, x, &[y])], vec![]);
        page(&session, &work, &Fixture::new().order.identity).unwrap_err()
    };
    let unknown = failure("kk", "a");
    assert_eq!(unknown.reason, "UnknownColumn");
    assert_eq!(unknown.message, "chart 1: table `t` has no column `kk`; it has `k`, `a`");
    let text = failure("a", "k");
    assert_eq!(text.reason, "WrongColumnType");
    assert!(text.message.contains("column `k` of table `t` is VARCHAR"), "{text}");
}

#[test]
fn a_table_shows_its_first_rows_and_how_many_there_are() {
    let (_fixture, session) = session(
        "CREATE TEMP TABLE t AS SELECT range AS n, range / 3 AS third, 'x' || range AS k, NULL::DATE AS d FROM range(7)",
    );
    let html = table::card(&session, &table("t", 2)).unwrap();
    assert!(html.contains("2 of 7 rows"), "{html}");
    let expected = "<tr><td class=\"number\">1</td><td class=\"number\">0.3333</td><td>x1</td><td><span class=\"null\">null</span></td></tr>";
    assert!(html.contains(expected), "{html}");
    session.batch("CREATE TEMP TABLE one AS FROM t LIMIT 1", "make a table").unwrap();
    assert!(table::card(&session, &table("one", 2)).unwrap().contains("1 of 1 row<"));
}

#[test]
fn long_texts_are_cut_between_letters() {
    assert_eq!(shortened("äöü", 3), "äöü");
    assert_eq!(shortened("äöü", 2), "äö…");
    let (_fixture, session) = session("CREATE TEMP TABLE t AS SELECT repeat('é', 10000) AS k, 1 AS n");
    let html = page(
        &session,
        &report(vec![chart("t", Mark::Bar, "k", &["n"])], vec![table("t", 1)]),
        &Fixture::new().order.identity,
    );
    assert!(html.unwrap().matches('é').count() <= 600);
}

#[test]
fn the_page_says_what_made_it() {
    let (_fixture, session) = session("SELECT 1");
    let html = page(&session, &report(vec![], vec![]), &Fixture::new().order.identity).unwrap();
    for fact in ["<dd>workflow</dd>", "<dd>run</dd>", "<dd>1970-01-01 00:00:00 UTC</dd>", env!("CARGO_PKG_VERSION")] {
        assert!(html.contains(fact), "{fact}");
    }
}

#[test]
fn paragraphs_are_parted_by_empty_lines() {
    assert_eq!(paragraphs("a\nb\n\n \nc\n"), ["a\nb", "c"]);
    assert_eq!(paragraphs(""), Vec::<String>::new());
}
