//! Where agents tell of occurrences over HTTP: `POST /v1/occurrences` with an occurrence as JSON and the token of the
//! agent's pod.
//!
//! | Status | Body | Meaning |
//! |---|---|---|
//! | 200 | an [`OccurrenceAnswer`](pintail_protocol::OccurrenceAnswer) as JSON | what became of it |
//! | 400, 413 | why | no operator of this version understands it |
//! | 401, 403 | why | the token is none of an agent of that namespace |
//! | 503 | why | to be told again: this replica does not lead, or the cluster does not answer |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pintail_protocol::{OCCURRENCE_BYTES, OCCURRENCES_PATH, Occurrence};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::http::accept;
use crate::token::{TokenError, Tokens};
use crate::{Desk, Refused, Teller};

/// Each may hold a body; others wait to be accepted.
const CONNECTIONS: usize = 128;
const HEAD_BYTES: usize = 64 << 10;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Agents wait for ten seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Of one request from its first byte to the last of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

struct Endpoint {
    tokens: Tokens,
    desk: Desk,
}

/// Binds the address and serves until the end of the process; gives the address that was bound.
///
/// # Errors
/// Where it cannot be bound.
pub async fn serve(address: SocketAddr, client: kube::Client, desk: Desk) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let pages = TowerToHyperService::new(pages(Endpoint { tokens: Tokens::new(client), desk }));
    tokio::spawn(accept(listener, CONNECTIONS, move |stream| connection(stream, pages.clone())));
    Ok(bound)
}

async fn connection(stream: TcpStream, pages: TowerToHyperService<Router>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        // An agent's next occurrence is to find the replica that leads then.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), pages);
    // Whoever goes away, or is too slow, gets no answer.
    let _ = timeout(REQUEST_TIMEOUT, connection).await;
}

fn pages(endpoint: Endpoint) -> Router {
    Router::new().route(OCCURRENCES_PATH, post(take)).with_state(Arc::new(endpoint))
}

async fn take(State(endpoint): State<Arc<Endpoint>>, headers: HeaderMap, body: Body) -> Response {
    match timeout(ANSWER_TIMEOUT, answer(&endpoint, &headers, body)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err((status, reason))) => {
            tracing::debug!(%status, "an occurrence was not taken: {reason}");
            (status, format!("{reason}\n")).into_response()
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the cluster does not answer in time\n").into_response(),
    }
}

/// The token first: nothing is read of whoever has none.
async fn answer(endpoint: &Endpoint, headers: &HeaderMap, body: Body) -> Result<Response, (StatusCode, String)> {
    let teller = teller(endpoint, headers).await?;
    let occurrence = read(headers, body).await?;
    let told = endpoint.desk.tell(&teller, &occurrence).await.map_err(|refused| {
        let status = match refused {
            Refused::Later(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refused::Forbidden(_) => StatusCode::FORBIDDEN,
            Refused::NotUnderstood(_) => StatusCode::BAD_REQUEST,
        };
        (status, refused.to_string())
    })?;
    Ok(axum::Json(told).into_response())
}

async fn teller(endpoint: &Endpoint, headers: &HeaderMap) -> Result<Teller, (StatusCode, String)> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(token) = given.strip_prefix("Bearer ") else {
        return Err((StatusCode::UNAUTHORIZED, "the request has no bearer token".to_owned()));
    };
    endpoint.tokens.verify(token.trim()).await.map_err(|error| match error {
        TokenError::Invalid(_) => (StatusCode::UNAUTHORIZED, error.to_string()),
        TokenError::Unknown(_) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    })
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Occurrence, (StatusCode, String)> {
    let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("an occurrence has at most {OCCURRENCE_BYTES} bytes"));
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > OCCURRENCE_BYTES as u64) {
        return Err(too_large());
    }
    let body = match timeout(BODY_TIMEOUT, axum::body::to_bytes(body, OCCURRENCE_BYTES)).await {
        Ok(Ok(body)) => body,
        // The limit, mostly: a connection that broke takes no answer.
        Ok(Err(_)) => return Err(too_large()),
        Err(_) => return Err((StatusCode::SERVICE_UNAVAILABLE, "the body did not arrive in time".to_owned())),
    };
    // What is wrong is told by its place: the text may hold data.
    serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        (StatusCode::BAD_REQUEST, format!("the occurrence cannot be understood at line {line} column {column}"))
    })
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use http_body_util::BodyExt;
    use serde_json::json;
    use tower::ServiceExt;

    use super::*;
    use crate::token::tests::Signer;

    async fn told(token: Option<String>, body: impl Into<Body>) -> (u16, String) {
        let signer = Signer::new("k1");
        let token = token.unwrap_or_else(|| signer.token(|_| {}));
        let (client, _) = Signer::client(vec![signer]);
        let endpoint = Endpoint { tokens: Tokens::new(client), desk: Desk::default() };
        let request = Request::post(OCCURRENCES_PATH).header("authorization", format!("Bearer {token}"));
        let response = pages(endpoint).oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn occurrence(namespace: &str) -> String {
        let event = json!({ "id": "1", "source": "/s", "event_type": "t", "subject": null, "time": "2026-11-20T12:00:00Z", "data": {} });
        json!({ "format": 1, "namespace": namespace, "plan": "p", "trigger": "t", "happened": { "Event": event } })
            .to_string()
    }

    #[tokio::test]
    async fn a_replica_that_does_not_lead_says_so() {
        let (status, body) = told(None, occurrence("data")).await;
        assert_eq!(status, 503);
        assert!(body.contains("another replica may lead"), "{body}");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_request_is_said_and_none_of_its_data() {
        let (status, body) = told(None, occurrence("other")).await;
        assert_eq!((status, body.as_str()), (403, "an agent of namespace data tells of namespace other\n"));
        let (status, body) = told(None, "{\"secret\": 1}").await;
        assert_eq!(status, 400);
        assert!(!body.contains("secret"), "{body}");
        let (status, body) = told(None, occurrence("data").replace("\"format\":1", "\"format\":99")).await;
        assert!(status == 400 && body.contains("use a newer Pintail"), "{body}");
        assert_eq!(told(Some("x.y.z".to_owned()), occurrence("data")).await.0, 401);
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_not_read() {
        assert_eq!(told(None, vec![b' '; OCCURRENCE_BYTES + 1]).await.0, 413);
        // Of one without a length neither.
        let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
        assert_eq!(told(None, Body::from_stream(endless)).await.0, 413);
        // And of whoever has no token nothing is read.
        let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        assert_eq!(told(Some("x".to_owned()), Body::from_stream(never)).await.0, 401);
    }
}
