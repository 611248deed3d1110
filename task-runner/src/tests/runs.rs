use pintail_protocol::{
    Contract, Destination, DuckDbWork, ExitCode, FailureClass, NamedQuery, OutputKind, OutputTarget, Read, ReadRequest,
    ReportOutcome, Results, ReuseCandidate, SecretVariable, TaskReport, Work,
};
use pintail_storage::{RunTask, Store};
use serde_json::{Value, json};

use super::{Fixture, contract};
use crate::interrupt::Interrupt;
use crate::log::Log;
use crate::preview;
use crate::read::answer;
use crate::run::{Ending, run_order};
use crate::session::Session;
use crate::workspace::{Environment, Workspace};

impl Fixture {
    /// A query whose result is a table, or values.
    fn query(&mut self, output: &str, kind: OutputKind, sql: &str, contract: Option<Contract>) -> &mut Self {
        if let Work::DuckDb(work) = &mut self.order.work {
            work.queries.push(NamedQuery { output: output.to_owned(), sql: sql.to_owned() });
        }
        let destination = Destination::Run;
        self.order.outputs.push(OutputTarget { name: output.to_owned(), kind, destination, contract });
        self
    }

    fn run(&self, pod_uid: &str) -> Ending {
        let log = Log::new(&self.order, &self.environment);
        run_order(&self.order, pod_uid, &self.environment, &Interrupt::default(), &log)
    }

    fn store<T>(&self, use_it: impl AsyncFnOnce(Store) -> T) -> T {
        let runtime = crate::files::runtime().unwrap();
        runtime.block_on(async { use_it(Store::open(&self.order.store).await.unwrap()).await })
    }

    fn committed(&self) -> TaskReport {
        let run = RunTask::of(&self.order.identity).unwrap();
        self.store(async |store| store.read_commit(&run).await.unwrap().unwrap().1)
    }

    fn results(&self) -> Results {
        match self.committed().outcome {
            ReportOutcome::Succeeded(results) => results,
            ReportOutcome::Failed(failure) => panic!("{failure:?}"),
        }
    }
}

fn failure(ending: Ending) -> pintail_protocol::Failure {
    ending.message.failure.unwrap()
}

fn query_failure(sql: &str) -> pintail_protocol::Failure {
    let mut fixture = Fixture::new();
    failure(fixture.query("result", OutputKind::Table, sql, None).run("pod"))
}

#[test]
fn a_query_becomes_one_committed_file() {
    let mut fixture = Fixture::new();
    let csv = fixture.write("in/a.csv", "id,qty\n2,5\n1,7\n");
    fixture.parameter("least", "BIGINT", json!(5));
    fixture.table(
        "orders",
        pintail_protocol::TableFormat::Csv,
        &[&csv],
        Some(contract(&[("id", "BIGINT"), ("qty", "BIGINT")])),
    );
    let source = &mut fixture.order.relations[0].source;
    *source = pintail_protocol::RelationSource::Uri {
        uri: csv.replace("a.csv", "*.csv"),
        format: None,
        options: pintail_protocol::FormatOptions::default(),
        pinned: None,
    };
    fixture.query("result", OutputKind::Table, "SELECT * FROM orders WHERE qty >= $least ORDER BY id -- ;\n;", None);
    fixture.query("top", OutputKind::Values, "SELECT max(qty) AS top FROM orders", None);
    let ending = fixture.run("pod");
    assert_eq!(ending.code, ExitCode::Committed, "{ending:?}");
    let results = fixture.results();
    let table = &results.tables[0];
    assert_eq!((table.rows, table.columns[0].data_type.as_str()), (2, "BIGINT"));
    assert_eq!(results.values[0].values[0].value, json!(7));
    let path = fixture.folder.path().join("store").join(&table.files[0].key);
    let shown = preview::preview(std::slice::from_ref(&path), "result", None, 10).unwrap();
    assert_eq!(shown.rows[0], [Some("1".to_owned()), Some("7".to_owned())]);
    let asked = preview::preview(&[path], "result", Some("SELECT count(*) AS n FROM result;"), 10).unwrap();
    assert_eq!(asked.rows, [[Some("2".to_owned())]]);
    assert_eq!(fixture.committed().inputs[0].files[0].path, csv);
}

