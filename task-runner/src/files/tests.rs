use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::tests::servers::{http, reply, s3};
use pintail_protocol::{FailureClass, SecretVariable};

fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Environment::new(variables, PathBuf::new())
}

fn connection(mode: AccessMode, target: ConnectionTarget) -> Connection {
    Connection { name: "raw".to_owned(), mode, target }
}

fn folder(path: &Path) -> Files {
    let target = ConnectionTarget::Folder { path: path.to_str().unwrap().to_owned() };
    Files::open(&connection(AccessMode::Read, target), &environment(&[])).unwrap()
}

fn s3_target(endpoint: &str, bucket: &str) -> ConnectionTarget {
    ConnectionTarget::S3 {
        bucket: bucket.to_owned(),
        prefix: "in/here".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        region: None,
        path_style: true,
        anonymous: false,
        access_key_id: Some(SecretVariable("ID".to_owned())),
        secret_access_key: Some(SecretVariable("KEY".to_owned())),
    }
}

fn bucket_at(endpoint: &str, bucket: &str) -> Files {
    let environment = environment(&[("ID", "AKIACANARY"), ("KEY", "secret-canary")]);
    Files::open(&connection(AccessMode::Write, s3_target(endpoint, bucket)), &environment).unwrap()
}

/// A new bucket of the test server.
fn bucket(name: &str) -> Files {
    put(name);
    bucket_at(s3(), name)
}

/// Makes a bucket, or an empty object, as others do.
fn put(path: &str) {
    let request = reqwest::Client::new().put(format!("{}/{path}", s3())).send();
    assert!(runtime().unwrap().block_on(request).unwrap().status().is_success());
}

fn web(url: &str) -> Files {
    let target =
        ConnectionTarget::Http { url: format!("{url}/data"), bearer_token: Some(SecretVariable("TOKEN".to_owned())) };
    Files::open(&connection(AccessMode::Read, target), &environment(&[("TOKEN", "token-canary")])).unwrap()
}

fn paths(files: &[SourceFile]) -> Vec<&str> {
    files.iter().map(|file| file.identity.path.as_str()).collect()
}

/// What holds for a folder and a bucket alike.
fn check_reading_and_writing(files: &Files, scratch: &Path) {
    let local = scratch.join("local");
    for (path, content) in
        [("m/b.csv", "bb"), ("m/a.csv", "a"), ("m/old/c.csv", "c"), ("m/a.txt", ""), ("a b/ü%2F+[1].csv", "x")]
    {
        fs::write(&local, content).unwrap();
        let identity = files.upload(&local, path).unwrap();
        assert_eq!((identity.path.as_str(), identity.bytes), (path, content.len() as u64));
    }
    assert_eq!(paths(&files.list("m/*.csv").unwrap()), ["m/a.csv", "m/b.csv"]);
    assert_eq!(paths(&files.list("m/**/*.csv").unwrap()), ["m/a.csv", "m/b.csv", "m/old/c.csv"]);
    assert_eq!(paths(&files.list("**/[!a].csv").unwrap()), ["m/b.csv", "m/old/c.csv"]);
    assert_eq!(paths(&files.list("a b/*").unwrap()), ["a b/ü%2F+[1].csv"]);
    assert_eq!(paths(&files.list("m/a.csv").unwrap()), ["m/a.csv"]);

    let found = files.head("m/b.csv").unwrap();
    assert_eq!(found, files.list("m/b.*").unwrap()[0]);
    assert!(found.location.ends_with("/m/b.csv"), "{}", found.location);
    assert_eq!(files.download(&found.identity, &local).unwrap(), 2);
    assert_eq!(fs::read_to_string(&local).unwrap(), "bb");

    fs::write(&local, "changed").unwrap();
    files.upload(&local, "m/b.csv").unwrap();
    let failure = files.download(&found.identity, &local).unwrap_err();
    assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, "InputChanged"), "{failure}");

    files.delete("m/b.csv").unwrap();
    files.delete("m/b.csv").unwrap();
    for missing in ["m/b.csv", "m/B*.csv", "nowhere/*.csv", "m"] {
        let failure = files.list(missing).unwrap_err();
        assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, "NotFound"), "{failure}");
        assert!(failure.message.starts_with("connection `raw`: ") && failure.message.contains(missing), "{failure}");
    }
    for outside in ["../x.csv", "/etc/passwd", "m/../../x", "./m/a.csv", "m//a.csv", "m/", "", "m/\n.csv"] {
        for failure in [
            files.list(outside).unwrap_err(),
            files.upload(&local, outside).unwrap_err(),
            files.delete(outside).unwrap_err(),
        ] {
            assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, "InvalidPath"), "{failure}");
        }
    }
}

