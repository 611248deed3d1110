use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use pintail_protocol::{CHECK_BYTES, CHECK_PATH};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::worker::{CHECK_TIME, NotChecked, Worker};
use crate::failure::TaskFailure;
use crate::log::Log;
use crate::server::{BodyError, Bounds, read_body, serve};

/// Each may hold a request; others wait to be accepted.
const CONNECTIONS: usize = 16;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// For the checks of others before this one: whoever asks gives up soon after.
const PATIENCE: Duration = Duration::from_secs(8);
/// Of one request from its first byte to the last of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(8);

struct Checks {
    /// None where the last is gone.
    worker: Mutex<Option<Worker>>,
    log: Log,
}

/// Serves checks, and `/healthz`, until `stop`.
///
/// # Errors
/// Where no worker can be started at all.
pub async fn serve_checks(listener: TcpListener, stop: CancellationToken) -> Result<(), TaskFailure> {
    let worker = Worker::start().await.map_err(|why| TaskFailure::infrastructure("NoWorker", said(&why).1))?;
    let checks = Checks { worker: Mutex::new(Some(worker)), log: Log::default() };
    let pages = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(CHECK_PATH, post(check))
        .with_state(Arc::new(checks));
    let bounds = Bounds { connections: CONNECTIONS, request_timeout: REQUEST_TIMEOUT, grace: GRACE };
    serve(listener, pages, bounds, stop).await;
    Ok(())
}

async fn check(State(checks): State<Arc<Checks>>, headers: HeaderMap, body: Body) -> Response {
    let body = match read_body(&headers, body, CHECK_BYTES, BODY_TIMEOUT).await {
        Ok(body) => body,
        Err(BodyError::TooLarge) => {
            let reason = format!("the SQL and what it reads have more than {CHECK_BYTES} bytes together");
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, &reason);
        }
        Err(BodyError::BrokeOff) => return refuse(StatusCode::BAD_REQUEST, "the body broke off"),
        Err(BodyError::Late) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
    };
    // One check at a time, also where whoever asked has gone away: it ends by itself within its time.
    let asked = tokio::spawn(async move { ask(&checks, &body).await });
    match asked.await {
        Ok(Ok(response)) => ([(header::CONTENT_TYPE, "application/json")], response).into_response(),
        Ok(Err(why)) => {
            let (status, reason) = said(&why);
            refuse(status, &reason)
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn ask(checks: &Checks, request: &[u8]) -> Result<bytes::Bytes, NotChecked> {
    let busy = |_| NotChecked::Unavailable("others are being checked".to_owned());
    let mut place = timeout(PATIENCE, checks.worker.lock()).await.map_err(busy)?;
    let worker = match place.take() {
        Some(worker) => worker,
        None => Worker::start().await?,
    };
    let (worker, response) = worker.ask(request).await;
    if let Err(NotChecked::Failed(why) | NotChecked::Slow(why)) = &response {
        checks.log.error(&format!("{why}; the next check has a new worker"));
    }
    // Whoever comes next need not wait for it.
    *place = match worker {
        Some(worker) => Some(worker),
        None => Worker::start().await.ok(),
    };
    response
}

fn said(why: &NotChecked) -> (StatusCode, String) {
    match why {
        NotChecked::NotUnderstood(why) => (StatusCode::BAD_REQUEST, why.clone()),
        NotChecked::Failed(why) => (StatusCode::UNPROCESSABLE_ENTITY, why.clone()),
        NotChecked::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why.clone()),
        NotChecked::Slow(why) => (StatusCode::GATEWAY_TIMEOUT, why.clone()),
    }
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, format!("{reason}\n")).into_response()
}

// The client waits a little longer than a check and those before it may take.
const _: () = assert!(PATIENCE.as_secs() + CHECK_TIME.as_secs() < REQUEST_TIMEOUT.as_secs());
