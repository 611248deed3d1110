use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use base64::Engine as _;
use pintail_protocol::{
    AccessMode, Connection, Event, FailureClass, FileBinding, MailEncryption, SecretVariable, StoredFile, WebhookUrl,
};

use super::*;
use crate::tests::Fixture;
use crate::tests::servers::{http, reply, smtp};

fn connect(fixture: &mut Fixture, target: ConnectionTarget) {
    fixture.order.connections = vec![Connection { name: "news".to_owned(), mode: AccessMode::Write, target }];
}

fn mail_at(address: &str) -> ConnectionTarget {
    let (host, port) = address.split_once(':').unwrap();
    ConnectionTarget::Smtp {
        host: host.to_owned(),
        port: port.parse().unwrap(),
        encryption: MailEncryption::None,
        from: "Pintail <pintail@example.com>".to_owned(),
        username: None,
        password: None,
    }
}

fn webhook_at(url: &str) -> ConnectionTarget {
    ConnectionTarget::Webhook { url: Some(WebhookUrl::Plain(url.to_owned())), bearer_token: None, signing_key: None }
}

fn work(subject: &str) -> NotifyWork {
    NotifyWork {
        connection: "news".to_owned(),
        to: vec!["data@example.com".to_owned(), "Ünal <u@example.com>".to_owned()],
        subject: subject.to_owned(),
        body: "Zwölf rows.\n.\nBye".to_owned(),
        attachments: Vec::new(),
        message_id: "uid-1/tell".to_owned(),
        event: None,
        log: None,
    }
}

fn send(fixture: &Fixture, work: &NotifyWork) -> Result<(), TaskFailure> {
    let session = fixture.open().unwrap();
    session.batch("CREATE TEMP TABLE t AS SELECT 1 AS n, 'é' AS k; CREATE TEMP TABLE big AS SELECT md5(range::VARCHAR) AS h FROM range(700000)", "make tables").unwrap();
    notify(&session, work, &fixture.order, &fixture.environment)
}

/// The message with this subject, as the mail server has kept it.
fn kept(subject: &str) -> String {
    let folder = PathBuf::from(smtp().1).join("new");
    let messages =
        std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    messages
        .map(|text| text.replace("\r\n", "\n"))
        .find(|text| text.contains(&format!("Subject: {subject}\n")))
        .unwrap()
}

/// A mail server that refuses every recipient with this answer.
fn refusing(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b"220 ready\r\n").unwrap();
            for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
                let reply = match line.split(' ').next().unwrap() {
                    "EHLO" => "250-here\r\n250 AUTH PLAIN",
                    "RCPT" | "AUTH" => answer,
                    _ => "250 fine",
                };
                if stream.write_all(format!("{reply}\r\n").as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn a_mail_arrives_with_its_text_its_files_and_a_stable_id() {
    let mut fixture = Fixture::new();
    connect(&mut fixture, mail_at(smtp().0));
    let page = fixture.write("page", "<h1>é</h1>");
    let file = StoredFile { key: "key".to_owned(), bytes: 11, digest: String::new() };
    fixture.order.files.push(FileBinding { name: "summary".to_owned(), file });
    fixture.workspace.staged.insert("key".to_owned(), PathBuf::from(page));
    let mut work = work("Arrives");
    let attach = |source: &str, file_name: &str, format| Attachment {
        source: source.to_owned(),
        file_name: file_name.to_owned(),
        format,
    };
    work.attachments =
        vec![attach("t", "bad rows.csv", Some(TableFormat::Csv)), attach("summary", "summary.html", None)];
    send(&fixture, &work).unwrap();

    let message = kept("Arrives");
    for line in [
        "From: Pintail <pintail@example.com>\n",
        "Message-ID: <uid-1-tell@pintail>\n",
        "X-RcptTo: data@example.com, u@example.com\n",
        "filename=\"bad rows.csv\"\n",
        "Content-Type: text/csv; charset=utf-8\n",
        "Content-Type: text/html; charset=utf-8\n",
        "\nDate: ",
    ] {
        assert!(message.contains(line), "{line}{message}");
    }
    for content in ["n,k\n1,é\n", "<h1>é</h1>"] {
        assert!(message.contains(&base64::engine::general_purpose::STANDARD.encode(content)), "{message}");
    }
    assert!(message.contains("Zw=C3=B6lf rows.\n.\nBye"), "{message}");
}

#[test]
fn a_subject_is_one_line_whatever_stands_in_it() {
    let mut fixture = Fixture::new();
    connect(&mut fixture, mail_at(smtp().0));
    send(&fixture, &work("One\r\nBcc: other@example.com")).unwrap();
    let message = kept("One  Bcc: other@example.com");
    assert!(!message.contains("\nBcc:"), "{message}");
}

#[test]
fn recipients_are_checked_before_anything_is_sent() {
    let mut fixture = Fixture::new();
    connect(&mut fixture, mail_at("127.0.0.1:1"));
    let mut wrong = work("Wrong");
    wrong.to[1] = "Jane Doe".to_owned();
    let failure = send(&fixture, &wrong).unwrap_err();
    assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, "InvalidAddress"));
    assert!(failure.message.contains("recipient 2 of 2") && !failure.message.contains("Jane"), "{failure}");
    wrong.to.clear();
    assert_eq!(send(&fixture, &wrong).unwrap_err().reason, "InvalidAddress");
}

