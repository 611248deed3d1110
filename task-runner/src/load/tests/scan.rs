use std::fs::{read, write};

use pintail_protocol::TableFormat;

use super::*;

const ROWS: usize = 100_000;

/// What the rows before the watermark hold cannot be read any more: a load that touches them fails.
#[test]
fn only_row_groups_from_the_watermark_on_are_read() {
    let mut warehouse = Warehouse::new();
    let path = warehouse.fixture.folder.path().join("trips.parquet").display().to_string();
    let copy = format!(
        "COPY (SELECT range AS id, TIMESTAMP '2026-01-01' + to_seconds(range) AS pickup_at, md5(range::VARCHAR) AS text
         FROM range({ROWS})) TO '{path}' (ROW_GROUP_SIZE 10000)"
    );
    let writer = duckdb::Connection::open_in_memory().unwrap();
    writer.execute_batch(&copy).unwrap();
    let end_of_first_groups: u64 = writer
        .query_row(
            "SELECT min(LEAST(COALESCE(dictionary_page_offset, data_page_offset), data_page_offset))
             FROM parquet_metadata(?) WHERE row_group_id = 8",
            [&path],
            |row| row.get(0),
        )
        .unwrap();
    warehouse.fixture.table("trips", TableFormat::Parquet, &[&path], None);
    let load = Load { watermark: Some(watermark("pickup_at", HOUR)), ..upsert(&["id"]) };
    // The loader's filter must reach the file through what a person writes.
    let query = "WITH t AS (SELECT *, upper(text) AS shout FROM trips) SELECT id, pickup_at, shout FROM t";
    let first = warehouse.load(1, &load, &format!("{query} WHERE id < 95000")).unwrap();
    assert_eq!(first.rows, 95_000);

    let mut bytes = read(&path).unwrap();
    bytes[4..usize::try_from(end_of_first_groups).unwrap()].fill(0xff);
    write(&path, bytes).unwrap();
    assert_eq!(warehouse.load(2, &load, query).unwrap().rows, 5_000);
    assert!(warehouse.load(3, &Load { table: "u".to_owned(), ..load }, query).is_err(), "all rows cannot be read");
}
