use std::path::Path;

use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ClientOptions, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use pintail_protocol::{ConnectionTarget, FileIdentity};
use tokio::io::AsyncWriteExt;

use super::folder::not_found;
use super::pattern::Pattern;
use super::{
    CONNECT_TIMEOUT, ListedFile, READ_TIMEOUT, RETRIES, RETRY_TIMEOUT, VISITED, cause, changed, too_many_visited,
};
use crate::failure::TaskFailure;
use crate::workspace::Environment;

/// Objects below a prefix of a bucket.
pub(super) struct Bucket {
    store: AmazonS3,
    bucket: String,
    prefix: String,
    pub endpoint: Option<String>,
}

impl Bucket {
    /// `target` is an S3 one.
    pub fn open(target: &ConnectionTarget, environment: &Environment, owner: &str) -> Result<Self, TaskFailure> {
        let ConnectionTarget::S3 { bucket, prefix, endpoint, .. } = target else {
            return Err(TaskFailure::permanent("WrongConnection", "it is not a bucket"));
        };
        let store = builder(target, environment, owner)?.build().map_err(|error| {
            TaskFailure::permanent("InvalidConnection", format!("the bucket {bucket} cannot be opened: {error}"))
        })?;
        Ok(Self { store, bucket: bucket.clone(), prefix: prefix.clone(), endpoint: endpoint.clone() })
    }

    pub fn uri(&self, path: &str) -> String {
        format!("s3://{}/{}", self.bucket, self.full(path))
    }

    fn full(&self, path: &str) -> String {
        [self.prefix.as_str(), path].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/")
    }

    fn key(&self, path: &str) -> Result<Key, TaskFailure> {
        Key::parse(self.full(path))
            .map_err(|error| TaskFailure::permanent("InvalidPath", format!("`{path}` cannot be a key: {error}")))
    }

    fn listed(&self, meta: ObjectMeta) -> ListedFile {
        let full = meta.location.to_string();
        let path = full.strip_prefix(&self.prefix).map_or(full.as_str(), |path| path.trim_start_matches('/'));
        let version = meta.e_tag.or(meta.version).unwrap_or_else(|| meta.last_modified.to_rfc3339());
        let modified_at = Timestamp::from_microsecond(meta.last_modified.timestamp_micros());
        ListedFile {
            identity: FileIdentity { path: path.to_owned(), bytes: meta.size, version },
            modified_at: modified_at.unwrap_or(Timestamp::MAX),
        }
    }

    pub async fn list(&self, pattern: &Pattern) -> Result<Vec<FileIdentity>, TaskFailure> {
        let mut objects = Vec::new();
        self.visit(pattern, |object| objects.push(object.identity)).await?;
        let mut files = Vec::new();
        for object in objects {
            if object.bytes > 0 || self.is_object(&object.path).await? {
                files.push(object);
            }
        }
        Ok(files)
    }

    /// Every object that matches, in no order; also the empty ones that [`Bucket::is_object`] tells apart.
    pub async fn visit(&self, pattern: &Pattern, mut each: impl FnMut(ListedFile)) -> Result<(), TaskFailure> {
        let below = self.key(&pattern.folder)?;
        let mut objects = self.store.list(Some(&below));
        let mut visited = 0;
        while let Some(meta) =
            objects.try_next().await.map_err(|error| self.failure(&error, "list", &pattern.folder))?
        {
            visited += 1;
            if visited > VISITED {
                return Err(too_many_visited());
            }
            let object = self.listed(meta);
            if pattern.matches(&object.identity.path) {
                each(object);
            }
        }
        Ok(())
    }

