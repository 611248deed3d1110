use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A connection that the work uses, resolved: paths absolute, secrets by the variable that holds them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Its name in SQL.
    pub name: String,
    pub mode: AccessMode,
    pub target: ConnectionTarget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessMode {
    Read,
    Write,
}

/// Name of an environment variable that holds a secret value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretVariable(pub String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConnectionTarget {
    Folder {
        /// Absolute.
        path: String,
    },
    S3 {
        bucket: String,
        /// Without a slash at either end; may be empty.
        prefix: String,
        endpoint: Option<String>,
        region: Option<String>,
        path_style: bool,
        anonymous: bool,
        access_key_id: Option<SecretVariable>,
        secret_access_key: Option<SecretVariable>,
    },
    Http {
        /// Without a slash at the end.
        url: String,
        bearer_token: Option<SecretVariable>,
    },
    DuckDb {
        /// Absolute.
        path: String,
        /// How long attempts may wait for a lock of another process.
        busy_timeout_ms: u64,
    },
    Postgres {
        host: String,
        port: u16,
        database: String,
        user: String,
        password: Option<SecretVariable>,
        /// libpq's word: `disable`, `prefer`, `require`, `verify-full`.
        ssl_mode: String,
    },
    Smtp {
        host: String,
        port: u16,
        encryption: MailEncryption,
        from: String,
        username: Option<SecretVariable>,
        password: Option<SecretVariable>,
    },
    Webhook {
        /// `None` where it only takes events.
        url: Option<WebhookUrl>,
        bearer_token: Option<SecretVariable>,
        /// Signs requests that go out, and events that come in.
        signing_key: Option<SecretVariable>,
    },
    /// Parameter name in SQL (`<connection>_<value>`) to the variable that holds it.
    Secrets(BTreeMap<String, SecretVariable>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MailEncryption {
    None,
    StartTls,
    Tls,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WebhookUrl {
    Plain(String),
    Secret(SecretVariable),
}

impl ConnectionTarget {
    /// The variables that hold the target's secrets.
    #[must_use]
    pub fn secret_variables(&self) -> Vec<&SecretVariable> {
        match self {
            Self::S3 { access_key_id, secret_access_key, .. } => {
                access_key_id.iter().chain(secret_access_key).collect()
            }
            Self::Http { bearer_token, .. } => bearer_token.iter().collect(),
            Self::Postgres { password, .. } => password.iter().collect(),
            Self::Smtp { username, password, .. } => username.iter().chain(password).collect(),
            Self::Webhook { url, bearer_token, signing_key } => {
                let url = if let Some(WebhookUrl::Secret(variable)) = url { Some(variable) } else { None };
                url.into_iter().chain(bearer_token).chain(signing_key).collect()
            }
            Self::Secrets(values) => values.values().collect(),
            Self::Folder { .. } | Self::DuckDb { .. } => Vec::new(),
        }
    }
}
