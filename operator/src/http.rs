//! What the operator tells others: whether it lives (`/healthz`), whether it can work (`/readyz`), what it counts
//! (`/metrics`). And how it takes connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::Metrics;

/// Where handles or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether the operator can work, and if not, why. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Result<(), String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Err("starting".to_owned()))))
    }
}

impl Readiness {
    pub fn set(&self, readiness: Result<(), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = readiness;
    }

    fn get(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone)]
struct Pages {
    readiness: Readiness,
    metrics: Metrics,
}

/// Binds the address and serves until `stop`; gives the address that was bound.
///
/// # Errors
/// Where it cannot be bound.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let server =
        axum::serve(listener, pages(Pages { readiness, metrics })).with_graceful_shutdown(stop.cancelled_owned());
    tokio::spawn(server.into_future());
    Ok(bound)
}

/// Serves each connection by itself, so many at once: others wait to be accepted.
pub async fn accept<F>(listener: TcpListener, connections: usize, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = serve(stream);
        tokio::spawn(async move {
            let _place = place;
            connection.await;
        });
    }
}

fn pages(pages: Pages) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pages)
}

async fn ready(State(pages): State<Pages>) -> Response {
    match pages.readiness.get() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match pages.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn page(pages_: &Pages, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = pages(pages_.clone()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn an_operator_that_cannot_work_lives_and_says_why() {
        let pages = Pages { readiness: Readiness::default(), metrics: Metrics::new().unwrap() };
        pages.readiness.set(Err("the store is away".to_owned()));
        assert_eq!(page(&pages, "/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(page(&pages, "/readyz").await, (503, "the store is away\n".to_owned()));
        pages.readiness.set(Ok(()));
        assert_eq!(page(&pages, "/readyz").await, (200, "ok\n".to_owned()));
        assert!(page(&pages, "/metrics").await.1.contains("\npintail_leader 0\n"));
    }
}
