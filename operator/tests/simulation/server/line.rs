//! The line between one process and the server (and the store): where things go wrong.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::{BoxError, Service};

use super::Server;
use super::objects::digest;
use super::refusal::Refusal;
use super::request::{Call, Verb};
use super::resource::RESOURCES;
use super::watch::watch;
use crate::dice::Dice;

/// What goes wrong at one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends, and the write was not made.
    StopBefore,
    /// The write is made, and the process ends without learning so.
    StopAfter,
    /// The write is made, and the process goes on without learning so.
    LoseReply,
    /// The process ends; its write arrives later.
    Late(Duration),
    /// The write takes its time.
    Slow(Duration),
    /// The process stands still for so long, and then makes the write if it still wants to.
    Pause(Duration),
    /// The server refuses it with this code.
    Refuse(u16),
}

/// The writes of all processes that share it, counted from 1, and what goes wrong at which.
#[derive(Debug, Default)]
pub struct Faults {
    planned: Mutex<BTreeMap<usize, Fault>>,
    writes: Mutex<Vec<String>>,
}

impl Faults {
    pub fn new(planned: impl IntoIterator<Item = (usize, Fault)>) -> Arc<Self> {
        Arc::new(Self { planned: Mutex::new(planned.into_iter().collect()), writes: Mutex::default() })
    }

    /// What was written so far, for people.
    pub fn writes(&self) -> Vec<String> {
        self.writes.lock().unwrap().clone()
    }

    fn next(&self, what: String) -> Option<Fault> {
        let mut writes = self.writes.lock().unwrap();
        writes.push(what);
        self.planned.lock().unwrap().remove(&writes.len())
    }
}

/// How a process sees the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sight {
    /// The process does nothing.
    paused: bool,
    /// The process is no more.
    stopped: bool,
    /// How often all watches were cut.
    cuts: u64,
    /// Watches stand still.
    frozen: bool,
    /// The server that the process talks to is behind, at this version.
    stale: Option<u64>,
    /// Watches that are begun anew repeat so many versions.
    rewind: u64,
}

/// The line of one process. Clones are the same one.
#[derive(Clone)]
pub struct Line {
    server: Server,
    author: Arc<str>,
    faults: Arc<Faults>,
    sight: Arc<watch::Sender<Sight>>,
    dice: Arc<Mutex<Dice>>,
}

type ServerBody = UnsyncBoxBody<Bytes, BoxError>;

impl Line {
    pub fn new(server: &Server, author: &str, faults: &Arc<Faults>, seed: u64) -> Self {
        Self {
            server: server.clone(),
            author: author.into(),
            faults: Arc::clone(faults),
            sight: Arc::new(watch::channel(Sight::default()).0),
            dice: Arc::new(Mutex::new(Dice::new(seed ^ digest(&author)))),
        }
    }

    /// A line on which nothing goes wrong.
    pub fn calm(server: &Server, author: &str) -> Self {
        Self::new(server, author, &Faults::new([]), 0)
    }

    /// A client over this line. Like one for a real server it tries again on 429, 503 and 504.
    pub fn client(&self) -> kube::Client {
        let retry = tower::retry::RetryLayer::new(kube::client::retry::RetryPolicy::server_retry());
        let service = tower::ServiceBuilder::new().layer(retry).service(self.clone());
        kube::Client::new(service, "default")
    }

    /// Ends the process: nothing that it sends arrives from now on, and nothing is answered.
    pub fn stop(&self) {
        self.sight.send_modify(|sight| sight.stopped = true);
    }

    pub fn pause(&self, paused: bool) {
        self.sight.send_modify(|sight| sight.paused = paused);
    }

    pub fn author(&self) -> &str {
        &self.author
    }

    /// The life of the process: what it does while it is not paused, until it is stopped.
    pub async fn live(&self, process: impl Future<Output = ()>) {
        let mut process = std::pin::pin!(process);
        let mut sight = self.sight.subscribe();
        loop {
            let Sight { paused, stopped, .. } = *sight.borrow_and_update();
            if stopped {
                return;
            }
            tokio::select! {
                biased;
                _ = sight.changed() => {}
                () = &mut process, if !paused => return,
            }
        }
    }

    pub fn cut_watches(&self) {
        self.sight.send_modify(|sight| sight.cuts += 1);
    }

    pub fn freeze(&self, frozen: bool) {
        self.sight.send_modify(|sight| sight.frozen = frozen);
    }

    /// From now on the process talks to a server that has not got beyond `version`; with `None` to one that is up to date.
    pub fn talk_to_a_server_at(&self, version: Option<u64>) {
        self.sight.send_modify(|sight| sight.stale = version);
    }

    pub fn repeat_old_events(&self, versions: u64) {
        self.sight.send_modify(|sight| sight.rewind = versions);
    }

    /// Waits while the process is paused, and for ever once it is stopped.
    async fn alive(&self) {
        let mut sight = self.sight.subscribe();
        if sight.wait_for(|sight| !sight.paused && !sight.stopped).await.is_err() || self.sight.borrow().stopped {
            std::future::pending::<()>().await;
        }
    }

    /// What every read takes.
    pub async fn read(&self) {
        self.alive().await;
        tokio::time::sleep(self.latency()).await;
        self.alive().await;
    }