#[test]
fn files_of_a_folder_are_found_read_written_and_deleted() {
    let root = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    check_reading_and_writing(&folder(root.path()), scratch.path());
}

#[test]
fn objects_of_a_bucket_are_found_read_written_and_deleted() {
    let scratch = tempfile::tempdir().unwrap();
    let files = bucket("files-test");
    check_reading_and_writing(&files, scratch.path());
    assert_eq!(files.uri("m/a.csv"), "s3://files-test/in/here/m/a.csv");
}

#[test]
fn what_shows_a_folder_of_a_bucket_is_no_file() {
    let files = bucket("marker-test");
    for object in ["folder/", "folder/deep/", "folder/empty.csv"] {
        put(&format!("marker-test/in/here/{object}"));
    }
    assert_eq!(paths(&files.list("folder/*").unwrap()), ["folder/empty.csv"]);
    assert_eq!(paths(&files.list("**").unwrap()), ["folder/empty.csv"]);
}

#[test]
fn a_key_that_is_no_path_is_named() {
    let files = bucket("odd-test");
    put("odd-test/in/here/a//b.csv");
    let failure = files.list("**").unwrap_err();
    assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, "InvalidPath"), "{failure}");
    assert!(failure.message.contains("a//b.csv"), "{failure}");
}

#[test]
fn a_large_object_arrives_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let (local, back) = (scratch.path().join("local"), scratch.path().join("back"));
    let content: Vec<u8> = (0..12_000_000_u32).map(|byte| (byte % 251) as u8).collect();
    fs::write(&local, &content).unwrap();
    let files = bucket("large-test");
    let identity = files.upload(&local, "large").unwrap();
    assert_eq!(files.download(&identity, &back).unwrap(), 12_000_000);
    assert!(fs::read(&back).unwrap() == content);
}

#[test]
fn symbolic_links_lead_to_files_inside_and_never_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.csv"), "s").unwrap();
    let root = tempfile::tempdir().unwrap();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, root.path().join(name)).unwrap();
    fs::write(root.path().join("a.csv"), "a").unwrap();
    link(Path::new("a.csv"), "b.csv");
    link(Path::new("nowhere"), "dangling.csv");
    link(outside.path(), "out");
    let files = folder(root.path());
    assert_eq!(paths(&files.list("*.csv").unwrap()), ["a.csv", "b.csv"]);

    link(&outside.path().join("secret.csv"), "c.csv");
    let local = root.path().join("a.csv");
    for failure in [
        files.list("*.csv").unwrap_err(),
        files.head("c.csv").unwrap_err(),
        files.head("out/secret.csv").unwrap_err(),
        files.upload(&local, "out/new.csv").unwrap_err(),
        files.upload(&local, "out/new/new.csv").unwrap_err(),
        files.delete("out/secret.csv").unwrap_err(),
    ] {
        assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, "InvalidPath"), "{failure}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_half_written_file_is_never_seen() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join(".a.csv1234.part"), "half").unwrap();
    let failure = folder(root.path()).list("*").unwrap_err();
    assert_eq!(failure.reason, "NotFound");
}

#[test]
fn a_missing_folder_is_named_and_made_only_to_be_written() {
    let root = tempfile::tempdir().unwrap();
    let target = ConnectionTarget::Folder { path: root.path().join("new/folder").to_str().unwrap().to_owned() };
    let failure = Files::open(&connection(AccessMode::Read, target.clone()), &environment(&[])).err().unwrap();
    assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, "NotFound"));
    assert!(failure.message.contains("new/folder"), "{failure}");
    let files = Files::open(&connection(AccessMode::Write, target), &environment(&[])).unwrap();
    assert_eq!(files.list("*").unwrap_err().reason, "NotFound");
}

#[test]
fn a_missing_bucket_is_named() {
    for failure in [
        bucket_at(s3(), "no-bucket").list("*").unwrap_err(),
        bucket_at(s3(), "no-bucket").upload(Path::new("/dev/null"), "x").unwrap_err(),
    ] {
        assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, "NotFound"), "{failure}");
        assert!(failure.message.contains("bucket no-bucket"), "{failure}");
    }
}

#[test]
fn a_service_that_refuses_or_fails_is_told_apart_and_no_key_is_repeated() {
    let body = "<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>AKIACANARY</AWSAccessKeyId></Error>";
    for (status, reason, class) in [
        ("403 Forbidden", "AccessDenied", FailureClass::Transient),
        ("401 Unauthorized", "AccessDenied", FailureClass::Transient),
        ("501 Not Implemented", "ConnectionFailed", FailureClass::Transient),
        ("400 Bad Request", "Rejected", FailureClass::Permanent),
    ] {
        let (url, _requests) = http(move |_| reply(status, "", body));
        let files = bucket_at(&url, "some-bucket");
        for failure in [
            files.list("*.csv").unwrap_err(),
            files.head("a.csv").unwrap_err(),
            files.upload(Path::new("/dev/null"), "x").unwrap_err(),
        ] {
            assert_eq!((failure.class, failure.reason), (class, reason), "{status}: {failure}");
            assert!(
                failure.message.contains("s3://some-bucket/in/here") && !failure.message.contains("CANARY"),
                "{failure}"
            );
        }
    }
}