#[test]
fn what_the_mail_server_refuses_is_permanent_and_what_it_puts_off_is_not() {
    for (answer, class, reason) in [
        ("550 5.1.1 no such user", FailureClass::Permanent, "Rejected"),
        ("451 4.7.1 greylisted", FailureClass::Transient, "ConnectionFailed"),
        ("535 5.7.8 wrong password", FailureClass::Transient, "AccessDenied"),
    ] {
        let mut fixture = Fixture::new();
        connect(&mut fixture, mail_at(&refusing(answer)));
        let failure = send(&fixture, &work("Refused")).unwrap_err();
        assert_eq!((failure.class, failure.reason), (class, reason), "{failure}");
        assert!(
            failure.message.starts_with("connection `news`: ") && failure.message.contains(&answer[4..]),
            "{failure}"
        );
    }
}

#[test]
fn a_name_and_password_are_used_and_never_shown() {
    let mut fixture = Fixture::new();
    let mut target = mail_at(&refusing("535 5.7.8 wrong"));
    if let ConnectionTarget::Smtp { username, password, .. } = &mut target {
        (*username, *password) = (Some(SecretVariable("NAME".to_owned())), Some(SecretVariable("WORD".to_owned())));
    }
    connect(&mut fixture, target);
    assert_eq!(send(&fixture, &work("Login")).unwrap_err().reason, "SecretMissing");
    let variables =
        [("NAME", "name-canary"), ("WORD", "word-canary")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    fixture.environment = Environment::new(BTreeMap::from(variables), PathBuf::new());
    let failure = send(&fixture, &work("Login")).unwrap_err();
    assert_eq!(failure.reason, "AccessDenied");
    assert!(!failure.message.contains("canary"), "{failure}");
}

#[test]
fn a_server_that_cannot_encrypt_gets_no_mail() {
    let mut fixture = Fixture::new();
    let mut target = mail_at(smtp().0);
    if let ConnectionTarget::Smtp { encryption, .. } = &mut target {
        *encryption = MailEncryption::StartTls;
    }
    connect(&mut fixture, target);
    let failure = send(&fixture, &work("Plain")).unwrap_err();
    assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, "Rejected"), "{failure}");
    assert!(failure.message.contains("`encryption`"), "{failure}");
}

#[test]
fn only_a_server_that_was_not_reached_is_sent_the_same_again() {
    let tries = |answers: &[&str]| {
        let left = std::cell::RefCell::new(answers.iter());
        let send = || match left.borrow_mut().next() {
            Some(cause) => Err(TaskFailure::transient("ConnectionFailed", (*cause).to_owned())),
            None => Ok(()),
        };
        let sent = reach(send).is_ok();
        (sent, answers.len() - left.borrow().len())
    };
    let unknown = "failed to lookup address information: Temporary failure in name resolution";
    assert_eq!(tries(&[unknown, unknown]), (true, 2));
    assert_eq!(tries(&[unknown; 5]), (false, 4));
    assert_eq!(tries(&["Connection refused (os error 111)", unknown]), (true, 2));
    assert_eq!(tries(&["Connection reset by peer (os error 104)", unknown]), (false, 1));
}

#[test]
fn a_name_that_is_not_found_is_told_by_these_words() {
    use std::net::ToSocketAddrs;
    let error = ("nobody.invalid", 25).to_socket_addrs().unwrap_err();
    assert!(error.to_string().contains("failed to lookup address"), "{error}");
}

#[test]
fn an_unreachable_receiver_is_transient() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for target in [mail_at(&free), webhook_at(&format!("http://{free}"))] {
        let mut fixture = Fixture::new();
        connect(&mut fixture, target);
        let failure = send(&fixture, &work("Nobody")).unwrap_err();
        assert_eq!((failure.class, failure.reason), (FailureClass::Transient, "ConnectionFailed"), "{failure}");
        assert!(failure.message.contains("refused"), "{failure}");
    }
}

