use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::Certificate;
use crate::controllers::{Admission, Review};
use crate::http::accept;

/// API servers keep theirs open; each may hold a body.
const CONNECTIONS: usize = 64;
const HEAD_BYTES: usize = 64 << 10;
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// An object as it was and as it is to be: API servers take 3 MiB each.
const BODY_BYTES: usize = 7 << 20;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that lives longer is opened anew.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// Of a refusal: a person reads no more.
const PROBLEMS: usize = 50;
/// Objects that are looked at at once.
const REVIEWS: usize = 8;

struct Endpoint {
    admission: Admission,
    places: Semaphore,
}

/// Binds the address and serves until the end of the process; gives the address that was bound.
///
/// # Errors
/// Where it cannot be bound, or TLS is not to be had.
pub async fn serve(
    address: SocketAddr,
    certificate: Arc<Certificate>,
    admission: Admission,
) -> std::io::Result<SocketAddr> {
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let endpoint = Endpoint { admission, places: Semaphore::new(REVIEWS) };
    let (acceptor, pages) = (TlsAcceptor::from(Arc::new(config)), TowerToHyperService::new(pages(endpoint)));
    tokio::spawn(accept(listener, CONNECTIONS, move |stream| connection(stream, acceptor.clone(), pages.clone())));
    Ok(bound)
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, pages: TowerToHyperService<Router>) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), pages);
    // Whoever goes away, or is too slow, gets no answer.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

fn pages(endpoint: Endpoint) -> Router {
    Router::new().route("/validate", post(validate)).with_state(Arc::new(endpoint))
}

async fn validate(State(endpoint): State<Arc<Endpoint>>, body: Body) -> Response {
    let body = match timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else { return StatusCode::BAD_REQUEST.into_response() };
    drop(body);
    Json(answer(&endpoint, &asked).await).into_response()
}

async fn answer(endpoint: &Endpoint, asked: &Value) -> Value {
    let text = |pointer: &str| asked.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let none = Value::Null;
    let object = asked.pointer("/request/object").unwrap_or(&none);
    // What is as it was, was taken before: its labels may change, and it may go.
    let is_changed = asked.pointer("/request/oldObject/spec") != object.get("spec");
    let review = if object.is_object() && is_changed {
        let _place = endpoint.places.acquire().await;
        endpoint.admission.review(text("/request/kind/kind"), text("/request/namespace"), object).await
    } else {
        Review::default()
    };
    let lines: Vec<String> = review.problems.iter().take(PROBLEMS).map(ToString::to_string).collect();
    let mut response = json!({ "uid": text("/request/uid"), "allowed": lines.is_empty() });
    if !lines.is_empty() {
        response["status"] = json!({ "code": 422, "reason": "Invalid", "message": lines.join("\n") });
    }
    if !review.warnings.is_empty() {
        response["warnings"] = json!(review.warnings);
    }
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::{Desk, Settings};

    async fn asked(body: impl Into<Body>) -> (u16, Value) {
        let settings = json!({
            "namespace": "pintail-system", "store": { "uri": "s3://b/p" },
            "runner": { "image": "r", "serviceAccount": "pintail-runner", "podTtlSeconds": 60 },
        });
        let settings = Arc::new(Settings::parse(&settings.to_string()).unwrap());
        let admission = Admission { desk: Desk::default(), checker: None, settings };
        let endpoint = Endpoint { admission, places: Semaphore::new(1) };
        let request = Request::post("/validate").body(body.into()).unwrap();
        let response = pages(endpoint).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn review(object: &Value, before: &Value) -> String {
        let request = json!({
            "uid": "1", "kind": { "kind": "Connection" }, "namespace": "data", "object": object, "oldObject": before,
        });
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request }).to_string()
    }

    fn connection(url: &str, label: &str) -> Value {
        json!({
            "apiVersion": "pintail.dev/v1alpha1", "kind": "Connection",
            "metadata": { "name": "web", "labels": { "a": label } }, "spec": { "http": { "url": url } },
        })
    }

    #[tokio::test]
    async fn what_is_wrong_is_refused_unless_it_was_so_before() {
        let (_, answer) = asked(review(&connection("https://example.com", "b"), &Value::Null)).await;
        assert_eq!(answer["response"], json!({ "uid": "1", "allowed": true }));
        let (status, answer) = asked(review(&connection("ftp://example.com", "b"), &Value::Null)).await;
        assert_eq!((status, &answer["response"]["allowed"]), (200, &json!(false)));
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(message.starts_with("spec.http.url: "), "{message}");
        let before = connection("ftp://example.com", "b");
        let (_, answer) = asked(review(&connection("ftp://example.com", "c"), &before)).await;
        assert_eq!(answer["response"]["allowed"], json!(true));
        // Gone.
        let (_, answer) = asked(review(&Value::Null, &before)).await;
        assert_eq!(answer["response"]["allowed"], json!(true));
    }

    #[tokio::test]
    async fn what_is_no_review_or_too_long_has_no_answer() {
        assert_eq!(asked("nonsense").await.0, 400);
        assert_eq!(asked(vec![b' '; BODY_BYTES + 1]).await.0, 413);
    }
}
