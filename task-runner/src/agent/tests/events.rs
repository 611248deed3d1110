use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use pintail_protocol::{EventHook, OCCURRENCE_BYTES, SecretVariable};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::agent::events::{Events, serve};
use crate::agent::sign;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TYPE: &str = "com.example.order.created";

fn hook(trigger: &str, source: Option<&str>, variable: &str) -> EventHook {
    EventHook {
        plan: "orders".to_owned(),
        trigger: trigger.to_owned(),
        event_type: TYPE.to_owned(),
        source: source.map(str::to_owned),
        signing_key: SecretVariable(variable.to_owned()),
    }
}

/// Gives where it listens; it ends with the test's runtime.
async fn server(sink: &Arc<TestSink>) -> SocketAddr {
    let environment = Environment::new(BTreeMap::from([("KEY".to_owned(), KEY.to_owned())]), PathBuf::new());
    let agent = agent(&std::env::temp_dir(), environment, Arc::clone(sink) as Arc<dyn Sink>);
    let hooks = vec![hook("hook", None, "KEY"), hook("shop", Some("/shop"), "KEY"), hook("keyless", None, "NONE")];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Events::new(agent, hooks), never()));
    address
}

fn structured(id: &str, source: &str, event_type: &str) -> String {
    let event = json!({ "specversion": "1.0", "id": id, "source": source, "type": event_type, "data": { "order": 7 } });
    event.to_string()
}

/// A request with a right signature.
fn signed(address: SocketAddr, trigger: &str, content_type: &str, body: &str) -> RequestBuilder {
    let seconds = Timestamp::now().as_second();
    Client::new()
        .post(format!("http://{address}/events/orders/{trigger}"))
        .header("content-type", content_type)
        .header("webhook-id", "7")
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", sign(KEY, "7", seconds, body.as_bytes()).unwrap())
        .body(body.to_owned())
}

const EVENT: &str = "application/cloudevents+json";

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    (response.status(), json_of(response).await)
}

