use pintail_protocol::{
    CheckInput, CheckPlace, CheckQuery, CheckRequest, CheckResponse, CheckRule, CheckTable, CheckTask, CheckWork,
    FORMAT, OutputKind, ResultColumn, TableOrigin, TableShape,
};

use super::Checker;

fn column(name: &str, data_type: &str) -> ResultColumn {
    ResultColumn { name: name.to_owned(), data_type: data_type.to_owned() }
}

fn task(name: &str, tables: &[(&str, TableOrigin)], setup: &[&str], sql: &str) -> CheckTask {
    let table = |(name, origin): &(&str, TableOrigin)| CheckTable { name: (*name).to_owned(), origin: origin.clone() };
    let query =
        CheckQuery { output: "result".to_owned(), sql: sql.to_owned(), kind: OutputKind::Table, contract: None };
    let setup = setup.iter().map(|text| (*text).to_owned()).collect();
    CheckTask {
        name: name.to_owned(),
        tables: tables.iter().map(table).collect(),
        parameters: Vec::new(),
        databases: Vec::new(),
        work: CheckWork::DuckDb { setup, queries: vec![query], load: None },
    }
}

fn request(tasks: Vec<CheckTask>) -> CheckRequest {
    let columns = vec![column("id", "BIGINT"), column("code", "VARCHAR")];
    let input = CheckInput { name: "orders".to_owned(), shape: Some(TableShape { columns, open: false }) };
    let unknown = CheckInput { name: "files".to_owned(), shape: None };
    CheckRequest {
        format: FORMAT,
        databases: Vec::new(),
        inputs: vec![input, unknown],
        scalars: Vec::new(),
        tasks,
        masking: vec!["md5".to_owned()],
    }
}

fn orders() -> (&'static str, TableOrigin) {
    ("orders", TableOrigin::Input("orders".to_owned()))
}

fn check(tasks: Vec<CheckTask>) -> CheckResponse {
    Checker::new().unwrap().check(&request(tasks)).unwrap()
}

fn rules(response: &CheckResponse) -> Vec<(CheckRule, Option<usize>)> {
    response.findings.iter().map(|finding| (finding.rule, finding.offset)).collect()
}

#[test]
fn columns_flow_from_task_to_task_in_the_types_of_parquet() {
    let of_a = ("a", TableOrigin::Result { task: "a".to_owned(), output: "result".to_owned() });
    let response = check(vec![
        task("a", &[orders()], &[], "SELECT code, sum(id) AS total FROM orders GROUP BY ALL"),
        task("b", &[of_a], &[], "SELECT total, nope FROM a"),
    ]);
    let shape = response.results[0].shape.as_ref().unwrap();
    assert_eq!(shape.columns, [column("code", "VARCHAR"), column("total", "DECIMAL(38,0)")]);
    assert_eq!(rules(&response), [(CheckRule::UnknownColumn, Some(14))]);
}

#[test]
fn text_that_meets_a_number_is_found_wherever_they_meet() {
    for (sql, offset) in [
        ("SELECT * FROM orders WHERE code = id", 32),
        ("SELECT * FROM orders WHERE id <> code", 30),
        ("SELECT * FROM orders WHERE code IN (1, 2)", 32),
        ("SELECT * FROM orders WHERE code NOT IN (SELECT id FROM orders)", 32),
        ("SELECT * FROM orders a JOIN (SELECT 1 AS code) b USING (code)", 49),
        ("SELECT * FROM orders WHERE id = 'many'", 32),
        ("SELECT * FROM orders WHERE id IN ('1', 'many')", 39),
    ] {
        assert_eq!(
            rules(&check(vec![task("a", &[orders()], &[], sql)])),
            [(CheckRule::ComparedTypes, Some(offset))],
            "{sql}"
        );
    }
    for sql in [
        "SELECT * FROM orders WHERE code = 'a' AND id = '5' AND id IN ('1', '2') AND code IN ('a') AND id = 5",
        "SELECT * FROM orders a ASOF JOIN orders b ON a.code = b.code AND a.id >= b.id",
        "SELECT struct_pack(a := 1), list_transform([1], lambda x: x = 1) FROM orders JOIN orders o USING (id, code)",
    ] {
        assert_eq!(rules(&check(vec![task("a", &[orders()], &[], sql)])), [], "{sql}");
    }
}

#[test]
fn a_task_sees_nothing_of_the_one_before_it() {
    let response = check(vec![
        task(
            "a",
            &[orders()],
            &["CREATE TABLE kept AS SELECT 1 AS a", "CREATE MACRO f(x) AS x"],
            "SELECT f(a) FROM kept",
        ),
        task("b", &[], &[], "SELECT * FROM orders"),
        task("c", &[], &[], "SELECT * FROM kept"),
        task("d", &[], &[], "SELECT f(1)"),
    ]);
    let found: Vec<_> = response.findings.iter().map(|finding| (finding.task.as_str(), finding.rule)).collect();
    assert_eq!(
        found,
        [("b", CheckRule::UnknownTable), ("c", CheckRule::UnknownTable), ("d", CheckRule::UnknownFunction)]
    );
}

#[test]
fn what_is_not_known_is_said_once_and_never_wrong() {
    let files = || ("files", TableOrigin::Input("files".to_owned()));
    let of_a = ("a", TableOrigin::Result { task: "a".to_owned(), output: "result".to_owned() });
    let response = check(vec![
        task("a", &[files()], &[], "SELECT anything FROM files"),
        task("b", &[of_a], &[], "SELECT whatever FROM a"),
        task("c", &[files()], &[], "SELECT 1 + FROM files"),
    ]);
    let found: Vec<_> = response.findings.iter().map(|it| (it.task.as_str(), it.rule, &it.place)).collect();
    assert_eq!(
        found,
        [
            ("c", CheckRule::Syntax, &CheckPlace::Query("result".to_owned())),
            ("a", CheckRule::NotChecked, &CheckPlace::Binding("files".to_owned())),
        ]
    );
}

#[test]
fn hostile_statements_reach_nothing_and_leave_the_checker_answering() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv").display().to_string();
    let nested = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let mut checker = Checker::new().unwrap();
    for sql in [
        format!("COPY (SELECT 1) TO '{path}'"),
        "SELECT * FROM read_text('/etc/passwd')".to_owned(),
        "SELECT * FROM '/etc/passwd.csv'".to_owned(),
        "SELECT * FROM glob('/*')".to_owned(),
        nested,
        "SELECT 1) AS x, (SELECT 2".to_owned(),
    ] {
        let response = checker.check(&request(vec![task("a", &[], &[], &sql)])).unwrap();
        assert_eq!(response.findings.len(), 1, "{}", &sql[..sql.len().min(60)]);
    }
    for setup in ["SET lock_configuration = false", "ATTACH '/tmp/x.db'", "INSTALL httpfs", "LOAD '/tmp/x'"] {
        let response = checker.check(&request(vec![task("a", &[], &[setup], "SELECT 1")])).unwrap();
        assert_eq!(rules(&response), [(CheckRule::StatementNotAllowed, Some(0))], "{setup}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(rules(&checker.check(&request(vec![task("a", &[orders()], &[], "FROM orders")])).unwrap()), []);
}
