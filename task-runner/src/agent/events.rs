use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use jiff::Timestamp;
use pintail_protocol::{EventHook, FORMAT, Happened, OCCURRENCE_BYTES, Occurrence, OccurrenceAnswer, ReceivedEvent};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::cloud_event::{self, NoEvent};
use super::sink::{SinkError, tell};
use super::{Agent, Trouble};
use crate::server::{self, BodyError, Bounds};
use crate::signature::{ID_HEADER, SIGNATURE_HEADER, SigningKey, TIMESTAMP_HEADER};

/// Of a body; the occurrence that it becomes may not be longer either.
const BODY_BYTES: usize = OCCURRENCE_BYTES;
/// Each may hold a body; others wait to be accepted.
const CONNECTIONS: usize = 128;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Senders wait ten to thirty seconds for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of one request from its first byte to the last of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(12);

const RETRY_SOON_SECONDS: &str = "5";
/// A run has to end first.
const RETRY_LATER_SECONDS: &str = "30";

/// What takes events.
pub(super) struct Events {
    agent: Arc<Agent>,
    hooks: HashMap<(String, String), Hook>,
    trouble: Trouble,
}

struct Hook {
    hook: EventHook,
    /// Why there is none, as it is logged.
    key: Option<SigningKey>,
}

impl Events {
    pub fn new(agent: Arc<Agent>, hooks: Vec<EventHook>) -> Arc<Self> {
        let hooks = hooks.into_iter().map(|hook| {
            let owner = format!("trigger {}/{}", hook.plan, hook.trigger);
            let secret = agent.environment.secret(&hook.signing_key, &owner).map_err(|failure| failure.to_string());
            let key = secret
                .and_then(|text| SigningKey::parse(text).map_err(|error| format!("{owner} takes no events: {error}")));
            let key = key.map_err(|message| agent.log.error(&message)).ok();
            ((hook.plan.clone(), hook.trigger.clone()), Hook { hook, key })
        });
        let hooks = hooks.collect();
        Arc::new(Self { agent, hooks, trouble: Trouble::default() })
    }
}

/// Serves until `stop`, then answers what is under way.
pub(super) async fn serve(listener: TcpListener, events: Arc<Events>, stop: CancellationToken) {
    let pages = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/events/{plan}/{trigger}", post(receive))
        .with_state(events);
    let bounds = Bounds { connections: CONNECTIONS, request_timeout: REQUEST_TIMEOUT, grace: GRACE };
    server::serve(listener, pages, bounds, stop).await;
}

async fn receive(
    State(events): State<Arc<Events>>,
    Path(place): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(Hook { hook, key }) = events.hooks.get(&place) else {
        return refuse(StatusCode::NOT_FOUND, "no trigger takes events here: the path is /events/<plan>/<trigger>");
    };
    let Some(key) = key else {
        return later(RETRY_LATER_SECONDS, "the key that signs is missing here: see the agent's log");
    };
    let body = match read_body(&headers, body).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let now = Timestamp::now();
    if let Err(error) = key.verify(
        text(&headers, ID_HEADER),
        text(&headers, TIMESTAMP_HEADER),
        text(&headers, SIGNATURE_HEADER),
        &body,
        now,
    ) {
        return refuse(StatusCode::UNAUTHORIZED, &error.to_string());
    }
    let event = match cloud_event::read(&headers, &body, now) {
        Ok(event) => event,
        Err(NoEvent { status, reason }) => return refuse(status, &reason),
    };
    if let Some(refusal) = unfit(&event, hook, &headers) {
        return refusal;
    }
    let occurrence = Occurrence {
        format: FORMAT,
        namespace: events.agent.namespace.clone(),
        plan: hook.plan.clone(),
        trigger: hook.trigger.clone(),
        happened: Happened::Event(event),
    };
    let bytes = serde_json::to_vec(&occurrence).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > OCCURRENCE_BYTES {
        return too_large();
    }
    let owner = format!("trigger {}/{}", hook.plan, hook.trigger);
    answer(&events, &owner, tell(events.agent.sink.as_ref(), &occurrence, PATIENCE).await)
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Response> {
    server::read_body(headers, body, BODY_BYTES, BODY_TIMEOUT).await.map_err(|error| match error {
        BodyError::TooLarge => too_large(),
        BodyError::BrokeOff => refuse(StatusCode::BAD_REQUEST, "the body broke off"),
        BodyError::Late => refuse(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
    })
}

/// Why an event is none of this trigger's. The address is right, so it is not 404.
fn unfit(event: &ReceivedEvent, hook: &EventHook, headers: &HeaderMap) -> Option<Response> {
    if cloud_event::is_binary(headers) && event.id != text(headers, ID_HEADER) {
        let reason = "the headers ce-id and webhook-id differ: only the latter is signed, so they have to be equal; or send the event in structured mode";
        return Some(refuse(StatusCode::UNAUTHORIZED, reason));
    }
    if event.event_type != hook.event_type {
        let reason = format!("this trigger takes events of type {}", hook.event_type);
        return Some(refuse(StatusCode::UNPROCESSABLE_ENTITY, &reason));
    }
    match &hook.source {
        Some(source) if *source != event.source => {
            let reason = format!("this trigger takes events of source {source}");
            Some(refuse(StatusCode::UNPROCESSABLE_ENTITY, &reason))
        }
        _ => None,
    }
}

fn answer(events: &Events, owner: &str, answer: Result<OccurrenceAnswer, SinkError>) -> Response {
    let log = &events.agent.log;
    if answer.is_ok() {
        events.trouble.clear(log, "events");
    }
    match answer {
        Ok(OccurrenceAnswer::Execution { name }) => {
            log.info(&format!("{owner}: an event starts {name}"));
            (StatusCode::ACCEPTED, Json(json!({ "execution": name }))).into_response()
        }
        Ok(OccurrenceAnswer::Full { reason }) => later(RETRY_LATER_SECONDS, &reason),
        Ok(OccurrenceAnswer::Dropped { reason }) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &reason),
        Err(SinkError::Unreachable(reason)) => {
            events.trouble.set(log, "events", reason);
            later(RETRY_SOON_SECONDS, "the event cannot be handed on at the moment")
        }
        Err(SinkError::Refused(reason)) => {
            events.trouble.set(log, "events", reason);
            refuse(StatusCode::BAD_GATEWAY, "the event is not understood by the operator: see the agent's log")
        }
    }
}

fn too_large() -> Response {
    let reason = format!("an event has at most {OCCURRENCE_BYTES} bytes: send the place of the data instead");
    refuse(StatusCode::PAYLOAD_TOO_LARGE, &reason)
}

fn later(seconds: &'static str, reason: &str) -> Response {
    let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, reason);
    response.headers_mut().insert(header::RETRY_AFTER, axum::http::HeaderValue::from_static(seconds));
    response
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "error": reason }))).into_response()
}

/// The value of a header; empty where it is missing or none that is expected.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
