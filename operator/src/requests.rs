//! Counts requests to the Kubernetes API by verb, resource and status, and bounds their time: a layer around the client's
//! service.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response};
use tower::{BoxError, Layer, Service};

use crate::Metrics;

/// An API server may take a minute for a request. Watches are not bounded: they begin when something happens.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Wraps the service of a client.
#[derive(Clone, Debug)]
pub struct CountRequests(pub Metrics);

/// A client's service whose requests are counted. Repeats that the client itself makes count as one.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted { inner, metrics: self.0.clone() }
    }
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let metrics = self.metrics.clone();
        let (verb, resource) = verb_and_resource(request.method(), request.uri());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = match verb {
                "watch" => answer.await.map_err(Into::into),
                _ => match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
                    Ok(answer) => answer.map_err(Into::into),
                    Err(_) => Err(format!("no answer within {} seconds", ANSWER_TIMEOUT.as_secs()).into()),
                },
            };
            metrics.api_request(verb, &resource, answer.as_ref().ok().map(|response| response.status().as_u16()));
            answer
        })
    }
}

/// As a rule of RBAC names them: `create pods`, `patch executions/status`. Discovery and the like are `get other`.
fn verb_and_resource(method: &Method, uri: &http::Uri) -> (&'static str, String) {
    let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let below_version = match parts[..] {
        ["api", _, ref rest @ ..] | ["apis", _, _, ref rest @ ..] => rest,
        _ => &[],
    };
    let (resource, name, subresource) = match *below_version {
        ["namespaces", _, resource, ref rest @ ..] => (resource, rest.first(), rest.get(1)),
        [resource, ref rest @ ..] => (resource, rest.first(), rest.get(1)),
        [] => ("other", None, None),
    };
    let watches =
        uri.query().is_some_and(|query| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1")));
    let verb = match (method.as_str(), name.is_some()) {
        ("GET", _) if watches => "watch",
        ("GET", false) if resource != "other" => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => "get",
    };
    let resource = subresource.map_or_else(|| resource.to_owned(), |subresource| format!("{resource}/{subresource}"));
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_answer_fails_and_a_watch_waits() {
        let silent = tower::service_fn(|_: Request<()>| std::future::pending::<Result<Response<()>, BoxError>>());
        let mut service = CountRequests(Metrics::new().unwrap()).layer(silent);
        let mut ask = |uri: &str| {
            let answer = service.call(Request::get(uri).body(()).unwrap());
            tokio::time::timeout(2 * ANSWER_TIMEOUT, answer)
        };
        let error = ask("/api/v1/pods").await.expect("an end").expect_err("no answer");
        assert_eq!(error.to_string(), "no answer within 60 seconds");
        assert!(ask("/api/v1/pods?watch=true").await.is_err());
    }

    #[test]
    fn requests_are_named_as_rules_name_them() {
        for (method, uri, expected) in [
            (Method::GET, "/api/v1/namespaces/a/pods?limit=5", "list pods"),
            (Method::GET, "/api/v1/pods?watch=true&resourceVersion=1", "watch pods"),
            (Method::GET, "/api/v1/namespaces/kube-system", "get namespaces"),
            (Method::POST, "/api/v1/namespaces/a/pods", "create pods"),
            (Method::DELETE, "/api/v1/namespaces/a/pods/p", "delete pods"),
            (Method::DELETE, "/api/v1/namespaces/a/pods", "deletecollection pods"),
            (Method::GET, "/apis/pintail.dev/v1alpha1/executions", "list executions"),
            (Method::PATCH, "/apis/pintail.dev/v1alpha1/namespaces/a/executions/e/status", "patch executions/status"),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/l", "update leases"),
            (Method::GET, "/apis/pintail.dev/v1alpha1", "get other"),
            (Method::GET, "/version", "get other"),
        ] {
            let (verb, resource) = verb_and_resource(&method, &uri.parse().unwrap());
            assert_eq!(format!("{verb} {resource}"), expected, "{method} {uri}");
        }
    }
}
