//! What a bucket's refusal means, in words that hold neither URL parameters nor anything of a credential.

use std::error::Error as _;

use object_store::Error;

use crate::bucket::Variables;
use crate::{StoreError, StoreErrorClass};

/// What errors of one bucket need to say where they happened.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    /// `s3://bucket[/prefix]`.
    root: String,
    /// Who answers, or should.
    server: String,
    /// Without one the client asks the machine for its role, which nobody answers outside a cloud.
    has_credential: bool,
}

/// Each of them starts one way to get a credential.
const CREDENTIAL_VARIABLES: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];
/// Where a machine tells its role: one of them stands in errors of asking for that, and in no error of a bucket.
const METADATA_PATHS: [&str; 2] = ["/latest/api/token", "/latest/meta-data/"];
/// Codes of refusals that S3 sends with status 400.
const CREDENTIAL_CODES: [&str; 4] =
    ["ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed", "RequestTimeTooSkewed"];
const FULL_CODES: [&str; 3] = ["QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"];

impl Trouble {
    pub(crate) fn new(bucket: &str, prefix: &str, variables: &Variables) -> Self {
        let root = if prefix.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{prefix}") };
        let server = variables.get("AWS_ENDPOINT_URL").map_or_else(|| "AWS".to_owned(), |url| without_user(url));
        let has_credential = CREDENTIAL_VARIABLES.iter().any(|name| variables.contains_key(*name));
        Self { root, server, has_credential }
    }

    pub(crate) fn uri(&self, key: &str) -> String {
        if key.is_empty() { self.root.clone() } else { format!("{}/{key}", self.root) }
    }

    pub(crate) fn with(
        &self,
        class: StoreErrorClass,
        action: &'static str,
        key: &str,
        cause: impl Into<String>,
    ) -> StoreError {
        StoreError::new(class, action, self.uri(key), cause)
    }

    pub(crate) fn error(&self, action: &'static str, key: &str, error: &Error) -> StoreError {
        let (class, cause) = self.judge(error);
        self.with(class, action, key, cause)
    }

    /// Not the same as a missing bucket, which has the same status.
    pub(crate) fn is_missing_object(&self, error: &Error) -> bool {
        matches!(error, Error::NotFound { .. }) && code(&error.to_string()) != Some("NoSuchBucket")
    }

    fn judge(&self, error: &Error) -> (StoreErrorClass, String) {
        let text = error.to_string();
        let code = code(&text);
        let class = match error {
            _ if code.is_some_and(|code| CREDENTIAL_CODES.contains(&code)) => StoreErrorClass::Denied,
            _ if code.is_some_and(|code| FULL_CODES.contains(&code)) => StoreErrorClass::NoSpace,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorClass::Denied,
            Error::NotFound { .. } => StoreErrorClass::NotFound,
            Error::InvalidPath { .. } | Error::NotSupported { .. } | Error::NotImplemented { .. } => {
                StoreErrorClass::Invalid
            }
            _ if !self.has_credential && METADATA_PATHS.iter().any(|path| text.contains(path)) => {
                let cause = "there is no credential in the environment".to_owned();
                return (StoreErrorClass::NoCredential, cause);
            }
            _ => StoreErrorClass::Unreachable,
        };
        let server = &self.server;
        let cause = match (code, status(&text)) {
            (Some("NoSuchBucket"), _) => format!("{server} has no such bucket"),
            (Some(code), Some(status)) => format!("{server} answers {status}, {code}"),
            (Some(code), None) => format!("{server} answers {code}"),
            (None, Some(status)) => format!("{server} answers {status}"),
            (None, None) => format!("{server}: {}", root_cause(error)),
        };
        (class, cause)
    }
}

/// The code in the XML of an error of S3. The rest of it may hold the key's id and what was signed.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    code.chars().all(|c| c.is_ascii_alphanumeric()).then_some(code)
}

/// The status in the client's text, such as `403 Forbidden`: its error type is private.
fn status(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("status code: ")?;
    let status = rest.split([':', '\n']).next()?.trim();
    status.starts_with(|c: char| c.is_ascii_digit()).then_some(status)
}

/// The innermost cause is the one without a URL: "Connection refused", "operation timed out".
fn root_cause(error: &Error) -> String {
    let mut cause = error.source();
    let mut text = "it failed".to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            format!("{scheme}://{}", host.split(['?', '#']).next().unwrap_or(host))
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &'static str) -> StoreErrorClass {
        let error = Error::Generic { store: "S3", source: text.into() };
        Trouble::new("bucket", "", &Variables::new()).error("read", "a/b", &error).class()
    }

    #[test]
    fn a_bucket_that_does_not_answer_is_no_missing_role() {
        let unanswered = "Error performing PUT http://169.254.169.254/latest/api/token in 3s - HTTP error";
        assert_eq!(class(unanswered), StoreErrorClass::NoCredential);
        let no_role = "Error performing GET http://169.254.169.254/latest/meta-data/iam/security-credentials/ in 1ms - \
                       Server returned non-2xx status code: 404 Not Found: ";
        assert_eq!(class(no_role), StoreErrorClass::NoCredential);
        let hiccup = "Error performing GET https://s3.example.com/bucket/a/b in 12s, after 6 retries - Server returned \
                      non-2xx status code: 503 Service Unavailable: ";
        assert_eq!(class(hiccup), StoreErrorClass::Unreachable);
    }
}
