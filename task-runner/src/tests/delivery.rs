use std::path::Path;

use super::{Fixture, contract, rows};
use crate::failure::TaskFailure;
use crate::query::{WrittenTable, write_table};
use crate::session::Session;

fn written(
    sql: &str,
    terms: Option<&pintail_protocol::Contract>,
) -> (Session, Result<WrittenTable, TaskFailure>, String, Fixture) {
    let fixture = Fixture::new();
    let session = fixture.open().unwrap();
    let path = fixture.folder.path().join("out").join("x.parquet");
    let table = write_table(&session, sql, "query `result`", terms, Path::new(&path));
    (session, table, path.display().to_string(), fixture)
}

#[test]
fn a_sum_of_whole_numbers_keeps_every_digit() {
    let sql = "SELECT sum(x) AS s, [sum(x)] AS l, {'n': sum(x)} AS st FROM (VALUES (9007199254740993), (9223372036854775807)) t(x)";
    let (session, table, path, _fixture) = written(sql, None);
    let types: Vec<_> = table.unwrap().columns.into_iter().map(|column| column.data_type).collect();
    assert_eq!(types, ["DECIMAL(38,0)", "DECIMAL(38,0)[]", "STRUCT(n DECIMAL(38,0))"]);
    let found = rows(&session, &format!("SELECT s, l[1], st.n FROM read_parquet('{path}')")).unwrap();
    assert_eq!(found, ["9232379236109516800|9232379236109516800|9232379236109516800"]);
}

#[test]
fn a_whole_number_of_more_digits_than_parquet_keeps_fails_and_says_so() {
    let (_, table, _, _fixture) = written("SELECT 170141183460469231731687303715884105727::HUGEINT AS n", None);
    let failure = table.unwrap_err();
    assert_eq!(failure.reason, "ConversionError");
    assert!(failure.message.contains("at most 38 digits"), "{}", failure.message);
    assert!(!failure.message.contains("1701411834"), "{}", failure.message);
}

#[test]
fn a_contract_promises_what_a_file_can_have() {
    let sql = "SELECT sum(x) AS n, 'a'::ENUM('a', 'b') AS e FROM range(3) t(x)";
    for terms in
        [contract(&[("n", "HUGEINT"), ("e", "ENUM('a', 'b')")]), contract(&[("n", "DECIMAL(38,0)"), ("e", "VARCHAR")])]
    {
        let (_, table, _, _fixture) = written(sql, Some(&terms));
        let types: Vec<_> = table.unwrap().columns.into_iter().map(|column| column.data_type).collect();
        assert_eq!(types, ["DECIMAL(38,0)", "VARCHAR"]);
    }
    let (_, table, _, _fixture) = written(sql, Some(&contract(&[("n", "BIGINT")])));
    assert_eq!(table.unwrap_err().reason, "ContractViolated");
}
