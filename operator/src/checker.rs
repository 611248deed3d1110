//! Whoever checks SQL for the operator, which has no DuckDB: over HTTP, a pod without rights or network.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use pintail_protocol::{CHECK_BYTES, CHECK_PATH, CheckRequest, CheckResponse};
use reqwest::{Client, StatusCode};
use tokio::sync::Semaphore;

/// A check takes 5 seconds at most, after those of others, for which the checker lets one wait for 8.
const TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The checker does one at a time. A second is to be there when it is done; more would only make an admission wait.
const AT_ONCE: usize = 2;
/// What a checker answers at most.
const RESPONSE_BYTES: usize = 32 << 20;
/// Of a reason in a status.
const REASON_BYTES: usize = 1024;

/// Why SQL is not checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unchecked {
    /// The checker is away or busy.
    #[error("the checker does not answer: {0}")]
    Later(String),
    /// The checker got no time to check it.
    #[error("{0}")]
    Slow(String),
    /// It would not be otherwise if it were asked again.
    #[error("{0}")]
    Never(String),
}

/// Checks SQL without running it.
pub trait SqlChecker: Send + Sync {
    fn check<'a>(&'a self, request: &'a CheckRequest) -> BoxFuture<'a, Result<CheckResponse, Unchecked>>;
}

/// A checker at an address.
pub struct HttpChecker {
    client: Client,
    url: String,
    places: Semaphore,
    is_away: AtomicBool,
}

impl HttpChecker {
    /// `url` has no path.
    ///
    /// # Errors
    /// Where no client can be made.
    pub fn new(url: &str) -> Result<Self, String> {
        let builder = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = builder.timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).build();
        let client = client.map_err(|error| format!("cannot talk to the checker: {error}"))?;
        let url = format!("{}{CHECK_PATH}", url.trim_end_matches('/'));
        Ok(Self { client, url, places: Semaphore::new(AT_ONCE), is_away: AtomicBool::new(false) })
    }

    async fn ask(&self, request: &CheckRequest) -> Result<CheckResponse, Unchecked> {
        let later = |error: &dyn std::error::Error| Unchecked::Later(crate::process::causes(error));
        let body = serde_json::to_vec(request).map_err(|error| Unchecked::Never(error.to_string()))?;
        if body.len() > CHECK_BYTES {
            return Err(Unchecked::Never(format!("its SQL and what it reads have more than {CHECK_BYTES} bytes")));
        }
        let _place = self.places.acquire().await;
        let mut response = self.client.post(&self.url).body(body).send().await.map_err(|error| later(&error))?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| later(&error))? {
            answer.extend_from_slice(&chunk);
            if answer.len() > RESPONSE_BYTES {
                return Err(Unchecked::Never("what was found is too much to be said".to_owned()));
            }
        }
        understood(status, &answer)
    }
}

fn understood(status: StatusCode, answer: &[u8]) -> Result<CheckResponse, Unchecked> {
    if status == StatusCode::OK {
        return serde_json::from_slice(answer)
            .map_err(|error| Unchecked::Later(format!("its answer is not understood, is it as new? {error}")));
    }
    let text = String::from_utf8_lossy(answer);
    let reason = text.trim();
    let reason = reason.get(..reason.floor_char_boundary(REASON_BYTES)).unwrap_or_default().to_owned();
    match status {
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE => Err(Unchecked::Never(reason)),
        StatusCode::GATEWAY_TIMEOUT => Err(Unchecked::Slow(reason)),
        // One that does not understand this build is about to be replaced.
        _ => Err(Unchecked::Later(format!("{reason} ({status})"))),
    }
}

impl HttpChecker {
    /// Logs when it goes and comes, and not each time that it is asked.
    async fn ask_and_tell(&self, request: &CheckRequest) -> Result<CheckResponse, Unchecked> {
        let answer = self.ask(request).await;
        let is_away = matches!(answer, Err(Unchecked::Later(_)));
        match (&answer, self.is_away.swap(is_away, Ordering::Relaxed)) {
            (Err(why @ Unchecked::Later(_)), false) => tracing::warn!("SQL is not checked: {why}"),
            (Ok(_), true) => tracing::info!("SQL is checked again"),
            _ => {}
        }
        answer
    }
}

impl SqlChecker for HttpChecker {
    fn check<'a>(&'a self, request: &'a CheckRequest) -> BoxFuture<'a, Result<CheckResponse, Unchecked>> {
        Box::pin(self.ask_and_tell(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_so_is_said_for_good() {
        assert_eq!(
            understood(StatusCode::OK, b"{\"findings\":[],\"results\":[],\"lineage\":[]}"),
            Ok(Default::default())
        );
        assert_eq!(
            understood(StatusCode::UNPROCESSABLE_ENTITY, b"the check took more than 5 seconds\n"),
            Err(Unchecked::Never("the check took more than 5 seconds".to_owned()))
        );
        assert_eq!(understood(StatusCode::GATEWAY_TIMEOUT, b"slow\n"), Err(Unchecked::Slow("slow".to_owned())));
        for (status, answer) in [(200, "nonsense"), (503, "others are being checked"), (400, "newer"), (404, "")] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(matches!(understood(status, answer.as_bytes()), Err(Unchecked::Later(_))), "{status}");
        }
    }

    #[tokio::test]
    async fn a_checker_that_is_away_is_asked_later() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let checker = HttpChecker::new(&format!("http://{address}")).unwrap();
        let request = CheckRequest {
            format: 1,
            databases: Vec::new(),
            inputs: Vec::new(),
            scalars: Vec::new(),
            tasks: Vec::new(),
            masking: Vec::new(),
        };
        assert!(matches!(checker.check(&request).await, Err(Unchecked::Later(_))));
    }
}
