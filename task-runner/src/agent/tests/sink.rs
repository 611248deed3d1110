use std::path::PathBuf;
use std::time::Duration;

use pintail_protocol::{FORMAT, ReceivedEvent};

use super::*;
use crate::agent::HttpSink;
use crate::agent::sink::tell;
use crate::tests::servers::{http, reply};

fn occurrence() -> Occurrence {
    Occurrence {
        format: FORMAT,
        namespace: "data".to_owned(),
        plan: "import".to_owned(),
        trigger: "hook".to_owned(),
        happened: Happened::Event(ReceivedEvent {
            id: "1".to_owned(),
            source: "/shop".to_owned(),
            event_type: "created".to_owned(),
            subject: None,
            time: at("2026-01-01T00:00:00Z"),
            data: serde_json::Value::Null,
        }),
    }
}

async fn told(url: &str, token: PathBuf) -> Result<OccurrenceAnswer, SinkError> {
    HttpSink::new(url, token).unwrap().tell(occurrence()).await
}

fn token(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[tokio::test]
async fn an_occurrence_is_posted_with_the_token_and_its_answer_read() {
    let (folder, path) = token("first\n");
    for answer in [full().unwrap(), dropped().unwrap(), OccurrenceAnswer::Execution { name: "run".to_owned() }] {
        let body = serde_json::to_string(&answer).unwrap();
        let (url, requests) = http(move |_| reply("200 OK", "", &body));
        assert_eq!(told(&url, path.clone()).await, Ok(answer));
        let request = requests.recv().unwrap();
        assert!(request.head.starts_with("POST /v1/occurrences HTTP/1.1\r\n"), "{}", request.head);
        assert!(request.head.contains("authorization: Bearer first\r\n"), "{}", request.head);
        assert_eq!(serde_json::from_slice::<Occurrence>(&request.body).unwrap(), occurrence());
    }
    std::fs::write(&path, "second").unwrap();
    let (url, requests) = http(|_| reply("503 Service Unavailable", "", "not leading"));
    let error = told(&url, path.clone()).await.unwrap_err();
    assert_eq!(error, SinkError::Unreachable("the operator answered 503 Service Unavailable: not leading".to_owned()));
    assert!(requests.recv().unwrap().head.contains("authorization: Bearer second\r\n"));
    drop(folder);
    assert!(matches!(told(&url, path).await, Err(SinkError::Unreachable(message)) if message.contains("/token")));
}

#[tokio::test]
async fn only_what_is_wrong_with_the_occurrence_itself_is_not_told_again() {
    let (_folder, path) = token("token");
    for (status, is_refused) in [
        ("400 Bad Request", true),
        ("413 Payload Too Large", true),
        ("422 Unprocessable Entity", true),
        ("401 Unauthorized", false),
        ("403 Forbidden", false),
        ("404 Not Found", false),
        ("429 Too Many Requests", false),
        ("500 Internal Server Error", false),
        ("302 Found", false),
        ("200 OK", false),
    ] {
        let (url, _requests) = http(move |_| reply(status, "location: /\r\n", "<html>"));
        let error = told(&url, path.clone()).await.unwrap_err();
        assert_eq!(matches!(error, SinkError::Refused(_)), is_refused, "{status}: {error}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = told(&format!("http://{free}"), path).await.unwrap_err();
    assert!(matches!(&error, SinkError::Unreachable(message) if message.contains("refused")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn telling_is_repeated_with_growing_pauses_until_patience_ends() {
    let patience = Duration::from_secs(10);
    let sink = TestSink::answering([Err(unreachable()), Err(unreachable()), dropped()]);
    assert_eq!(tell(sink.as_ref(), &occurrence(), patience).await, dropped());
    assert_eq!(sink.told().len(), 3);

    let sink = TestSink::answering(std::iter::repeat_with(|| Err(unreachable())).take(100));
    let started = tokio::time::Instant::now();
    assert_eq!(tell(sink.as_ref(), &occurrence(), patience).await, Err(unreachable()));
    assert!(started.elapsed() <= patience);
    assert_eq!(sink.told().len(), 9);

    let sink = TestSink::answering([Err(refused())]);
    assert_eq!(tell(sink.as_ref(), &occurrence(), patience).await, Err(refused()));
    assert_eq!(sink.told().len(), 1);
}