#[test]
fn the_first_commit_counts_and_a_later_process_says_so() {
    let mut fixture = Fixture::new();
    fixture.query("result", OutputKind::Table, "SELECT 1 AS x", None);
    let first = fixture.run("one");
    assert_eq!(first.code, ExitCode::Committed);
    let again = fixture.run("one");
    assert_eq!((again.code, &again.message), (ExitCode::Committed, &first.message));
    assert_eq!(fixture.run("two").code, ExitCode::Superseded);
    assert_eq!(fixture.committed().pod_uid, "one");
}

#[test]
fn a_file_that_changed_after_an_attempt_pinned_it_fails_the_next() {
    let mut fixture = Fixture::new();
    let csv = fixture.write("in/a.csv", "id\n1\n");
    let uri = |pinned| pintail_protocol::RelationSource::Uri {
        uri: csv.clone(),
        format: None,
        options: pintail_protocol::FormatOptions::default(),
        pinned,
    };
    let relation = pintail_protocol::Relation { name: "t".to_owned(), source: uri(None), contract: None };
    fixture.order.relations.push(relation);
    fixture.query("result", OutputKind::Table, "SELECT nothing FROM t", None);
    let ending = fixture.run("one");
    let report = (ending.message.report.clone().unwrap(), ending.message.digest.clone().unwrap());
    let report = fixture.store(async |store| store.read_report(&report.0, &report.1).await.unwrap());
    let pinned = report.inputs[0].files.clone();
    fixture.order.relations[0].source = uri(Some(pinned));
    fixture.order.work = Work::DuckDb(DuckDbWork::default());
    fixture.order.outputs.clear();
    fixture.query("result", OutputKind::Table, "FROM t", None);
    fixture.write("in/a.csv", "id\n1\n2\n");
    assert_eq!(failure(fixture.run("two")).reason, "InputChanged");
    std::fs::remove_file(&csv).unwrap();
    assert_eq!(failure(fixture.run("three")).reason, "InputChanged");
}

#[test]
fn results_of_an_equal_run_are_taken_over_unless_a_file_changed() {
    let mut fixture = Fixture::new();
    fixture.query("result", OutputKind::Table, "SELECT 1 AS x", None);
    let ending = fixture.run("one");
    let candidate = ReuseCandidate { report: ending.message.report.unwrap(), digest: ending.message.digest.unwrap() };
    let key = fixture.results().tables[0].files[0].key.clone();
    fixture.order.reuse = Some(candidate);
    fixture.order.identity.execution_uid = "uid-2".to_owned();
    fixture.order.identity.execution = "second".to_owned();
    assert_eq!(fixture.run("two").code, ExitCode::Committed);
    assert_eq!(fixture.committed().reused_from.as_deref(), Some("run"));
    assert_eq!(fixture.results().tables[0].files[0].key, key);
    fixture.order.identity.execution_uid = "uid-3".to_owned();
    fixture.order.reuse_key = "other".to_owned();
    fixture.run("three");
    assert_eq!(fixture.committed().reused_from, None);
}

