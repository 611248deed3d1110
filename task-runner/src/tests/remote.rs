//! Buckets, web servers and PostgreSQL, on 127.0.0.1.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pintail_protocol::{AccessMode, Connection, ConnectionTarget, SecretVariable};

use super::{Fixture, contract, rows, servers};
use crate::files::Files;
use crate::workspace::Environment;

fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables: BTreeMap<_, _> = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let extensions = std::env::var_os("PINTAIL_EXTENSIONS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../lib/extensions"), PathBuf::from);
    Environment::new(variables, extensions)
}

fn variable(name: &str) -> Option<SecretVariable> {
    Some(SecretVariable(name.to_owned()))
}

fn bucket(endpoint: &str) -> Connection {
    let target = ConnectionTarget::S3 {
        bucket: "session-test".to_owned(),
        prefix: "in".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        path_style: true,
        anonymous: false,
        access_key_id: variable("KEY"),
        secret_access_key: variable("SECRET"),
    };
    Connection { name: "raw".to_owned(), mode: AccessMode::Write, target }
}

#[test]
fn files_of_a_bucket_are_read_where_they_are_and_nothing_else_is() {
    let endpoint = servers::s3();
    let made = reqwest::Client::new().put(format!("{endpoint}/session-test")).send();
    assert!(crate::files::runtime().unwrap().block_on(made).unwrap().status().is_success());
    let mut fixture = Fixture::new();
    fixture.environment = environment(&[("KEY", "key"), ("SECRET", "hunter2")]);
    let connection = bucket(endpoint);
    let files = Files::open(&connection, &fixture.environment).unwrap();
    for (name, content) in [("a.csv", "id\n1\n"), ("b[1].csv", "id\n2\n"), ("other.txt", "id\n3\n")] {
        files.upload(Path::new(&fixture.write(name, content)), name).unwrap();
    }
    fixture.order.connections.push(connection);
    fixture.table("orders", pintail_protocol::TableFormat::Csv, &[], Some(contract(&[("id", "BIGINT!")])));
    fixture.workspace.found.insert("orders".to_owned(), files.list("*.csv").unwrap());
    let session = fixture.open().unwrap();
    assert_eq!(rows(&session, "FROM orders ORDER BY id").unwrap(), ["1", "2"]);
    let other = session.text_rows("FROM read_csv('s3://session-test/in/other.txt')", &[], 1).unwrap_err();
    assert_eq!(other.reason, "NotAllowed", "{other}");
    let secrets = rows(&session, "FROM duckdb_secrets()").unwrap().join("\n");
    assert!(secrets.contains("s3://session-test/in/") && !secrets.contains("hunter2"), "{secrets}");
}

#[test]
fn a_bucket_that_does_not_answer_is_a_passing_failure() {
    let mut fixture = Fixture::new();
    fixture.environment = environment(&[("KEY", "key"), ("SECRET", "hunter2")]);
    fixture.order.connections.push(bucket("http://127.0.0.1:1"));
    fixture.table(
        "orders",
        pintail_protocol::TableFormat::Csv,
        &["s3://session-test/in/a.csv"],
        Some(contract(&[("id", "BIGINT")])),
    );
    fixture.workspace.found.get_mut("orders").unwrap()[0].identity.bytes = 5;
    let failure = fixture.open().err().unwrap();
    assert_eq!(
        (failure.class, failure.reason),
        (pintail_protocol::FailureClass::Transient, "ConnectionFailed"),
        "{failure}"
    );
}

#[test]
fn a_file_of_a_web_server_is_read_with_its_token() {
    let (url, requests) = servers::http(|_| servers::reply("200 OK", "", "id\n1\n2\n"));
    let mut fixture = Fixture::new();
    fixture.environment = environment(&[("TOKEN", "hunter2")]);
    let target = ConnectionTarget::Http { url: format!("{url}/data"), bearer_token: variable("TOKEN") };
    fixture.order.connections.push(Connection { name: "web".to_owned(), mode: AccessMode::Read, target });
    let location = format!("{url}/data/a.csv?x=1");
    fixture.table("t", pintail_protocol::TableFormat::Csv, &[&location], Some(contract(&[("id", "BIGINT")])));
    fixture.workspace.found.get_mut("t").unwrap()[0].identity.bytes = 7;
    let session = fixture.open().unwrap();
    assert_eq!(rows(&session, "SELECT sum(id) FROM t").unwrap(), ["3"]);
    let asked: Vec<_> = requests.try_iter().collect();
    assert!(!asked.is_empty());
    for request in asked {
        assert!(request.head.to_lowercase().contains("authorization: bearer hunter2"), "{}", request.head);
    }
    let other = session.text_rows(&format!("FROM read_csv('{url}/data/b.csv')"), &[], 1).unwrap_err();
    assert_eq!(other.reason, "NotAllowed", "{other}");
}

#[test]
fn postgres_is_read_and_written_after_the_lock() {
    let server = servers::postgres();
    let target = |port, password| ConnectionTarget::Postgres {
        host: "127.0.0.1".to_owned(),
        port,
        database: server["dbname"].to_owned(),
        user: server["user"].to_owned(),
        password,
        ssl_mode: "disable".to_owned(),
    };
    let mut fixture = Fixture::new();
    fixture.environment = environment(&[("PASSWORD", "it's \\ hunter2")]);
    let mut connection = Connection {
        name: "shop".to_owned(),
        mode: AccessMode::Write,
        target: target(server["port"].parse().unwrap(), variable("PASSWORD")),
    };
    fixture.order.connections.push(connection.clone());
    let session = fixture.open().unwrap();
    session.batch("CREATE SCHEMA IF NOT EXISTS shop.session; DROP TABLE IF EXISTS shop.session.t", "prepare").unwrap();
    session.batch("CREATE TABLE shop.session.t AS SELECT 1 AS x", "write").unwrap();
    let shown = rows(&session, "SELECT path FROM duckdb_databases()").unwrap().join("\n");
    assert!(!shown.contains("hunter2"), "{shown}");

    connection.mode = AccessMode::Read;
    fixture.order.connections = vec![connection.clone()];
    fixture.order.relations.push(pintail_protocol::Relation {
        name: "loaded".to_owned(),
        source: pintail_protocol::RelationSource::DatabaseTable {
            connection: "shop".to_owned(),
            table: "session.t".to_owned(),
        },
        contract: None,
    });
    let session = fixture.open().unwrap();
    assert_eq!(rows(&session, "FROM loaded").unwrap(), ["1"]);
    assert!(session.batch("INSERT INTO shop.session.t VALUES (2)", "write").is_err());
    assert!(rows(&session, "FROM postgres_execute('shop', 'DROP TABLE session.t')").is_err());

    connection.target = target(1, None);
    fixture.order.connections = vec![connection];
    let failure = fixture.open().err().unwrap();
    assert_eq!(failure.reason, "ConnectionFailed");
    assert!(failure.message.starts_with("connection `shop`: database postgres on 127.0.0.1:1"), "{failure}");
}

#[test]
fn a_missing_extension_is_named() {
    let mut fixture = Fixture::new();
    fixture.environment = Environment::new(BTreeMap::new(), fixture.folder.path().to_owned());
    fixture.table("orders", pintail_protocol::TableFormat::Csv, &["https://127.0.0.1:1/a.csv"], None);
    let failure = fixture.open().err().unwrap();
    assert_eq!(failure.reason, "ExtensionMissing");
    assert!(failure.message.contains("httpfs.duckdb_extension"), "{failure}");
}