#[test]
fn attachments_have_a_plain_name_and_a_bounded_size() {
    let mut fixture = Fixture::new();
    connect(&mut fixture, mail_at("127.0.0.1:1"));
    let mut work = work("Attached");
    for (source, name, reason) in
        [("t", "../x.csv", "InvalidPath"), ("t", "", "InvalidPath"), ("big", "big.csv", "TooLarge")]
    {
        work.attachments =
            vec![Attachment { source: source.to_owned(), file_name: name.to_owned(), format: Some(TableFormat::Csv) }];
        let failure = send(&fixture, &work).unwrap_err();
        assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, reason), "{failure}");
        assert!(failure.message.contains(&format!("attachment `{name}`")), "{failure}");
    }
}

#[test]
fn a_webhook_gets_the_message_as_json_under_a_stable_id() {
    let (url, requests) = http(|_| reply("200 OK", "", "ok"));
    let mut fixture = Fixture::new();
    let variables = [("URL", format!("{url}/services/secret-path")), ("TOKEN", "token-canary".to_owned())];
    fixture.environment =
        Environment::new(variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(), PathBuf::new());
    connect(
        &mut fixture,
        ConnectionTarget::Webhook {
            url: Some(WebhookUrl::Secret(SecretVariable("URL".to_owned()))),
            bearer_token: Some(SecretVariable("TOKEN".to_owned())),
            signing_key: None,
        },
    );
    send(&fixture, &work("Hello")).unwrap();
    let request = requests.recv().unwrap();
    assert!(request.head.starts_with("POST /services/secret-path HTTP/1.1\r\n"));
    for header in [
        "authorization: Bearer token-canary\r\n",
        "idempotency-key: uid-1/tell\r\n",
        "content-type: application/json\r\n",
    ] {
        assert!(request.head.to_ascii_lowercase().contains(&header.to_ascii_lowercase()), "{}", request.head);
    }
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let expected = serde_json::json!({
        "text": "Hello\n\nZwölf rows.\n.\nBye", "id": "uid-1/tell", "subject": "Hello", "body": "Zwölf rows.\n.\nBye",
        "namespace": "default", "workflow": "workflow", "execution": "run", "task": "task",
    });
    assert_eq!(body, expected);
}

#[test]
fn a_webhooks_answer_decides_whether_another_attempt_helps_and_its_url_is_not_shown() {
    for (status, class, reason) in [
        ("400 Bad Request", FailureClass::Permanent, "Rejected"),
        ("403 Forbidden", FailureClass::Transient, "AccessDenied"),
        ("408 Request Timeout", FailureClass::Transient, "ConnectionFailed"),
        ("429 Too Many Requests", FailureClass::Transient, "ConnectionFailed"),
        ("500 Internal Server Error", FailureClass::Transient, "ConnectionFailed"),
        ("307 Temporary Redirect", FailureClass::Permanent, "Rejected"),
    ] {
        let (url, requests) = http(move |_| reply(status, "location: /elsewhere\r\n", "canary"));
        let mut fixture = Fixture::new();
        connect(&mut fixture, webhook_at(&format!("{url}/canary?key=canary")));
        let failure = send(&fixture, &work("Hello")).unwrap_err();
        assert_eq!((failure.class, failure.reason), (class, reason), "{failure}");
        assert!(failure.message.contains("127.0.0.1") && !failure.message.contains("canary"), "{failure}");
        requests.recv().unwrap();
        assert!(requests.try_recv().is_err());
    }
}

#[test]
fn a_webhook_with_a_key_gets_a_signed_message() {
    let (url, requests) = http(|_| reply("200 OK", "", "ok"));
    let mut fixture = Fixture::new();
    fixture.environment =
        Environment::new(BTreeMap::from([("KEY".to_owned(), "whsec_a2V5LWNhbmFyeQ==".to_owned())]), PathBuf::new());
    let mut target = webhook_at(&url);
    if let ConnectionTarget::Webhook { signing_key, .. } = &mut target {
        *signing_key = Some(SecretVariable("KEY".to_owned()));
    }
    connect(&mut fixture, target);
    send(&fixture, &work("Signed")).unwrap();
    let request = requests.recv().unwrap();
    let value = |name: &str| {
        let line = request.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_default().to_owned()
    };
    assert_eq!(value("webhook-id"), "uid-1/tell");
    let key = crate::signature::SigningKey::parse("key-canary").unwrap();
    let (timestamp, signature) = (value("webhook-timestamp"), value("webhook-signature"));
    key.verify("uid-1/tell", &timestamp, &signature, &request.body, jiff::Timestamp::now()).unwrap();

    fixture.environment = Environment::new(BTreeMap::from([("KEY".to_owned(), "whsec_%".to_owned())]), PathBuf::new());
    assert_eq!(send(&fixture, &work("Signed")).unwrap_err().reason, "InvalidConnection");
}

