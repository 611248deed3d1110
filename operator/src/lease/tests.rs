use std::future::{Future, pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Candidate, Leadership};
use crate::Clock;

/// How a replica reaches the server.
#[derive(Clone, Copy, PartialEq)]
enum Line {
    Works,
    /// Requests arrive nowhere and nothing comes back.
    Cut,
    /// Requests are done, and nothing comes back.
    LosesReplies,
}

/// One Lease, written by compare-and-swap; and who led when.
#[derive(Clone)]
struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    led: Arc<Mutex<Vec<(String, Duration)>>>,
    start: Instant,
}

struct OffBy(SignedDuration);

impl Clock for OffBy {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.0
    }
}

impl Server {
    fn new() -> Self {
        Self { lease: Arc::default(), led: Arc::default(), start: Instant::now() }
    }

    fn answer(&self, method: &Method, body: &[u8]) -> (StatusCode, Value) {
        let mut lease = self.lease.lock().unwrap();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        let refused = |status: StatusCode, reason: &str| {
            let code = status.as_u16();
            (status, json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": reason}))
        };
        match (method, &*lease) {
            (&Method::GET | &Method::PUT, None) => refused(StatusCode::NOT_FOUND, "NotFound"),
            (&Method::GET, Some(found)) => (StatusCode::OK, found.clone()),
            (&Method::POST, Some(_)) => refused(StatusCode::CONFLICT, "AlreadyExists"),
            (_, found) => {
                let mut next: Value = serde_json::from_slice(body).unwrap();
                if found.as_ref().is_some_and(|found| version(found) != version(&next)) {
                    return refused(StatusCode::CONFLICT, "Conflict");
                }
                let number = found.as_ref().map_or(0, |found| version(found).as_str().unwrap().parse::<u64>().unwrap());
                next["metadata"]["resourceVersion"] = json!((number + 1).to_string());
                *lease = Some(next.clone());
                (StatusCode::OK, next)
            }
        }
    }

    fn client(&self, line: Arc<Mutex<Line>>) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, line) = (server.clone(), line.clone());
            async move {
                let now = *line.lock().unwrap();
                if now == Line::Cut {
                    pending::<()>().await;
                }
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (status, answer) = server.answer(&head.method, &body);
                if now == Line::LosesReplies {
                    pending::<()>().await;
                }
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, std::io::Error>(Response::builder().status(status).body(answer).unwrap())
            }
        });
        Client::new(service, "pintail")
    }

    fn note(&self, what: String) {
        self.led.lock().unwrap().push((what, self.start.elapsed()));
    }

    fn noted(&self) -> Vec<String> {
        self.led.lock().unwrap().iter().map(|(what, _)| what.clone()).collect()
    }
}

/// Says when work ends, also where it is dropped.
struct Shift(Server, &'static str);

impl Drop for Shift {
    fn drop(&mut self) {
        self.0.note(format!("{} ends", self.1));
    }
}

struct Replica {
    line: Arc<Mutex<Line>>,
    stop: CancellationToken,
    led: JoinHandle<Leadership<()>>,
}

/// A replica whose clock is off, and which works until `until` is over.
fn replica<F: Future<Output = ()> + Send + 'static>(
    server: &Server,
    name: &'static str,
    clock_off: SignedDuration,
    until: impl FnOnce(CancellationToken) -> F + Send + 'static,
) -> Replica {
    let line = Arc::new(Mutex::new(Line::Works));
    let stop = CancellationToken::new();
    let clock = Arc::new(OffBy(clock_off));
    let candidate = Candidate::new(server.client(line.clone()), "pintail", name.to_owned(), clock);
    let (server, token) = (server.clone(), stop.clone());
    let led = tokio::spawn(async move {
        let work = async |stop| {
            server.note(format!("{name} starts"));
            let _shift = Shift(server.clone(), name);
            until(stop).await;
        };
        candidate.lead(&token, work).await
    });
    Replica { line, stop, led }
}

async fn first(server: &Server) -> Replica {
    let first = replica(server, "a", SignedDuration::ZERO, CancellationToken::cancelled_owned);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(server.noted(), ["a starts"]);
    first
}

fn second(server: &Server) -> Replica {
    replica(server, "b", SignedDuration::ZERO, CancellationToken::cancelled_owned)
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_cut_off_stops_before_another_starts() {
    let server = Server::new();
    let (a, _b) = (first(&server).await, second(&server));
    sleep(Duration::from_secs(30)).await;
    *a.line.lock().unwrap() = Line::Cut;
    let lost = a.led.await.unwrap();
    assert_eq!(lost, Leadership::Lost("it could not be renewed for 10 seconds".to_owned()));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(server.noted(), ["a starts", "a ends", "b starts"]);
    let led = server.led.lock().unwrap();
    assert!(led[2].1 - led[1].1 >= Duration::from_secs(2), "{led:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_clock_is_wrong_takes_nothing_from_one_that_renews() {
    let server = Server::new();
    let _a = first(&server).await;
    let _b = replica(&server, "b", SignedDuration::from_hours(24), CancellationToken::cancelled_owned);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(server.noted(), ["a starts"]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_reply_is_lost_costs_nothing() {
    let server = Server::new();
    let (a, _b) = (first(&server).await, second(&server));
    // At another moment between two renewals each time.
    for _ in 0..20 {
        sleep(Duration::from_millis(10_300)).await;
        *a.line.lock().unwrap() = Line::LosesReplies;
        sleep(Duration::from_secs(2)).await;
        *a.line.lock().unwrap() = Line::Works;
    }
    assert_eq!(server.noted(), ["a starts"]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_told_to_stop_lets_another_lead_at_once() {
    let server = Server::new();
    let (a, _b) = (first(&server).await, second(&server));
    sleep(Duration::from_secs(30)).await;
    a.stop.cancel();
    assert_eq!(a.led.await.unwrap(), Leadership::Ended(Some(())));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(server.noted(), ["a starts", "a ends", "b starts"]);
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_stop_is_dropped_and_the_lease_released() {
    let server = Server::new();
    let a = replica(&server, "a", SignedDuration::ZERO, |_| pending());
    sleep(Duration::from_secs(1)).await;
    a.stop.cancel();
    assert_eq!(a.led.await.unwrap(), Leadership::Ended(None));
    assert_eq!(server.noted(), ["a starts", "a ends"]);
    let lease = server.lease.lock().unwrap().clone().unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_started_anew_under_its_name_need_not_wait() {
    let server = Server::new();
    let a = first(&server).await;
    a.led.abort();
    let _ = a.led.await;
    let again = replica(&server, "a", SignedDuration::ZERO, |_| ready(()));
    assert_eq!(again.led.await.unwrap(), Leadership::Ended(Some(())));
    assert_eq!(server.noted(), ["a starts", "a ends", "a starts", "a ends"]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_lease_was_taken_stops_as_soon_as_it_sees_that() {
    let server = Server::new();
    let a = first(&server).await;
    {
        let mut lease = server.lease.lock().unwrap();
        let lease = lease.as_mut().unwrap();
        lease["spec"]["holderIdentity"] = json!("c");
        lease["metadata"]["resourceVersion"] = json!("77");
    }
    assert_eq!(a.led.await.unwrap(), Leadership::Lost("\"c\" holds it now".to_owned()));
}
