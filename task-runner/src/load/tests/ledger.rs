use super::*;

#[test]
fn a_repeated_attempt_loads_nothing_and_gives_the_recorded_result() {
    let warehouse = Warehouse::new();
    let load = into_table(LoadMode::Append);
    let first = warehouse.load(1, &load, "SELECT unnest([1, 2]) AS id");
    assert_eq!(first, Ok(result(2, 0, None)));
    // Not even the query is run.
    assert_eq!(warehouse.load(1, &load, "SELECT error('no') AS id"), first);
    assert_eq!(warehouse.rows("FROM w.t"), ["1", "2"]);
}

#[test]
fn tasks_and_items_of_one_run_are_work_of_their_own() {
    let warehouse = Warehouse::new();
    let load = into_table(LoadMode::Append);
    let identity = warehouse.identity(1);
    let works = [
        identity.clone(),
        Identity { item: Some(0), ..identity.clone() },
        Identity { item: Some(1), ..identity.clone() },
        Identity { task: "other".to_owned(), ..identity.clone() },
        Identity { attempt: 7, ..identity },
    ];
    for work in &works {
        super::load_alone(&warehouse.session(), work, &load, "SELECT 1 AS id", at(1)).unwrap();
    }
    assert_eq!(warehouse.rows("SELECT count(*) FROM w.t"), ["4"]);
}

#[test]
fn the_ledger_tells_what_was_loaded_when_and_by_whom() {
    let warehouse = Warehouse::new();
    let load = Load { watermark: Some(watermark("day", None)), ..into_table(LoadMode::Append) };
    warehouse.load(7, &load, "SELECT DATE '2026-01-05' AS day").unwrap();
    assert_eq!(
        warehouse.rows("FROM w._pintail_loads"),
        [format!(
            "uid-7|task|-1|{}|default/workflow/task|t|1|day|DATE|2026-01-05|{}|1",
            at(7).strftime("%Y-%m-%d %H:%M:%S"),
            r#"{"rows":1,"inserted":1,"updated":0,"watermark":"2026-01-05"}"#
        )]
    );
}

#[test]
fn a_ledger_of_a_newer_build_is_refused() {
    let warehouse = Warehouse::new();
    let load = into_table(LoadMode::Append);
    warehouse.load(1, &load, "SELECT 1 AS id").unwrap();
    warehouse.run("UPDATE w._pintail_loads SET format = 2");
    let failure = warehouse.refuses(2, &load, "SELECT 2 AS id");
    assert_eq!(failure.reason, "NewerFormat");
    assert!(failure.message.contains("has format 2, but this build reads formats up to 1"), "{failure}");
}