#[test]
fn a_connection_that_takes_no_such_message_is_refused() {
    let mut fixture = Fixture::new();
    connect(&mut fixture, ConnectionTarget::Folder { path: "/".to_owned() });
    assert_eq!(send(&fixture, &work("Hello")).unwrap_err().reason, "WrongConnection");
    connect(&mut fixture, webhook_at("http://127.0.0.1:1"));
    let mut work = work("Hello");
    let attachment =
        Attachment { source: "t".to_owned(), file_name: "t.csv".to_owned(), format: Some(TableFormat::Csv) };
    work.attachments.push(attachment);
    assert_eq!(send(&fixture, &work).unwrap_err().reason, "WrongConnection");
    work.attachments.clear();
    connect(&mut fixture, webhook_at("ftp://canary"));
    let failure = send(&fixture, &work).unwrap_err();
    assert_eq!(failure.reason, "InvalidConnection");
    assert!(!failure.message.contains("canary"));
}

#[test]
fn a_cloud_event_has_its_attributes_as_headers_and_its_data_beside_the_text() {
    let (url, requests) = http(|_| reply("200 OK", "", "ok"));
    let mut fixture = Fixture::new();
    connect(&mut fixture, webhook_at(&url));
    let mut work = work("Hello");
    let data = serde_json::json!({ "plan": "summary", "status": "Failed" });
    work.event = Some(Event {
        event_type: "dev.pintail.execution.failed".to_owned(),
        source: "/namespaces/data/launchplans/summary".to_owned(),
        subject: "summary-x".to_owned(),
        time: "2026-11-28T02:01:03Z".parse().unwrap(),
        data: data.as_object().unwrap().clone(),
    });
    send(&fixture, &work).unwrap();
    let request = requests.recv().unwrap();
    for header in [
        "ce-specversion: 1.0\r\n",
        "ce-id: uid-1/tell\r\n",
        "ce-type: dev.pintail.execution.failed\r\n",
        "ce-source: /namespaces/data/launchplans/summary\r\n",
        "ce-subject: summary-x\r\n",
        "ce-time: 2026-11-28T02:01:03Z\r\n",
        "content-type: application/json\r\n",
    ] {
        let head = request.head.to_ascii_lowercase();
        assert!(head.contains(&header.to_ascii_lowercase()), "{header}{}", request.head);
    }
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let fields = ["text", "id", "plan", "status", "task"].map(|name| body[name].as_str());
    assert_eq!(
        fields,
        [Some("Hello\n\nZwölf rows.\n.\nBye"), Some("uid-1/tell"), Some("summary"), Some("Failed"), None]
    );
}

#[test]
fn a_message_ends_with_the_last_lines_of_a_log_and_without_secrets() {
    let mut work = work("Hello");
    work.log = Some(LogTail { task: "cleaned".to_owned(), lines: 2, bytes: 1000 });
    let redact = |text: &str| text.replace("canary", "[secret]");
    let log = || Ok(b"one\ntwo\npassword canary\n".to_vec());
    let body = with_log(&work, |_| log(), redact).body;
    assert_eq!(body, "Zwölf rows.\n.\nBye\nEnd of the log of task cleaned:\n  two\n  password [secret]\n");
    work.log = Some(LogTail { task: "cleaned".to_owned(), lines: 9, bytes: 17 });
    assert!(with_log(&work, |_| log(), redact).body.ends_with("cleaned:\n  password [secret]\n"));
    assert_eq!(with_log(&work, |_| Ok(Vec::new()), redact).body, work.body);
}

#[test]
fn a_log_that_cannot_be_read_holds_no_message_up() {
    let mut work = work("Hello");
    work.log = Some(LogTail { task: "cleaned".to_owned(), lines: 2, bytes: 1000 });
    let lost = pintail_storage::RunTask::new("../x", "u", "t", None).unwrap_err();
    let body = with_log(&work, |_| Err(lost), str::to_owned).body;
    assert!(body.contains("End of the log of task cleaned:\nIt cannot be read: "), "{body}");
}
