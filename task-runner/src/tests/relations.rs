use pintail_protocol::{OtherColumns, Relation, RelationSource, TableFormat};
use serde_json::json;

use super::{Fixture, contract, rows};

#[test]
fn csv_is_read_by_the_contracts_types() {
    let mut fixture = Fixture::new();
    let a = fixture.write("in/a.csv", "ID,name,qty\n1,x,0042\n2,\"a, b\",\n");
    let b = fixture.write("in/b.csv", "qty,extra,id\r\n7,zzz,3\r\n");
    let mut terms = contract(&[("id", "BIGINT!"), ("qty", "VARCHAR")]);
    terms.columns.push(pintail_protocol::ContractColumn {
        name: "source".to_owned(),
        data_type: "VARCHAR".to_owned(),
        nullable: false,
        from_file_name: true,
    });
    fixture.table("orders", TableFormat::Csv, &[&a, &b], Some(terms));
    let session = fixture.open().unwrap();
    assert_eq!(rows(&session, "FROM orders ORDER BY id").unwrap(), ["1|0042|a.csv", "2|NULL|a.csv", "3|7|b.csv"]);
}

#[test]
fn a_csv_with_only_a_header_has_no_rows() {
    let mut fixture = Fixture::new();
    let file = fixture.write("in/a.csv", "id,qty\n");
    fixture.table("orders", TableFormat::Csv, &[&file], Some(contract(&[("id", "BIGINT!"), ("qty", "BIGINT")])));
    assert_eq!(rows(&fixture.open().unwrap(), "SELECT count(*) FROM orders").unwrap(), ["0"]);
}

#[test]
fn an_empty_file_and_no_file_are_told_apart() {
    let mut fixture = Fixture::new();
    let file = fixture.write("in/a.csv", "");
    fixture.table("orders", TableFormat::Csv, &[&file], Some(contract(&[("id", "BIGINT")])));
    let message = fixture.open().err().unwrap().to_string();
    assert!(message.starts_with("EmptyFile: table `orders`: file a.csv is empty: "), "{message}");
    fixture.workspace.found.clear();
    assert_eq!(fixture.open().err().unwrap().to_string(), "NotFound: table `orders`: no file matches in/*");
}

#[test]
fn a_file_with_other_columns_is_refused_before_the_query() {
    let mut fixture = Fixture::new();
    let a = fixture.write("in/a.csv", "id,qty\n1,2\n");
    let b = fixture.write("in/b.csv", "id,quantity\n1,2\n");
    fixture.table("orders", TableFormat::Csv, &[&a, &b], Some(contract(&[("id", "BIGINT"), ("qty", "BIGINT")])));
    let failure = fixture.open().err().unwrap();
    assert_eq!(failure.reason, "ContractViolated");
    assert!(failure.message.contains("file b.csv") && failure.message.contains("no such column"), "{failure}");
    assert!(failure.message.contains("Its columns are: id, quantity"), "{failure}");
}

#[test]
fn other_columns_are_dropped_kept_or_refused() {
    let mut fixture = Fixture::new();
    let file = fixture.write("in/a.csv", "id,note\n1,x\n");
    let mut terms = contract(&[("id", "BIGINT")]);
    let mut shown = Vec::new();
    for other in [OtherColumns::Drop, OtherColumns::Keep, OtherColumns::Fail] {
        terms.other_columns = other;
        fixture.order.relations.clear();
        fixture.table("orders", TableFormat::Csv, &[&file], Some(terms.clone()));
        shown.push(fixture.open().and_then(|session| rows(&session, "FROM orders")).map_err(|failure| failure.reason));
    }
    assert_eq!(shown, [Ok(vec!["1".to_owned()]), Ok(vec!["1|x".to_owned()]), Err("ContractViolated")]);
}

#[test]
fn a_broken_line_is_named_without_its_content() {
    for (content, place) in [
        ("id,qty\n1,2\n2,Jane\n", "line 3 of"),
        ("id,qty\n1,2\n1,2,Jane\n", "line 3 of"),
        ("id,qty\n1,2\n1,\"Jane\n", "line 3 of"),
    ] {
        let mut fixture = Fixture::new();
        let file = fixture.write("in/a.csv", content);
        fixture.table("orders", TableFormat::Csv, &[&file], Some(contract(&[("id", "BIGINT!"), ("qty", "BIGINT!")])));
        let failure = fixture.open().and_then(|session| rows(&session, "FROM orders")).unwrap_err();
        assert!(failure.message.contains(place) && !failure.message.contains("Jane"), "{failure}");
    }
}

#[test]
fn a_null_in_a_column_that_is_not_nullable_names_column_and_file() {
    let mut fixture = Fixture::new();
    let csv = fixture.write("in/a.csv", "id,qty\n1,2\n,3\n");
    let json = fixture.write("in/a.json", "{\"id\":1,\"qty\":2}\n{\"qty\":3}\n");
    let parquet = fixture.folder.path().join("in/a.parquet").display().to_string();
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!("COPY (SELECT * FROM (VALUES (1, 2), (NULL, 3)) t(id, qty)) TO '{parquet}'"))
        .unwrap();
    for (format, file) in [(TableFormat::Csv, csv), (TableFormat::Json, json), (TableFormat::Parquet, parquet)] {
        fixture.order.relations.clear();
        fixture.table("orders", format, &[&file], Some(contract(&[("id", "BIGINT!"), ("qty", "BIGINT!")])));
        let failure = fixture.open().err().unwrap();
        assert_eq!(failure.reason, "ContractViolated");
        assert!(failure.message.contains("column `id` is not nullable, but 1 of its values"), "{failure}");
        fixture.order.relations.clear();
        fixture.table("orders", format, &[&file], Some(contract(&[("id", "BIGINT"), ("qty", "BIGINT!")])));
        assert_eq!(rows(&fixture.open().unwrap(), "SELECT sum(qty) FROM orders").unwrap(), ["5"], "{format:?}");
    }
}