    /// Consoles show a folder by an empty object whose key ends in `/`, which a list gives without it.
    pub async fn is_object(&self, path: &str) -> Result<bool, TaskFailure> {
        match self.store.head(&self.key(path)?).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failure(&error, "read", path)),
        }
    }

    pub async fn head(&self, path: &str) -> Result<ListedFile, TaskFailure> {
        let meta = self.store.head(&self.key(path)?).await.map_err(|error| self.failure(&error, "read", path))?;
        Ok(self.listed(meta))
    }

    pub async fn download(&self, file: &FileIdentity, local: &Path) -> Result<u64, TaskFailure> {
        let failed = |error: &object_store::Error| match error {
            object_store::Error::Precondition { .. } => changed(&self.uri(&file.path)),
            other => self.failure(other, "read", &file.path),
        };
        let options = GetOptions { if_match: Some(file.version.clone()), ..GetOptions::default() };
        let answer = self.store.get_opts(&self.key(&file.path)?, options).await.map_err(|error| failed(&error))?;
        let mut chunks = answer.into_stream();
        let mut target = super::Download::create(local)?;
        while let Some(chunk) = chunks.try_next().await.map_err(|error| failed(&error))? {
            target.write(&chunk)?;
        }
        target.finish()
    }

    pub async fn upload(&self, local: &Path, path: &str) -> Result<(), TaskFailure> {
        let cannot_read = |error| TaskFailure::from_io(&error, &format!("read {}", local.display()));
        let mut source = tokio::fs::File::open(local).await.map_err(cannot_read)?;
        // One request for a small file, several parts for a large one; visible once whole.
        let mut target = BufWriter::new(std::sync::Arc::new(self.store.clone()), self.key(path)?);
        let copied = match tokio::io::copy(&mut source, &mut target).await {
            Ok(_) => target.shutdown().await,
            Err(error) => {
                // Best effort: the bucket's own rules sweep parts that were left.
                let _ = target.abort().await;
                Err(error)
            }
        };
        copied.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref::<object_store::Error>()) {
            Some(inner) => self.failure(inner, "write", path),
            None => TaskFailure::from_io(&error, &format!("write {}", self.uri(path))),
        })
    }

    pub async fn delete(&self, path: &str) -> Result<(), TaskFailure> {
        match self.store.delete(&self.key(path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failure(&error, "delete", path)),
        }
    }

    /// The service's own text is left out but for its code: it may repeat a key.
    fn failure(&self, error: &object_store::Error, action: &str, path: &str) -> TaskFailure {
        let uri = self.uri(path);
        let text = chain(error);
        let code =
            text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map_or("", |(code, _)| code);
        if code == "NoSuchBucket" {
            let message = format!(
                "could not {action} {uri}: the bucket {} does not exist: check the connection's bucket, endpoint and region",
                self.bucket
            );
            return TaskFailure::permanent("NotFound", message);
        }
        let status = ["status code: ", "status: "].iter().find_map(|start| {
            let (_, rest) = text.split_once(start)?;
            rest.get(..3)?.parse::<u16>().ok()
        });
        let denied = || {
            let code = if code.is_empty() { "access denied" } else { code };
            let message = format!(
                "could not {action} {uri}: the service answered {code}: check the connection's credentials and their rights on the bucket"
            );
            TaskFailure::transient("AccessDenied", message)
        };
        match (error, status) {
            (object_store::Error::InvalidPath { source }, _) => TaskFailure::permanent(
                "InvalidPath",
                format!("could not {action} {uri}: a key there cannot be used as a path: {source}: rename the object"),
            ),
            (object_store::Error::NotFound { .. }, _) => not_found(&uri),
            (object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }, _)
            | (_, Some(401 | 403)) => denied(),
            (_, Some(status @ (300..=399))) => TaskFailure::permanent(
                "NotFound",
                format!(
                    "could not {action} {uri}: the service answered {status}: check the connection's region and endpoint"
                ),
            ),
            (_, Some(status @ 400..=499)) if !matches!(status, 408 | 429) => TaskFailure::permanent(
                "Rejected",
                format!("could not {action} {uri}: the service answered {status} {code}"),
            ),
            (_, Some(status)) => TaskFailure::transient(
                "ConnectionFailed",
                format!("could not {action} {uri}: the service answered {status} {code}: try again later"),
            ),
            (_, None) => {
                let place = self.endpoint.as_ref().map_or(String::new(), |endpoint| format!(" at {endpoint}"));
                let cause = cause(error);
                let message = format!(
                    "could not {action} {uri}{place}: {cause}: check the connection's endpoint and the network"
                );
                TaskFailure::transient("ConnectionFailed", message)
            }
        }
    }
}

