//! Servers on 127.0.0.1 for tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A server of `scripts/test-servers`. It ends with this process, which closes its input.
struct Started {
    variables: Vec<(String, String)>,
    _server: Child,
}

fn start(name: &str) -> Started {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/test-servers");
    let mut server = Command::new(script)
        .arg(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("test-servers starts");
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let variables: Vec<_> = lines
        .map(|line| line.unwrap())
        .take_while(|line| line != "ready")
        .map(|line| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect();
    assert!(!variables.is_empty(), "scripts/test-servers {name} started nothing; its message stands above");
    Started { variables, _server: server }
}

/// URL of an S3 server that takes any credential.
pub(crate) fn s3() -> &'static str {
    static SERVER: OnceLock<Started> = OnceLock::new();
    &SERVER.get_or_init(|| start("s3")).variables[0].1
}

/// Address and maildir of a mail server.
pub(crate) fn smtp() -> (&'static str, &'static str) {
    static SERVER: OnceLock<Started> = OnceLock::new();
    let variables = &SERVER.get_or_init(|| start("smtp")).variables;
    (&variables[0].1, &variables[1].1)
}

/// Words of libpq that lead to a PostgreSQL server, such as `port`, by their name.
pub(crate) fn postgres() -> std::collections::BTreeMap<&'static str, &'static str> {
    static SERVER: OnceLock<Started> = OnceLock::new();
    let words = &SERVER.get_or_init(|| start("postgres")).variables[0].1;
    words.split(' ').filter_map(|word| word.split_once('=')).collect()
}

/// One request as it came.
pub(crate) struct Request {
    /// Method, path and version, then the headers, in lines.
    pub head: String,
    pub body: Vec<u8>,
}

/// A web server that answers every request as `answer` says: a whole reply, from `HTTP/1.1 …` on. Gives its URL and
/// what it was asked.
pub(crate) fn http(answer: impl Fn(&Request) -> String + Send + 'static) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap(), &answer, &sender);
        }
    });
    (url, requests)
}

fn serve(mut stream: TcpStream, answer: &impl Fn(&Request) -> String, requests: &Sender<Request>) {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let length = head
        .to_ascii_lowercase()
        .split_once("content-length: ")
        .map_or(0, |(_, rest)| rest.split_once("\r\n").unwrap().0.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = Request { head, body };
    let reply = answer(&request);
    // The client may be gone, with or without having read it.
    let _ = stream.write_all(reply.as_bytes());
    let _ = requests.send(request);
}

/// A reply that ends its connection.
pub(crate) fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}