#[test]
fn an_error_shows_its_place_in_the_query_as_it_was_written() {
    let binder = query_failure("SELECT 1 AS a,\n       nothing\nFROM range(3)");
    assert_eq!((binder.class, binder.reason.as_str()), (FailureClass::Permanent, "BinderError"));
    assert!(binder.message.contains("LINE 2:        nothing\n               ^"), "{}", binder.message);
    assert_eq!(query_failure("SELEC 1").reason, "NotAQuery");
    assert_eq!(query_failure("SELECT 1 FROM WHERE").reason, "ParserError");
    assert_eq!(query_failure("FROM missing").reason, "CatalogError");
    assert_eq!(query_failure("SELECT 1; SELECT 2").reason, "TwoStatements");
    assert_eq!(query_failure("COPY (SELECT 1) TO 'x'").reason, "NotAQuery");
    let cast = query_failure("SELECT\n ('x' || range)::BIGINT AS y FROM range(3)");
    assert_eq!(cast.reason, "ConversionError");
    assert!(cast.message.contains("LINE 2:") && !cast.message.contains("x0"), "{}", cast.message);
}

#[test]
fn a_query_that_needs_too_much_memory_may_be_tried_again() {
    let mut fixture = Fixture::new();
    fixture.order.resources.memory_bytes = Some(60_000_000);
    fixture.query("result", OutputKind::Table, "SELECT list(repeat('x', 100) || x) FROM range(3000000) t(x)", None);
    let memory = failure(fixture.run("one"));
    assert_eq!((memory.class, memory.reason.as_str()), (FailureClass::Transient, "OutOfMemory"), "{}", memory.message);
    assert!(memory.message.contains("resources.memory"), "{}", memory.message);
}

#[test]
fn setup_makes_tables_and_macros_that_queries_use() {
    let mut fixture = Fixture::new();
    fixture.parameter("n", "BIGINT", json!(3));
    fixture.query("result", OutputKind::Table, "SELECT twice(x) AS y FROM small", None);
    if let Work::DuckDb(work) = &mut fixture.order.work {
        work.setup = vec![
            "CREATE MACRO twice(x) AS 2 * x".to_owned(),
            "CREATE TEMP TABLE small AS SELECT range AS x FROM range($n);".to_owned(),
        ];
    }
    assert_eq!(fixture.run("one").code, ExitCode::Committed);
    assert_eq!(fixture.results().tables[0].rows, 3);
    if let Work::DuckDb(work) = &mut fixture.order.work {
        work.setup = vec!["SET threads = 1".to_owned()];
    }
    fixture.order.identity.task = "other".to_owned();
    assert_eq!(failure(fixture.run("two")).reason, "NotAllowed");
}

#[test]
fn a_result_has_the_columns_of_its_contract() {
    let mut fixture = Fixture::new();
    let terms = contract(&[("b", "BIGINT"), ("a", "VARCHAR!")]);
    fixture.query(
        "result",
        OutputKind::Table,
        "SELECT 'x' AS a, 1::INTEGER AS b, 2 AS c ORDER BY 1",
        Some(terms.clone()),
    );
    assert_eq!(fixture.run("one").code, ExitCode::Committed);
    let columns: Vec<_> =
        fixture.results().tables[0].columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
    assert_eq!(columns, ["b BIGINT", "a VARCHAR"]);
    for (sql, part) in [("SELECT 'x' AS a", "no such column"), ("SELECT NULL::VARCHAR AS a, 1 AS b", "is not nullable")]
    {
        let mut fixture = Fixture::new();
        fixture.query("result", OutputKind::Table, sql, Some(terms.clone()));
        let failure = failure(fixture.run("one"));
        assert_eq!(failure.reason, "ContractViolated");
        assert!(failure.message.contains(part), "{}", failure.message);
    }
}