/// All messages of an error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push('\n');
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn builder(target: &ConnectionTarget, environment: &Environment, owner: &str) -> Result<AmazonS3Builder, TaskFailure> {
    let ConnectionTarget::S3 {
        bucket, endpoint, region, path_style, anonymous, access_key_id, secret_access_key, ..
    } = target
    else {
        return Err(TaskFailure::permanent("WrongConnection", "it is not a bucket"));
    };
    let mut builder = match (access_key_id, secret_access_key) {
        _ if *anonymous => AmazonS3Builder::new().with_skip_signature(true),
        (Some(id), Some(key)) => AmazonS3Builder::new()
            .with_access_key_id(environment.secret(id, owner)?)
            .with_secret_access_key(environment.secret(key, owner)?),
        (None, None) => ambient(environment)?,
        _ => {
            let message =
                "it has one of accessKeyIdFrom and secretAccessKeyFrom: give both, or neither to use the environment's";
            return Err(TaskFailure::permanent("InvalidConnection", message));
        }
    };
    let region =
        region.as_deref().or(environment.variable("AWS_REGION")).or(environment.variable("AWS_DEFAULT_REGION"));
    builder = builder
        .with_bucket_name(bucket)
        .with_region(region.unwrap_or("us-east-1"))
        .with_virtual_hosted_style_request(!path_style)
        .with_allow_http(true)
        .with_retry(RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
            backoff: BackoffConfig::default(),
        })
        .with_client_options(
            ClientOptions::new()
                .with_allow_http(true)
                .with_connect_timeout(CONNECT_TIMEOUT)
                // Of silence, not of the whole request: a large file takes its time.
                .with_timeout_disabled()
                .with_read_timeout(READ_TIMEOUT),
        );
    let endpoint = endpoint.as_deref().or(environment.variable("AWS_ENDPOINT_URL"));
    Ok(match endpoint.map(|endpoint| endpoint.trim_end_matches('/')) {
        Some(endpoint) if *path_style => builder.with_endpoint(endpoint),
        // object_store takes an endpoint as it is, so the bucket has to stand in the host's name already.
        Some(endpoint) => builder.with_endpoint(endpoint.replacen("://", &format!("://{bucket}."), 1)),
        None => builder,
    })
}

/// The environment's credentials, by the variables of Amazon's own tools. The address of cloud machines that gives
/// credentials without any is not asked: elsewhere it is only a long silence.
fn ambient(environment: &Environment) -> Result<AmazonS3Builder, TaskFailure> {
    use AmazonS3ConfigKey as Key;
    const KEYS: [(&str, Key); 9] = [
        ("AWS_ACCESS_KEY_ID", Key::AccessKeyId),
        ("AWS_SECRET_ACCESS_KEY", Key::SecretAccessKey),
        ("AWS_SESSION_TOKEN", Key::Token),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", Key::WebIdentityTokenFile),
        ("AWS_ROLE_ARN", Key::RoleArn),
        ("AWS_ROLE_SESSION_NAME", Key::RoleSessionName),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Key::ContainerCredentialsRelativeUri),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Key::ContainerCredentialsFullUri),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", Key::ContainerAuthorizationTokenFile),
    ];
    let enough = [
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    if enough.iter().all(|name| environment.variable(name).is_none()) {
        let message = "it names no credentials and the environment has none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, give accessKeyIdFrom and secretAccessKeyFrom, or say `anonymous: true`";
        return Err(TaskFailure::transient("AccessDenied", message));
    }
    Ok(KEYS.into_iter().fold(AmazonS3Builder::new(), |builder, (name, key)| match environment.variable(name) {
        Some(value) => builder.with_config(key, value),
        None => builder,
    }))
}