#[test]
fn an_unreachable_service_is_transient() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    for failure in [bucket_at(&url, "some-bucket").list("*").unwrap_err(), web(&url).list("a.csv").unwrap_err()] {
        assert_eq!((failure.class, failure.reason), (FailureClass::Transient, "ConnectionFailed"), "{failure}");
        assert!(failure.message.contains("refused"), "{failure}");
    }
}

#[test]
fn a_server_that_is_away_for_a_moment_is_asked_again_and_a_file_that_is_missing_is_not() {
    const AWAY: &str = "503 Service Unavailable";
    let head = |answers: [&'static str; 9]| {
        let asked = std::sync::Arc::new(AtomicUsize::new(0));
        let counter = std::sync::Arc::clone(&asked);
        let (url, _requests) = http(move |_| reply(answers[counter.fetch_add(1, Ordering::SeqCst)], "", ""));
        (web(&url).head("a.csv").is_ok(), asked.load(Ordering::SeqCst))
    };
    // A HEAD that is not answered well is sent once more before it counts as a try.
    assert_eq!(head([AWAY, AWAY, AWAY, AWAY, "200 OK", "", "", "", ""]), (true, 5));
    assert_eq!(head([AWAY; 9]), (false, 8));
    assert_eq!(head(["404 Not Found"; 9]), (false, 2));
}

#[test]
fn a_bucket_without_credentials_says_how_to_give_them() {
    let mut target = s3_target("http://127.0.0.1:1", "some-bucket");
    let open = |target: &ConnectionTarget, environment: &Environment| {
        Files::open(&connection(AccessMode::Read, target.clone()), environment).err()
    };
    assert_eq!(open(&target, &environment(&[("ID", "x")])).unwrap().reason, "SecretMissing");
    if let ConnectionTarget::S3 { access_key_id, secret_access_key, .. } = &mut target {
        (*access_key_id, *secret_access_key) = (None, None);
    }
    let failure = open(&target, &environment(&[])).unwrap();
    assert_eq!((failure.class, failure.reason), (FailureClass::Transient, "AccessDenied"));
    assert!(failure.message.contains("AWS_ACCESS_KEY_ID"), "{failure}");
    assert_eq!(open(&target, &environment(&[("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "y")])), None);
    if let ConnectionTarget::S3 { anonymous, .. } = &mut target {
        *anonymous = true;
    }
    assert_eq!(open(&target, &environment(&[])), None);
}

#[test]
fn a_file_of_a_web_server_is_read_with_its_token_and_never_written() {
    let (url, requests) = http(|request| {
        let found = request.head.split(' ').nth(1) == Some("/data/a%20b.csv");
        reply(if found { "200 OK" } else { "404 Not Found" }, "etag: \"v1\"\r\n", if found { "hello" } else { "" })
    });
    let files = web(&url);
    let scratch = tempfile::tempdir().unwrap();
    let local = scratch.path().join("local");
    let found = files.list("a b.csv").unwrap();
    assert_eq!(found[0].identity, FileIdentity { path: "a b.csv".to_owned(), bytes: 5, version: "\"v1\"".to_owned() });
    assert_eq!(found[0].location, format!("{url}/data/a%20b.csv"));
    assert!(requests.recv().unwrap().head.contains("authorization: Bearer token-canary\r\n"));
    files.download(&found[0].identity, &local).unwrap();
    assert_eq!(fs::read_to_string(&local).unwrap(), "hello");

    let other = FileIdentity { version: "\"v0\"".to_owned(), ..found[0].identity.clone() };
    assert_eq!(files.download(&other, &local).unwrap_err().reason, "InputChanged");
    assert_eq!(files.list("missing.csv").unwrap_err().reason, "NotFound");
    assert_eq!(files.list("*.csv").unwrap_err().reason, "InvalidPath");
    assert_eq!(files.list("%2e%2e/x.csv").unwrap_err().reason, "InvalidPath");
    assert_eq!(files.upload(&local, "x").unwrap_err().reason, "ReadOnly");
    assert_eq!(files.delete("x").unwrap_err().reason, "ReadOnly");
}

#[test]
fn a_connection_without_files_is_refused() {
    let target = ConnectionTarget::Secrets(BTreeMap::new());
    let failure = Files::open(&connection(AccessMode::Read, target), &environment(&[])).err().unwrap();
    assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, "WrongConnection"));
}
