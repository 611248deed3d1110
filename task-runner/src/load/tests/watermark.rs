use super::*;

fn hourly(mode: LoadMode, overlap: Option<Overlap>) -> Load {
    let key = if mode == LoadMode::Upsert { vec!["id".to_owned()] } else { Vec::new() };
    Load {
        key,
        stamp: Some("loaded_at".to_owned()),
        watermark: Some(watermark("pickup_at", overlap)),
        ..into_table(mode)
    }
}

/// Rows `(id, pickup_at)` of one day.
fn trips(rows: &[(u32, &str)]) -> String {
    let rows: Vec<_> = rows.iter().map(|(id, time)| format!("({id}, TIMESTAMP '2026-01-01 {time}')")).collect();
    format!("SELECT * FROM (VALUES {}) AS v(id, pickup_at)", rows.join(", "))
}

#[test]
fn append_loads_the_row_at_the_watermark_once() {
    let warehouse = Warehouse::new();
    let load = hourly(LoadMode::Append, None);
    let first = trips(&[(1, "10:00:00"), (2, "11:00:00")]);
    assert_eq!(warehouse.load(1, &load, &first), Ok(result(2, 0, Some("2026-01-01 11:00:00"))));
    assert_eq!(warehouse.load(2, &load, &first), Ok(result(0, 0, Some("2026-01-01 11:00:00"))));
    let more = trips(&[(1, "10:00:00"), (2, "11:00:00"), (3, "11:00:00"), (4, "11:00:00.000001")]);
    assert_eq!(warehouse.load(3, &load, &more), Ok(result(1, 0, Some("2026-01-01 11:00:00.000001"))));
    assert_eq!(warehouse.rows("SELECT id FROM w.t"), ["1", "2", "4"]);
}

#[test]
fn a_late_row_within_the_overlap_is_caught_once() {
    let warehouse = Warehouse::new();
    let load = hourly(LoadMode::Upsert, HOUR);
    let mut rows = vec![(1, "10:00:00"), (2, "12:00:00")];
    assert_eq!(warehouse.load(1, &load, &trips(&rows)), Ok(result(2, 0, Some("2026-01-01 12:00:00"))));
    assert_eq!(warehouse.load(2, &load, &trips(&rows)), Ok(result(0, 0, Some("2026-01-01 12:00:00"))));
    rows.extend([(3, "11:00:00"), (4, "10:59:59"), (5, "12:00:00")]);
    assert_eq!(warehouse.load(3, &load, &trips(&rows)), Ok(result(2, 0, Some("2026-01-01 12:00:00"))));
    assert_eq!(warehouse.load(4, &load, &trips(&rows)), Ok(result(0, 0, Some("2026-01-01 12:00:00"))));
    assert_eq!(warehouse.rows("SELECT id FROM w.t ORDER BY id"), ["1", "2", "3", "5"]);
    assert_eq!(warehouse.rows("SELECT count(DISTINCT loaded_at) FROM w.t WHERE id IN (1, 2)"), ["1"]);
}

#[test]
fn the_watermark_never_moves_back() {
    let warehouse = Warehouse::new();
    let load = hourly(LoadMode::Upsert, HOUR);
    warehouse.load(1, &load, &trips(&[(1, "12:00:00")])).unwrap();
    let late = trips(&[(2, "11:30:00")]);
    assert_eq!(warehouse.load(2, &load, &late), Ok(result(1, 0, Some("2026-01-01 12:00:00"))));
    let empty = format!("{late} WHERE false");
    assert_eq!(warehouse.load(3, &load, &empty), Ok(result(0, 0, Some("2026-01-01 12:00:00"))));
}

#[test]
fn until_leaves_rows_from_there_on_for_later() {
    let warehouse = Warehouse::new();
    let rows = trips(&[(1, "10:00:00"), (2, "11:00:00"), (3, "12:00:00")]);
    let mut load = hourly(LoadMode::Append, None);
    let until = |text: &str| Some(Watermark { until: Some(text.to_owned()), ..watermark("pickup_at", None) });
    load.watermark = until("2026-01-01T11:00:00Z");
    assert_eq!(warehouse.load(1, &load, &rows), Ok(result(1, 0, Some("2026-01-01 10:00:00"))));
    load.watermark = until("2026-01-01 12:00:00");
    assert_eq!(warehouse.load(2, &load, &rows), Ok(result(1, 0, Some("2026-01-01 11:00:00"))));
    load.watermark = until("soon");
    assert_eq!(warehouse.refuses(3, &load, &rows).reason, "WatermarkType");
    load.watermark = Some(watermark("pickup_at", None));
    assert_eq!(warehouse.load(4, &load, &rows), Ok(result(1, 0, Some("2026-01-01 12:00:00"))));
}

