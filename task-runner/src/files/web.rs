use std::path::Path;

use pintail_protocol::FileIdentity;
use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap, LAST_MODIFIED};
use reqwest::{Client, Method, Response, StatusCode, Url};

use super::folder::not_found;
use super::{CONNECT_TIMEOUT, READ_TIMEOUT, cause, changed};
use crate::failure::TaskFailure;

/// Files below a URL, to be read.
pub(super) struct Web {
    client: Client,
    base: Url,
    bearer_token: Option<String>,
}

impl Web {
    pub fn open(url: &str, bearer_token: Option<String>) -> Result<Self, TaskFailure> {
        let wrong = |why: String| TaskFailure::permanent("InvalidConnection", format!("its URL cannot be used: {why}"));
        // With a slash at the end, paths are added instead of taking the place of the last part.
        let base = Url::parse(&format!("{}/", url.trim_end_matches('/'))).map_err(|error| wrong(error.to_string()))?;
        let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
        Ok(Self { client: client.map_err(|error| wrong(cause(&error)))?, base, bearer_token })
    }

    /// # Errors
    /// `InvalidPath` for a path that leaves the connection's URL.
    fn url(&self, path: &str) -> Result<Url, TaskFailure> {
        let invalid = || TaskFailure::permanent("InvalidPath", format!("`{path}` is not below {}", self.base));
        let url = Url::parse(&format!("{}{path}", self.base)).map_err(|_| invalid())?;
        if url.path().starts_with(self.base.path()) { Ok(url) } else { Err(invalid()) }
    }

    pub fn uri(&self, path: &str) -> String {
        self.url(path).map_or_else(|_| path.to_owned(), |url| url.to_string())
    }

    async fn request(&self, method: Method, path: &str) -> Result<Response, TaskFailure> {
        let url = self.url(path)?;
        let mut request = self.client.request(method, url.clone());
        if let Some(token) = &self.bearer_token {
            request = request.bearer_auth(token);
        }
        request.send().await.map_err(|error| unreachable(&url, &error))
    }

    async fn checked(&self, method: Method, path: &str) -> Result<Response, TaskFailure> {
        let answer = self.request(method, path).await?;
        let url = self.url(path)?;
        let status = answer.status();
        match status.as_u16() {
            200..=299 => Ok(answer),
            401 | 403 => Err(TaskFailure::transient(
                "AccessDenied",
                format!("could not read {url}: the server answered {status}: check the connection's bearer token"),
            )),
            404 | 410 => Err(not_found(url.as_str())),
            408 | 429 | 500..=599 => Err(TaskFailure::transient(
                "ConnectionFailed",
                format!("could not read {url}: the server answered {status}: try again later"),
            )),
            _ => Err(TaskFailure::permanent("Rejected", format!("could not read {url}: the server answered {status}"))),
        }
    }

    pub async fn head(&self, path: &str) -> Result<FileIdentity, TaskFailure> {
        let mut answer = self.request(Method::HEAD, path).await?;
        if matches!(answer.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
            // The headers of a GET say the same; its body is not read.
            answer = self.checked(Method::GET, path).await?;
        } else if !answer.status().is_success() {
            answer = self.checked(Method::HEAD, path).await?;
        }
        Ok(identity(path, answer.headers()))
    }

    pub async fn download(&self, file: &FileIdentity, local: &Path) -> Result<u64, TaskFailure> {
        let url = self.url(&file.path)?;
        let mut answer = self.checked(Method::GET, &file.path).await?;
        if identity(&file.path, answer.headers()).version != file.version {
            return Err(changed(url.as_str()));
        }
        let mut target = super::Download::create(local)?;
        while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable(&url, &error))? {
            target.write(&chunk)?;
        }
        target.finish()
    }
}

fn identity(path: &str, headers: &HeaderMap) -> FileIdentity {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let version = Some(text(ETAG)).filter(|tag| !tag.is_empty()).unwrap_or_else(|| text(LAST_MODIFIED));
    FileIdentity { path: path.to_owned(), bytes: text(CONTENT_LENGTH).parse().unwrap_or_default(), version }
}

fn unreachable(url: &Url, error: &reqwest::Error) -> TaskFailure {
    let message = format!("could not read {url}: {}: check the connection's URL and the network", cause(error));
    TaskFailure::transient("ConnectionFailed", message)
}
