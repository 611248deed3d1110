//! HTTP from whoever comes: bounded in connections, bytes and time.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Of all headers.
const HEAD_BYTES: usize = 64 << 10;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Where handles or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server may be made to hold.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Each may hold a body; others wait to be accepted.
    pub connections: usize,
    /// Of one request from its first byte to the last of the answer.
    pub request_timeout: Duration,
    /// For what is under way at the end.
    pub grace: Duration,
}

/// Serves until `stop`, then answers what is under way.
pub(crate) async fn serve(listener: TcpListener, pages: Router, bounds: Bounds, stop: CancellationToken) {
    let pages = TowerToHyperService::new(pages);
    let under_way = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(bounds.connections));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! { () = stop.cancelled() => break, accepted = accepted => accepted };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES)
            // A sender's next request may come in hours; until then its connection would take a place.
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), pages.clone());
        let connection = under_way.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            // A sender that goes away, or is too slow, gets no answer.
            let _ = timeout(bounds.request_timeout, connection).await;
        });
    }
    drop(listener);
    let _ = timeout(bounds.grace, under_way.shutdown()).await;
}

/// Why a body is not there.
pub(crate) enum BodyError {
    TooLarge,
    BrokeOff,
    Late,
}

/// A whole body of at most so many bytes.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    limit_bytes: usize,
    limit_time: Duration,
) -> Result<Bytes, BodyError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.unwrap_or_default() > limit_bytes as u64 {
        return Err(BodyError::TooLarge);
    }
    match timeout(limit_time, axum::body::to_bytes(body, limit_bytes)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => {
            let is_long = std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("limit"));
            Err(if is_long { BodyError::TooLarge } else { BodyError::BrokeOff })
        }
        Err(_) => Err(BodyError::Late),
    }
}