#[test]
fn a_row_without_a_watermark_is_refused_also_where_the_filter_would_hide_it() {
    let warehouse = Warehouse::new();
    let load = hourly(LoadMode::Append, None);
    let with_null = format!("{} UNION ALL SELECT 9, NULL", trips(&[(1, "10:00:00")]));
    let failure = warehouse.refuses(1, &load, &with_null);
    assert_eq!(failure.reason, "NullWatermark");
    assert!(failure.message.contains("`pickup_at`: 1."), "{failure}");
    warehouse.load(2, &load, &trips(&[(1, "10:00:00")])).unwrap();
    assert_eq!(warehouse.refuses(3, &load, &with_null).reason, "NullWatermark");
    let endless = format!("{} UNION ALL SELECT 9, 'infinity'::TIMESTAMP", trips(&[(1, "10:00:00")]));
    assert_eq!(warehouse.refuses(4, &load, &endless).reason, "NullWatermark");
    assert_eq!(warehouse.rows("SELECT count(*) FROM w.t"), ["1"]);
}

#[test]
fn numbers_dates_and_times_with_zone_are_watermarks() {
    let one = Some(Overlap::Number(1));
    for (data_type, overlap, values, last) in [
        ("INTEGER", one, ["1", "2", "5"], "5"),
        ("UTINYINT", Some(Overlap::Number(200)), ["0", "1", "2"], "2"),
        ("UBIGINT", one, ["0", "1", "18446744073709551615"], "18446744073709551615"),
        (
            "HUGEINT",
            one,
            ["-5", "1", "170141183460469231731687303715884105727"],
            "170141183460469231731687303715884105727",
        ),
        ("DECIMAL(6,2)", one, ["1.25", "2.50", "9999.99"], "9999.99"),
        ("DOUBLE", one, ["0.1", "0.2", "0.30000000000000004"], "0.30000000000000004"),
        ("DATE", HOUR, ["2026-01-01", "2026-01-02", "2026-01-03"], "2026-01-03"),
        ("TIMESTAMP_S", HOUR, ["2026-01-01", "2026-01-02", "2026-01-03"], "2026-01-03 00:00:00"),
        (
            "TIMESTAMP_NS",
            None,
            ["2026-01-01", "2026-01-02", "2026-01-03 00:00:00.000000001"],
            "2026-01-03 00:00:00.000000001",
        ),
        ("TIMESTAMPTZ", HOUR, ["2026-01-01", "2026-01-02", "2026-01-03 01:00:00+01"], "2026-01-03 00:00:00+00"),
    ] {
        let warehouse = Warehouse::new();
        let query = |count: usize| {
            let rows: Vec<_> =
                values[..count].iter().map(|value| format!("SELECT '{value}'::{data_type} AS v")).collect();
            rows.join(" UNION ALL ")
        };
        let load = Load { watermark: Some(watermark("v", overlap)), ..upsert(&["v"]) };
        assert_eq!(warehouse.load(1, &load, &query(2)).unwrap().rows, 2, "{data_type}");
        assert_eq!(warehouse.load(2, &load, &query(3)), Ok(result(1, 0, Some(last))), "{data_type}");
        assert_eq!(warehouse.load(3, &load, &query(3)), Ok(result(0, 0, Some(last))), "{data_type}");
    }
}

#[test]
fn a_column_that_does_not_grow_is_no_watermark() {
    let warehouse = Warehouse::new();
    let load = |overlap| Load { watermark: Some(watermark("v", overlap)), ..upsert(&["v"]) };
    for (query, overlap) in [
        ("SELECT 'x' AS v", None),
        ("SELECT 1 AS v", HOUR),
        ("SELECT DATE '2026-01-01' AS v", Some(Overlap::Number(1))),
    ] {
        assert_eq!(warehouse.refuses(1, &load(overlap), query).reason, "WatermarkType", "{query}");
    }
}