#[test]
fn values_are_one_row_encoded_without_loss() {
    let cases: Vec<(&str, Value)> = vec![
        ("42", json!(42)),
        ("9007199254740993", json!("9007199254740993")),
        ("170141183460469231731687303715884105727::HUGEINT", json!("170141183460469231731687303715884105727")),
        ("1.10::DECIMAL(12,2)", json!("1.10")),
        ("0.5::DOUBLE", json!(0.5)),
        ("'infinity'::DOUBLE", json!("inf")),
        ("true", json!(true)),
        ("DATE '2024-02-29'", json!("2024-02-29")),
        ("TIMESTAMP '2024-02-29 12:00:00'", json!("2024-02-29 12:00:00")),
        ("NULL::BIGINT", json!(null)),
        ("'\\x00\\xFF'::BLOB", json!("00ff")),
        ("['a', 'b']", json!(["a", "b"])),
        ("{'a': 1}", json!({"a": 1})),
        ("'{\"a\": [1]}'::JSON", json!({"a": [1]})),
        ("'it''s'", json!("it's")),
    ];
    let mut fixture = Fixture::new();
    let select: Vec<_> = cases.iter().enumerate().map(|(i, (sql, _))| format!("{sql} AS c{i}")).collect();
    fixture.query("result", OutputKind::Values, &format!("SELECT {}", select.join(", ")), None);
    assert_eq!(fixture.run("one").code, ExitCode::Committed);
    let found: Vec<_> = fixture.results().values[0].values.iter().map(|named| named.value.clone()).collect();
    assert_eq!(found, cases.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
    for sql in ["SELECT 1 WHERE false", "FROM range(2)"] {
        let mut fixture = Fixture::new();
        fixture.query("result", OutputKind::Values, sql, None);
        assert_eq!(failure(fixture.run("one")).reason, "NotOneRow");
    }
}

#[test]
fn a_secret_is_a_parameter_and_stands_in_no_log_report_or_error() {
    let mut fixture = Fixture::new();
    let variable = SecretVariable("PINTAIL_SECRET_KEYS_SALT".to_owned());
    let values = std::iter::once(("keys_salt".to_owned(), variable)).collect();
    fixture.order.connections.push(pintail_protocol::Connection {
        name: "keys".to_owned(),
        mode: pintail_protocol::AccessMode::Read,
        target: pintail_protocol::ConnectionTarget::Secrets(values),
    });
    fixture.query("result", OutputKind::Table, "SELECT md5($keys_salt || 'x') AS h, error($keys_salt) AS e", None);
    let missing = failure(fixture.run("one"));
    assert_eq!(missing.reason, "SecretMissing");
    assert!(missing.message.contains("PINTAIL_SECRET_KEYS_SALT"), "{}", missing.message);
    let variables = std::iter::once(("PINTAIL_SECRET_KEYS_SALT".to_owned(), "hunter2".to_owned())).collect();
    fixture.environment = Environment::new(variables, std::path::PathBuf::new());
    let refused = failure(fixture.run("two"));
    assert_eq!(refused.reason, "InvalidInput");
    let mut files = Vec::new();
    let mut folders = vec![fixture.folder.path().join("store")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(files.iter().any(|path| path.ends_with("log/000001.txt")));
    for path in files {
        let content = std::fs::read(&path).unwrap();
        assert!(!content.windows(7).any(|part| part == b"hunter2"), "{}", path.display());
    }
}

#[test]
fn a_reader_shows_rows_and_logs_and_reaches_nothing_else() {
    let mut fixture = Fixture::new();
    fixture.query("result", OutputKind::Table, "SELECT range AS n, 'é' AS t FROM range(5)", None);
    assert_eq!(fixture.run("pod").code, ExitCode::Committed);
    let outside = fixture.write("outside.csv", "secret\n1\n");
    let files = fixture.results().tables[0].files.clone();
    let ask = |read| {
        let request = ReadRequest { format: pintail_protocol::FORMAT, store: fixture.order.store.clone(), read };
        answer(&request).map(|bytes| String::from_utf8(bytes).unwrap())
    };
    let preview = |sql: Option<&str>| {
        let (files, sql) = (files.clone(), sql.map(str::to_owned));
        ask(Read::Preview { files, limit: 2, sql, table: "sales".to_owned() })
    };
    let rows = preview(None).unwrap();
    let rows: pintail_protocol::Preview = serde_json::from_str(&rows).unwrap();
    assert_eq!((rows.columns[0].name.as_str(), rows.rows.len()), ("n", 2));
    assert!(preview(Some("SELECT sum(n) AS n FROM sales")).unwrap().contains(r#""rows":[["10"]]"#));
    for refused in [format!("FROM read_csv('{outside}')"), "COPY sales TO '/tmp/x.csv'".to_owned()] {
        let failure = preview(Some(&refused)).unwrap_err();
        assert_eq!(failure.class, FailureClass::Permanent, "{failure}");
    }
    let committed = |file: Option<String>| {
        ask(Read::Committed {
            namespace: "default".to_owned(),
            execution_uid: "uid-1".to_owned(),
            task: "task".to_owned(),
            file,
            limit: 2,
            sql: None,
            table: "result".to_owned(),
        })
    };
    assert_eq!(committed(None).unwrap(), preview(None).unwrap());
    assert_eq!(committed(Some(files[0].key.clone())).unwrap(), preview(None).unwrap());
    assert_eq!(committed(Some("other".to_owned())).unwrap_err().reason, "ResultMissing");
    let namespace = "default".to_owned();
    let log = ask(Read::Log { namespace, execution_uid: "uid-1".to_owned(), tasks: vec!["task".to_owned()] }).unwrap();
    assert!(log.lines().all(|line| line.starts_with("task  ")) && log.contains("5 rows"), "{log}");
}

#[test]
fn a_store_that_is_checked_is_left_as_it_was() {
    let fixture = Fixture::new();
    let read = Read::StoreCheck { folder: "default/check/1".to_owned() };
    let request = ReadRequest { format: pintail_protocol::FORMAT, store: fixture.order.store.clone(), read };
    assert_eq!(answer(&request).unwrap(), b"");
    assert!(fixture.store(async |store| store.list("default/check").await.unwrap()).is_empty());
}

const ENDLESS: &str = "SELECT count(*) FROM range(100000000000) a, range(1000) b WHERE a.range % 7 = b.range";

#[test]
fn the_log_can_be_read_while_the_work_runs_and_ends_with_its_end() {
    let mut fixture = Fixture::new();
    fixture.query("result", OutputKind::Table, ENDLESS, None);
    let interrupt = Interrupt::default();
    let read = || fixture.store(async |store| store.read_log("default", "uid-1", "task").await.unwrap());
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let log = Log::default();
            run_order(&fixture.order, "pod", &fixture.environment, &interrupt, &log)
        });
        while read().is_empty() {
            assert!(!run.is_finished());
            std::thread::yield_now();
        }
        assert!(String::from_utf8(read()).unwrap().contains("info the session is open"));
        while !run.is_finished() {
            interrupt.request();
            std::thread::yield_now();
        }
    });
    let log = String::from_utf8(read()).unwrap();
    assert_eq!(log.matches("the session is open").count(), 1, "{log}");
    assert!(log.trim_end().ends_with("the work was told to stop"), "{log}");
}

#[test]
fn an_interrupt_ends_the_statement_that_runs() {
    let mut fixture = Fixture::new();
    fixture.query("result", OutputKind::Table, ENDLESS, None);
    let interrupt = Interrupt::default();
    let ending = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let log = Log::default();
            run_order(&fixture.order, "pod", &fixture.environment, &interrupt, &log)
        });
        while !run.is_finished() {
            if interrupt.is_watching() {
                interrupt.request();
            }
            std::thread::yield_now();
        }
        run.join().unwrap()
    });
    assert_eq!(ending.code, ExitCode::Interrupted);
    assert_eq!(ending.message.failure.unwrap().class, FailureClass::Interrupted);
}

#[test]
fn the_engine_is_the_one_that_reports_name() {
    let fixture = Fixture::new();
    let session = Session::open(&fixture.order, Workspace::new(fixture.folder.path()), &fixture.environment).unwrap();
    assert_eq!(super::rows(&session, "SELECT version()").unwrap(), [crate::engine_version()]);
}