#[test]
fn parquet_is_widened_without_loss_or_refused() {
    let mut fixture = Fixture::new();
    let file = fixture.folder.path().join("a.parquet").display().to_string();
    duckdb::Connection::open_in_memory()
        .unwrap()
        .execute_batch(&format!("COPY (SELECT 1::INTEGER AS id, 1.5::DOUBLE AS price) TO '{file}'"))
        .unwrap();
    fixture.table("orders", TableFormat::Parquet, &[&file], Some(contract(&[("id", "BIGINT"), ("PRICE", "DOUBLE")])));
    let session = fixture.open().unwrap();
    let columns = session.describe("FROM orders", &[]).unwrap();
    let columns: Vec<_> = columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
    assert_eq!(columns, ["id BIGINT", "PRICE DOUBLE"]);
    fixture.order.relations.clear();
    fixture.table("orders", TableFormat::Parquet, &[&file], Some(contract(&[("price", "DECIMAL(12,2)")])));
    let failure = fixture.open().err().unwrap();
    assert!(failure.message.contains("price   DECIMAL(12,2)  DOUBLE"), "{failure}");
}

#[test]
fn json_is_read_by_the_contracts_types_from_lines_and_arrays() {
    for content in ["{\"Id\":1,\"price\":\"1.10\"}\n{\"Id\":2}\n", "[{\"Id\":1,\"price\":1.10},{\"Id\":2,\"x\":1}]"] {
        let mut fixture = Fixture::new();
        let file = fixture.write("in/a.json", content);
        fixture.table(
            "t",
            TableFormat::Json,
            &[&file],
            Some(contract(&[("id", "BIGINT!"), ("price", "DECIMAL(12,2)")])),
        );
        assert_eq!(rows(&fixture.open().unwrap(), "FROM t").unwrap(), ["1|1.10", "2|NULL"], "{content}");
    }
    let mut fixture = Fixture::new();
    let file = fixture.write("in/a.json", "[]");
    fixture.table("t", TableFormat::Json, &[&file], Some(contract(&[("id", "BIGINT!")])));
    assert_eq!(rows(&fixture.open().unwrap(), "FROM t").unwrap(), Vec::<String>::new());
}

#[test]
fn a_file_name_with_the_signs_of_a_glob_means_itself() {
    let mut fixture = Fixture::new();
    let odd = fixture.write("in/a[1]*?.csv", "id\n1\n");
    fixture.write("in/a1x.csv", "id\n2\n");
    fixture.table("orders", TableFormat::Csv, &[&odd], Some(contract(&[("id", "BIGINT!")])));
    assert_eq!(rows(&fixture.open().unwrap(), "FROM orders").unwrap(), ["1"]);
}

#[test]
fn rows_of_a_manifest_are_typed() {
    let mut fixture = Fixture::new();
    let source = RelationSource::Rows { rows: vec![vec![json!(1), json!("2024-01-31")], vec![json!(2), json!(null)]] };
    let terms = contract(&[("id", "BIGINT!"), ("day", "DATE")]);
    fixture.order.relations.push(Relation { name: "days".to_owned(), source, contract: Some(terms.clone()) });
    let session = fixture.open().unwrap();
    assert_eq!(rows(&session, "SELECT id, day + 1 FROM days").unwrap(), ["1|2024-02-01", "2|NULL"]);
    let source = RelationSource::Rows { rows: vec![vec![json!("Jane"), json!(null)]] };
    fixture.order.relations[0].source = source;
    let failure = fixture.open().err().unwrap();
    assert!(failure.message.contains("row 1") && !failure.message.contains("Jane"), "{failure}");
}

#[test]
fn folders_of_the_store_never_become_columns() {
    let mut fixture = Fixture::new();
    let stored = |name: &str| pintail_protocol::StoredFile {
        key: format!("day=1/{name}.parquet"),
        bytes: 1,
        digest: "blake3:0".to_owned(),
    };
    for name in ["a", "b"] {
        let path = fixture.write(&stored(name).key, "");
        duckdb::Connection::open_in_memory()
            .unwrap()
            .execute_batch(&format!("COPY (SELECT '{name}' AS x) TO '{path}'"))
            .unwrap();
        fixture.workspace.staged.insert(stored(name).key, path.into());
    }
    let source = RelationSource::Committed { files: vec![stored("a"), stored("b")] };
    fixture.order.relations.push(Relation { name: "t".to_owned(), source, contract: None });
    assert_eq!(rows(&fixture.open().unwrap(), "FROM t ORDER BY x").unwrap(), ["a", "b"]);
    fixture.order.relations[0].contract = Some(contract(&[("X", "VARCHAR!")]));
    assert_eq!(rows(&fixture.open().unwrap(), "SELECT count(*), min(X) FROM t").unwrap(), ["2|a"]);
    let paths: Vec<_> = fixture.workspace.staged.values().cloned().collect();
    assert_eq!(crate::preview(&paths, "result", None, 5).unwrap().columns.len(), 1);
}