async fn json_of(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn an_event_starts_a_run_in_both_modes() {
    let sink = Arc::new(TestSink::default());
    let address = server(&sink).await;
    let of_structure = answer(signed(address, "hook", EVENT, &structured("7", "/shop", TYPE))).await;
    assert_eq!(of_structure, (StatusCode::ACCEPTED, json!({ "execution": "run-of-/shop-7" })));
    let binary = signed(address, "shop", "application/json", "{\"order\":7}")
        .header("ce-specversion", "1.0")
        .header("ce-id", "7")
        .header("ce-source", "/shop")
        .header("ce-type", TYPE);
    assert_eq!(answer(binary).await, of_structure);
    let told = sink.told();
    let triggers: Vec<_> = told.iter().map(|told| (told.namespace.as_str(), told.trigger.as_str())).collect();
    assert_eq!(triggers, [("data", "hook"), ("data", "shop")]);
    for told in &told {
        let Happened::Event(event) = &told.happened else { panic!("{told:?}") };
        assert_eq!((event.id.as_str(), event.source.as_str(), &event.data), ("7", "/shop", &json!({ "order": 7 })));
    }
}

#[tokio::test]
async fn an_event_that_is_sent_a_hundred_times_at_once_gets_one_answer() {
    let sink = Arc::new(TestSink::default());
    let address = server(&sink).await;
    let mut senders = JoinSet::new();
    for _ in 0..100 {
        senders.spawn(answer(signed(address, "hook", EVENT, &structured("7", "/shop", TYPE))));
    }
    for answer in senders.join_all().await {
        assert_eq!(answer, (StatusCode::ACCEPTED, json!({ "execution": "run-of-/shop-7" })));
    }
    assert_eq!(sink.told().len(), 100);
}

#[tokio::test]
async fn what_is_not_signed_or_does_not_fit_is_refused_with_its_reason_and_told_to_nobody() {
    let sink = Arc::new(TestSink::default());
    let address = server(&sink).await;
    let event = structured("7", "/shop", TYPE);
    let good = || signed(address, "hook", EVENT, &event);
    let unsigned = Client::new().post(format!("http://{address}/events/orders/hook")).body(event.clone());
    let binary = signed(address, "hook", "application/json", "{}")
        .header("ce-specversion", "1.0")
        .header("ce-id", "8")
        .header("ce-source", "/shop")
        .header("ce-type", TYPE);
    for (request, status, part) in [
        (unsigned, 401, "webhook-id is missing"),
        (good().body("{}"), 401, "no signature"),
        (binary, 401, "ce-id and webhook-id differ"),
        (signed(address, "nothing", EVENT, &event), 404, "/events/<plan>/<trigger>"),
        (signed(address, "keyless", EVENT, &event), 503, "key"),
        (signed(address, "hook", EVENT, "canary"), 400, "not a JSON object"),
        (signed(address, "hook", "application/cloudevents-batch+json", "[]"), 415, "by itself"),
        (signed(address, "hook", EVENT, &structured("7", "/shop", "other")), 422, TYPE),
        (signed(address, "shop", EVENT, &structured("7", "/other", TYPE)), 422, "source /shop"),
    ] {
        let (found, body) = answer(request).await;
        let reason = body["error"].as_str().unwrap();
        assert!(found.as_u16() == status && reason.contains(part) && !reason.contains("canary"), "{found} {reason}");
    }
    let get = Client::new().get(format!("http://{address}/events/orders/hook")).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(sink.told(), []);
}

#[tokio::test]
async fn a_long_body_is_refused_before_it_is_parsed_whether_its_length_is_announced_or_not() {
    let sink = Arc::new(TestSink::default());
    let address = server(&sink).await;
    let long = "x".repeat(OCCURRENCE_BYTES + 1);
    let (status, body) = answer(signed(address, "hook", EVENT, &long)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{body}");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let chunked = format!(
        "POST /events/orders/hook HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    // It may answer before it has read all.
    let _ = stream.write_all(chunked.as_bytes()).await;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
    // Short as a body, too long as an occurrence.
    let event = json!({
        "specversion": "1.0", "id": "7", "source": "/shop", "type": TYPE, "data": "\u{7f}".repeat(OCCURRENCE_BYTES - 200),
    });
    let (status, _) = answer(signed(address, "hook", EVENT, &event.to_string())).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(sink.told(), []);
}

#[tokio::test]
async fn the_answer_of_the_sink_decides_the_status() {
    let answers = [full(), dropped(), Err(refused())];
    let sink = TestSink::answering(answers);
    let address = server(&sink).await;
    for (status, retry_after, part) in
        [(503, Some("30"), "100 runs wait"), (422, None, "the plan is suspended"), (502, None, "not understood")]
    {
        let response = signed(address, "hook", EVENT, &structured("7", "/shop", TYPE)).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        let after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(after.as_deref(), retry_after);
        let body = json_of(response).await;
        assert!(body["error"].as_str().unwrap().contains(part), "{body}");
    }
}

#[tokio::test]
async fn health_is_told_to_everyone() {
    let address = server(&Arc::new(TestSink::default())).await;
    let response = Client::new().get(format!("http://{address}/healthz")).send().await.unwrap();
    assert_eq!((response.status(), response.text().await.unwrap()), (StatusCode::OK, "ok\n".to_owned()));
}

/// The clock is the runtime's: it runs ahead while all wait.
#[tokio::test(start_paused = true)]
async fn a_sender_that_is_too_slow_is_cut_off() {
    let address = server(&Arc::new(TestSink::default())).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST /events/orders/hook HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Cut off with or without an answer.
    let _ = stream.read_to_end(&mut answer).await;

    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST /events/orders/hook HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n12").await.unwrap();
    answer.clear();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, wait) = tokio::sync::oneshot::channel();
    struct Slow(tokio::sync::mpsc::UnboundedSender<()>, Mutex<Option<tokio::sync::oneshot::Receiver<()>>>);
    #[async_trait]
    impl Sink for Slow {
        async fn tell(&self, _: Occurrence) -> Result<OccurrenceAnswer, SinkError> {
            self.0.send(()).unwrap();
            let wait = self.1.lock().unwrap().take().unwrap();
            wait.await.unwrap();
            Ok(OccurrenceAnswer::Execution { name: "run".to_owned() })
        }
    }
    let environment = Environment::new(BTreeMap::from([("KEY".to_owned(), KEY.to_owned())]), PathBuf::new());
    let agent = agent(&std::env::temp_dir(), environment, Arc::new(Slow(sender, Mutex::new(Some(wait)))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = never();
    let server = tokio::spawn(serve(listener, Events::new(agent, vec![hook("hook", None, "KEY")]), stop.clone()));
    let sender = tokio::spawn(answer(signed(address, "hook", EVENT, &structured("7", "/shop", TYPE))));
    told.recv().await.unwrap();
    stop.cancel();
    go_on.send(()).unwrap();
    assert_eq!(sender.await.unwrap().0, StatusCode::ACCEPTED);
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