    fn latency(&self) -> Duration {
        self.dice.lock().unwrap().between(Duration::from_micros(200), Duration::from_millis(3))
    }

    /// Makes a write as the faults have it. `refuse` gives what the process is told where the write is refused.
    pub async fn write<T: Send + 'static>(
        &self,
        what: String,
        action: impl Future<Output = T> + Send + 'static,
        refuse: impl FnOnce(u16) -> T,
    ) -> Result<T, BoxError> {
        self.alive().await;
        match self.faults.next(what) {
            None => Ok(action.await),
            Some(Fault::StopBefore) => self.end().await,
            Some(Fault::StopAfter) => {
                action.await;
                self.end().await
            }
            Some(Fault::LoseReply) => {
                action.await;
                Err("connection reset by peer".into())
            }
            Some(Fault::Late(delay)) => {
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    action.await
                });
                self.end().await
            }
            Some(Fault::Slow(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(action.await)
            }
            Some(Fault::Pause(time)) => {
                let line = self.clone();
                line.pause(true);
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    line.pause(false);
                });
                self.alive().await;
                Ok(action.await)
            }
            Some(Fault::Refuse(code)) => Ok(refuse(code)),
        }
    }

    async fn end<T>(&self) -> T {
        self.stop();
        std::future::pending().await
    }

    async fn serve(self, request: Request<kube::client::Body>) -> Result<Response<ServerBody>, BoxError> {
        self.alive().await;
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        tokio::time::sleep(self.latency()).await;
        if let Some(page) = page(parts.uri.path(), &self.server) {
            return Ok(response(200, &page));
        }
        let answered = match Call::parse(&parts, &body) {
            Ok(call) if matches!(call.verb, Verb::Watch) => return Ok(self.watch(call)),
            Ok(call) if matches!(call.verb, Verb::List) => {
                self.server.list(&call, self.sight.borrow().stale).map(|body| (200, body))
            }
            Ok(call) if call.is_write() => {
                let (server, author, what) = (self.server.clone(), Arc::clone(&self.author), call.to_string());
                let action = async move { server.answer(&author, &call) };
                self.write(what, action, |code| Err(Refusal::trouble(code))).await?
            }
            Ok(call) => self.server.answer(&self.author, &call),
            Err(refusal) => Err(refusal),
        };
        tokio::time::sleep(self.latency()).await;
        self.alive().await;
        Ok(match answered {
            Ok((code, body)) => response(code, &body),
            Err(refusal) => response(refusal.code, &refusal.body()),
        })
    }

    fn watch(&self, call: Call) -> Response<ServerBody> {
        match watch(self.server.clone(), call, View::new(self)) {
            Ok(lines) => {
                let frames = lines.map(|line| Ok(http_body::Frame::data(line)));
                Response::new(StreamBody::new(frames).boxed_unsync())
            }
            Err(refusal) => response(refusal.code, &refusal.body()),
        }
    }
}

fn response(code: u16, body: &Value) -> Response<ServerBody> {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
    Response::builder().status(code).header("content-type", "application/json").body(body.boxed_unsync()).unwrap()
}

/// What is no object: the version, and which resources there are.
fn page(path: &str, server: &Server) -> Option<Value> {
    if path == "/version" {
        let version = json!({
            "major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": format!("{:.0}", server.now()), "goVersion": "go1.26", "compiler": "gc", "platform": "linux/amd64",
        });
        return Some(version);
    }
    let group_version = path.strip_prefix("/apis/").or_else(|| path.strip_prefix("/api/"))?;
    let known: Vec<Value> = RESOURCES
        .iter()
        .filter(|resource| resource.api_version() == group_version)
        .map(|resource| {
            json!({
                "name": resource.plural, "singularName": "", "namespaced": resource.namespaced, "kind": resource.kind,
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            })
        })
        .collect();
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": known,
    });
    (!known.is_empty()).then_some(list)
}

impl Service<Request<kube::client::Body>> for Line {
    type Response = Response<ServerBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}

/// What a watch sees through a line.
pub struct View {
    line: Line,
    sight: watch::Receiver<Sight>,
}

impl View {
    fn new(line: &Line) -> Self {
        Self { line: line.clone(), sight: line.sight.subscribe() }
    }

    pub fn cuts(&self) -> u64 {
        self.sight.borrow().cuts
    }

    pub fn is_frozen(&self) -> bool {
        let sight = *self.sight.borrow();
        sight.frozen || sight.paused || sight.stopped || sight.stale.is_some()
    }

    pub fn stale(&self) -> Option<u64> {
        self.sight.borrow().stale
    }

    /// The version after which a watch really begins that was asked for from `asked`.
    pub fn rewound(&self, asked: u64) -> u64 {
        let sight = *self.sight.borrow();
        let compacted = self.line.server.objects().compacted;
        asked.saturating_sub(sight.rewind).max(compacted)
    }

    pub fn delay(&self) -> Duration {
        self.line.dice.lock().unwrap().between(Duration::from_millis(1), Duration::from_millis(40))
    }

    /// Waits for another sight.
    pub async fn changed(&mut self) {
        if self.sight.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
