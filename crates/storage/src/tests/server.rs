//! An S3 server for the tests of this crate: the one that `PINTAIL_TEST_S3` names, else one of our own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use pintail_protocol::StoreLocation;

use crate::Store;
use crate::bucket::Variables;

/// Opens a store in a new bucket.
pub(super) async fn bucket_store() -> Store {
    Store::open_with(&bucket_location(&new_bucket()), &variables(endpoint())).await.unwrap()
}

pub(super) fn bucket_location(bucket: &str) -> StoreLocation {
    StoreLocation::S3 { bucket: bucket.to_owned(), prefix: "team/pintail".to_owned() }
}

pub(super) fn variables(endpoint: &str) -> Variables {
    let pairs = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "key-of-tests"),
        ("AWS_SECRET_ACCESS_KEY", "secret-of-tests"),
        ("AWS_REGION", "us-east-1"),
    ];
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn endpoint() -> &'static str {
    static ENDPOINT: OnceLock<(String, Option<Child>)> = OnceLock::new();
    &ENDPOINT
        .get_or_init(|| match std::env::var("PINTAIL_TEST_S3") {
            Ok(endpoint) => (endpoint, None),
            Err(_) => start(),
        })
        .0
}

/// The server ends when its input does, which this process holds until it ends.
fn start() -> (String, Option<Child>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test-servers");
    let mut command = Command::new(&script);
    let mut child = command.arg("s3").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let lines: Vec<String> = lines.take_while(|line| line != "ready").collect();
    let endpoint = lines.iter().find_map(|line| line.strip_prefix("PINTAIL_TEST_S3="));
    let endpoint = endpoint.unwrap_or_else(|| panic!("no S3 server for this test: run `make setup`")).to_owned();
    (endpoint, Some(child))
}

fn new_bucket() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let bucket = format!("storage-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let host = endpoint().strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(host).unwrap();
    write!(connection, "PUT /{bucket} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut reply = String::new();
    connection.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    bucket
}
