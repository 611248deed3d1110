//! From a Connection to what a runner needs of it.

use pintail_api as api;
use pintail_protocol::{ConnectionTarget, MailEncryption, SecretVariable, WebhookUrl, secret_variable};

use crate::sql_name;

/// A Connection that cannot be used as it stands. `plan` refuses the same; this is for objects that bypassed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection {name:?} cannot be used: {why}")]
pub struct ConnectionError {
    pub name: String,
    pub why: String,
}

/// Where a pod finds the volumes that Connections name, each under the name of its claim.
pub const VOLUMES: &str = "/volumes";

const BUSY_TIMEOUT_MS: u64 = 5 * 60 * 1000;

fn variable(value: &api::SecretValue) -> SecretVariable {
    SecretVariable(secret_variable(&value.secret_key_ref.name, &value.secret_key_ref.key))
}

fn optional(value: Option<&api::SecretValue>) -> Option<SecretVariable> {
    value.map(variable)
}

fn trimmed(text: &str) -> String {
    text.trim_matches('/').to_owned()
}

fn port(value: Option<i32>, default: u16) -> u16 {
    value.and_then(|number| u16::try_from(number).ok()).unwrap_or(default)
}

/// The target of a Connection named `name`.
///
/// # Errors
/// Where the spec names no kind.
pub fn connection_target(name: &str, spec: &api::ConnectionSpec) -> Result<ConnectionTarget, ConnectionError> {
    if let Some(folder) = &spec.folder {
        return Ok(ConnectionTarget::Folder { path: folder.path.clone() });
    }
    if let Some(s3) = &spec.s3 {
        return Ok(s3_target(s3));
    }
    if let Some(http) = &spec.http {
        return Ok(ConnectionTarget::Http {
            url: http.url.trim_end_matches('/').to_owned(),
            bearer_token: optional(http.bearer_token_from.as_ref()),
        });
    }
    if let Some(duckdb) = &spec.duckdb {
        let busy_timeout = duckdb.busy_timeout.as_deref().and_then(|text| pintail_plan::parse_duration(text).ok());
        return Ok(ConnectionTarget::DuckDb {
            path: match &duckdb.volume_claim {
                Some(claim) => format!("{}/{claim}/{}", VOLUMES, duckdb.path),
                None => duckdb.path.clone(),
            },
            busy_timeout_ms: busy_timeout
                .map_or(BUSY_TIMEOUT_MS, |duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        });
    }
    if let Some(postgres) = &spec.postgres {
        return Ok(postgres_target(postgres));
    }
    if let Some(smtp) = &spec.smtp {
        return Ok(smtp_target(smtp));
    }
    if let Some(webhook) = &spec.webhook {
        return webhook_target(name, webhook);
    }
    if let Some(secrets) = &spec.secrets {
        let prefix = sql_name(name);
        let values = secrets.iter().map(|(key, value)| (format!("{prefix}_{key}"), variable(value)));
        return Ok(ConnectionTarget::Secrets(values.collect()));
    }
    Err(ConnectionError { name: name.to_owned(), why: "it has no kind".to_owned() })
}

fn s3_target(s3: &api::S3Connection) -> ConnectionTarget {
    ConnectionTarget::S3 {
        bucket: s3.bucket.clone(),
        prefix: trimmed(&s3.prefix),
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone(),
        // Services other than Amazon's seldom have a host name for each bucket.
        path_style: s3.path_style.unwrap_or(s3.endpoint.is_some()),
        anonymous: s3.anonymous.unwrap_or(false),
        access_key_id: optional(s3.access_key_id_from.as_ref()),
        secret_access_key: optional(s3.secret_access_key_from.as_ref()),
    }
}

fn postgres_target(postgres: &api::PostgresConnection) -> ConnectionTarget {
    let ssl_mode = match postgres.ssl_mode.unwrap_or(api::SslMode::Prefer) {
        api::SslMode::Disable => "disable",
        api::SslMode::Prefer => "prefer",
        api::SslMode::Require => "require",
        api::SslMode::VerifyFull => "verify-full",
    };
    ConnectionTarget::Postgres {
        host: postgres.host.clone(),
        port: port(postgres.port, 5432),
        database: postgres.database.clone(),
        user: postgres.user.clone(),
        password: optional(postgres.password_from.as_ref()),
        ssl_mode: ssl_mode.to_owned(),
    }
}

fn smtp_target(smtp: &api::SmtpConnection) -> ConnectionTarget {
    let (encryption, default_port) = match smtp.encryption.unwrap_or(api::SmtpEncryption::StartTls) {
        api::SmtpEncryption::None => (MailEncryption::None, 587),
        api::SmtpEncryption::StartTls => (MailEncryption::StartTls, 587),
        api::SmtpEncryption::Tls => (MailEncryption::Tls, 465),
    };
    ConnectionTarget::Smtp {
        host: smtp.host.clone(),
        port: port(smtp.port, default_port),
        encryption,
        from: smtp.from.clone(),
        username: optional(smtp.username_from.as_ref()),
        password: optional(smtp.password_from.as_ref()),
    }
}

fn webhook_target(name: &str, webhook: &api::WebhookConnection) -> Result<ConnectionTarget, ConnectionError> {
    let url = match (&webhook.url, &webhook.url_from) {
        (Some(url), None) => Some(WebhookUrl::Plain(url.clone())),
        (None, Some(secret)) => Some(WebhookUrl::Secret(variable(secret))),
        (None, None) if webhook.signing_key_from.is_some() => None,
        _ => {
            let why = "set exactly one of webhook.url and webhook.urlFrom".to_owned();
            return Err(ConnectionError { name: name.to_owned(), why });
        }
    };
    Ok(ConnectionTarget::Webhook {
        url,
        bearer_token: optional(webhook.bearer_token_from.as_ref()),
        signing_key: optional(webhook.signing_key_from.as_ref()),
    })
}
