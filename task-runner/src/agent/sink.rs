use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use pintail_protocol::{OCCURRENCES_PATH, Occurrence, OccurrenceAnswer};
use reqwest::{Client, StatusCode, redirect};
use tokio::time::{Instant, sleep, timeout_at};

use crate::failure::TaskFailure;
use crate::files::cause;

/// Within a cluster a replica that is there answers at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Of one attempt; the operator creates one object.
const TIMEOUT: Duration = Duration::from_secs(10);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// An answer is a name or a reason.
const ANSWER_BYTES: usize = 64 << 10;

/// Of an answer that refuses, as much is logged.
const REASON_CHARACTERS: usize = 300;

/// Takes occurrences and starts runs. An occurrence that is told again gets the same answer, or [`OccurrenceAnswer::Dropped`].
#[async_trait]
pub trait Sink: Send + Sync {
    /// # Errors
    /// Where it is not known what became of the occurrence: it is told again then.
    async fn tell(&self, occurrence: Occurrence) -> Result<OccurrenceAnswer, SinkError>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Telling again can help: nobody answers, or not whoever starts runs.
    #[error("{0}")]
    Unreachable(String),
    /// The occurrence itself is not understood. Others may be.
    #[error("{0}")]
    Refused(String),
}

/// Tells, and again where nobody answers, for at most `patience`.
///
/// # Errors
/// Those of the last attempt.
pub(super) async fn tell(
    sink: &dyn Sink,
    occurrence: &Occurrence,
    patience: Duration,
) -> Result<OccurrenceAnswer, SinkError> {
    let end = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match timeout_at(end, sink.tell(occurrence.clone())).await {
            Ok(Err(error @ SinkError::Unreachable(_))) => error,
            Ok(answer) => return answer,
            Err(_) => SinkError::Unreachable(format!("no answer within {} seconds", patience.as_secs())),
        };
        if Instant::now() + pause >= end {
            return Err(error);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The operator, by HTTP.
pub struct HttpSink {
    client: Client,
    url: String,
    token_path: PathBuf,
}

impl HttpSink {
    /// `operator_url` is without a slash at the end. The token is read anew for each request, as the kubelet renews it.
    ///
    /// # Errors
    /// `NetworkError`, where no client can be made.
    pub fn new(operator_url: &str, token_path: PathBuf) -> Result<Self, TaskFailure> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            // A connection that is kept stays with one replica. The next attempt is to find the one that leads.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| TaskFailure::infrastructure("NetworkError", cause(&error)))?;
        Ok(Self { client, url: format!("{operator_url}{OCCURRENCES_PATH}"), token_path })
    }
}

#[async_trait]
impl Sink for HttpSink {
    async fn tell(&self, occurrence: Occurrence) -> Result<OccurrenceAnswer, SinkError> {
        let token = tokio::fs::read_to_string(&self.token_path).await.map_err(|error| {
            SinkError::Unreachable(format!("cannot read the token {}: {error}", self.token_path.display()))
        })?;
        let request = self.client.post(&self.url).bearer_auth(token.trim()).json(&occurrence);
        let unreachable = |error: reqwest::Error| {
            let why = if error.is_timeout() { "no answer in time".to_owned() } else { cause(&error) };
            SinkError::Unreachable(format!("cannot reach the operator at {}: {why}", self.url))
        };
        let mut answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES {
                return Err(SinkError::Unreachable(format!("{} answered more than {ANSWER_BYTES} bytes", self.url)));
            }
        }
        self.read(status, &body)
    }
}

impl HttpSink {
    fn read(&self, status: StatusCode, body: &[u8]) -> Result<OccurrenceAnswer, SinkError> {
        if status == StatusCode::OK {
            return serde_json::from_slice(body).map_err(|_| {
                SinkError::Unreachable(format!(
                    "{} answered something else than expected: is it the operator?",
                    self.url
                ))
            });
        }
        let text = String::from_utf8_lossy(body);
        let reason: String = text.trim().chars().take(REASON_CHARACTERS).collect();
        let message = format!("the operator answered {status}: {reason}");
        let refused = matches!(
            status,
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
        );
        Err(if refused { SinkError::Refused(message) } else { SinkError::Unreachable(message) })
    }
}