#[test]
fn a_dropped_table_is_loaded_from_the_beginning() {
    let warehouse = Warehouse::new();
    let load = hourly(LoadMode::Append, None);
    warehouse.load(1, &load, &trips(&[(1, "10:00:00"), (2, "12:00:00")])).unwrap();
    warehouse.run("DROP TABLE w.t");
    let rows = trips(&[(1, "10:00:00")]);
    assert_eq!(warehouse.load(2, &load, &rows), Ok(result(1, 0, Some("2026-01-01 10:00:00"))));
    // What was recorded of the table before it was dropped holds no more.
    let rows = trips(&[(1, "10:00:00"), (2, "11:00:00")]);
    assert_eq!(warehouse.load(3, &load, &rows), Ok(result(1, 0, Some("2026-01-01 11:00:00"))));
}

#[test]
fn each_task_has_a_watermark_of_its_own_for_each_table() {
    let warehouse = Warehouse::new();
    let load = hourly(LoadMode::Append, None);
    warehouse.load(1, &load, &trips(&[(1, "12:00:00")])).unwrap();
    let other = Identity { task: "other".to_owned(), ..warehouse.identity(1) };
    let earlier = trips(&[(2, "10:00:00")]);
    let loaded = super::load_alone(&warehouse.session(), &other, &load, &earlier, at(2));
    assert_eq!(loaded, Ok(result(1, 0, Some("2026-01-01 10:00:00"))));
    let load = Load { table: "u".to_owned(), ..load };
    assert_eq!(warehouse.load(3, &load, &earlier), Ok(result(1, 0, Some("2026-01-01 10:00:00"))));
}

#[test]
fn a_watermark_of_another_column_or_type_is_not_taken() {
    let warehouse = Warehouse::new();
    let load = |column| Load { watermark: Some(watermark(column, None)), ..into_table(LoadMode::Append) };
    warehouse.load(1, &load("day"), "SELECT DATE '2026-01-01' AS day, 5 AS number").unwrap();
    let query = "SELECT DATE '2026-01-02' AS day, 6 AS number";
    let failure = warehouse.refuses(2, &load("number"), query);
    assert_eq!(failure.reason, "WatermarkChanged");
    assert!(failure.message.contains("set `watermark` to NULL in"), "{failure}");
    assert_eq!(warehouse.refuses(3, &load("day"), "SELECT 7 AS day, 6 AS number").reason, "WatermarkChanged");
    // A wider type of the same column goes on.
    warehouse.run("ALTER TABLE w.t ALTER day TYPE TIMESTAMP");
    let query = "SELECT unnest([TIMESTAMP '2026-01-01 00:00:00', '2026-01-01 05:00:00']) AS day, 6 AS number";
    assert_eq!(warehouse.load(4, &load("day"), query), Ok(result(1, 0, Some("2026-01-01 05:00:00"))));
    warehouse.run("UPDATE w._pintail_loads SET watermark = NULL WHERE target = 't'");
    assert_eq!(warehouse.load(5, &load("number"), query), Ok(result(2, 0, Some("6"))));
}

#[test]
fn bind_gives_the_bound_to_a_query_that_filters_by_itself() {
    let warehouse = Warehouse::new();
    let bound = Watermark { bind: Some("since".to_owned()), ..watermark("day", Some(Overlap::DurationMs(86_400_000))) };
    let load = Load { watermark: Some(bound), ..upsert(&["day"]) };
    let query = |sales: &str| {
        format!(
            "SELECT day, sum(n) AS n FROM (VALUES {sales}) AS v(day, n) WHERE $since IS NULL OR day >= $since GROUP BY day"
        )
    };
    let first = query("(DATE '2026-01-01', 1), (DATE '2026-01-02', 2), (DATE '2026-01-03', 3)");
    assert_eq!(warehouse.load(1, &load, &first), Ok(result(3, 0, Some("2026-01-03"))));
    let second =
        query("(DATE '2026-01-01', 9), (DATE '2026-01-02', 9), (DATE '2026-01-03', 3), (DATE '2026-01-04', 4)");
    assert_eq!(warehouse.load(2, &load, &second), Ok(result(1, 1, Some("2026-01-04"))));
    assert_eq!(warehouse.rows("SELECT n FROM w.t ORDER BY day"), ["1", "9", "3", "4"]);
}
