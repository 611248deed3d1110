//! A store below a prefix of an S3 bucket. Conditional writes decide races; a lost reply is settled by reading back.

use std::collections::BTreeMap;
use std::path::{Path as LocalPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, RetryConfig, UpdateVersion,
    WriteMultipart,
};
use pintail_protocol::StoredFile;
use tokio::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bucket_error::Trouble;
use crate::digest::file_digest;
use crate::folder::{blocking, trouble, verify};
use crate::{Listed, PutOnce, StoreError, StoreErrorClass, Update, Version};

/// A server that takes no connection fails within this and [`RETRY_TIMEOUT`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A part has to get through in this: about 2 Mbit/s where nothing else runs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_TIMEOUT: Duration = Duration::from_secs(12);
const RETRIES: usize = 6;

/// Transfers move parts of this size, so that one failed request costs little.
const PART_BYTES: u64 = 8 << 20;
const PARTS_AT_ONCE: usize = 4;
/// S3 takes 10,000 parts an upload.
const PARTS: u64 = 9_000;

/// S3 answers 409 to a conditional write while another is under way.
const CREATE_ATTEMPTS: u32 = 5;
const CREATE_PAUSE: Duration = Duration::from_millis(100);

/// The environment, as a value.
pub(crate) type Variables = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    trouble: Trouble,
}

impl Bucket {
    /// Credential, endpoint and region are in the variables that AWS tools read, such as `AWS_ACCESS_KEY_ID`.
    pub(crate) fn new(bucket: &str, prefix: &str, variables: &Variables) -> Result<Self, StoreError> {
        let endpoint = variables.get("AWS_ENDPOINT_URL");
        let trouble = Trouble::new(bucket, prefix, variables);
        let options = ClientOptions::new()
            .with_allow_http(endpoint.is_some_and(|url| url.starts_with("http://")))
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT);
        let backoff = BackoffConfig { max_backoff: Duration::from_secs(3), ..BackoffConfig::default() };
        let mut builder = AmazonS3Builder::new();
        for (name, value) in variables {
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        let store = builder
            .with_bucket_name(bucket)
            .with_client_options(options)
            .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT })
            .build()
            .map_err(|error| trouble.error("open", "", &error))?;
        Ok(Self::over(Arc::new(store), prefix, trouble))
    }

    pub(crate) fn over(store: Arc<dyn ObjectStore>, prefix: &str, trouble: Trouble) -> Self {
        Self { store, prefix: prefix.to_owned(), trouble }
    }

    pub(crate) async fn read(&self, key: &str, limit_bytes: usize) -> Result<Option<(Bytes, Version)>, StoreError> {
        let found = match self.store.get(&self.path(key)?).await {
            Err(error) if self.trouble.is_missing_object(&error) => return Ok(None),
            found => found.map_err(|error| self.trouble.error("read", key, &error))?,
        };
        if found.meta.size > limit_bytes as u64 {
            let cause =
                format!("it has {} bytes, more than the {limit_bytes} that such an object may have", found.meta.size);
            return Err(self.trouble.with(StoreErrorClass::Corrupt, "read", key, cause));
        }
        let version = self.version(key, found.meta.e_tag.clone())?;
        let bytes = found.bytes().await.map_err(|error| self.trouble.error("read", key, &error))?;
        Ok(Some((bytes, version)))
    }

    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        match self.store.put(&self.path(key)?, bytes.into()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.trouble.error("write", key, &error)),
        }
    }

    /// A failure may hide a success, and 409 may precede one: what is there then tells.
    pub(crate) async fn put_once(&self, key: &str, bytes: Bytes) -> Result<PutOnce, StoreError> {
        let path = self.path(key)?;
        let mut attempt = 1;
        loop {
            let error = match self.store.put_opts(&path, bytes.clone().into(), PutMode::Create.into()).await {
                Ok(_) => return Ok(PutOnce::Created),
                Err(error) => error,
            };
            let undecided = matches!(error, Error::AlreadyExists { .. } | Error::Generic { .. });
            let failure = self.trouble.error("write", key, &error);
            if !undecided || failure.class() == StoreErrorClass::Denied {
                return Err(failure);
            }
            match self.head(key).await {
                Ok(Some(_)) => return Ok(PutOnce::Exists),
                Ok(None) if attempt < CREATE_ATTEMPTS => tokio::time::sleep(CREATE_PAUSE * attempt).await,
                _ => return Err(failure),
            }
            attempt += 1;
        }
    }

    pub(crate) async fn update(
        &self,
        key: &str,
        bytes: Bytes,
        expected: Option<&Version>,
    ) -> Result<Update, StoreError> {
        let path = self.path(key)?;
        let error = match expected {
            None => match self.put_once(key, bytes.clone()).await? {
                PutOnce::Created => return self.current(key).await,
                PutOnce::Exists => None,
            },
            Some(Version(e_tag)) => {
                let mode = PutMode::Update(UpdateVersion { e_tag: Some(e_tag.clone()), version: None });
                match self.store.put_opts(&path, bytes.clone().into(), mode.into()).await {
                    Ok(put) => return Ok(Update::Done(self.version(key, put.e_tag)?)),
                    Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => None,
                    Err(error) => Some(self.trouble.error("write", key, &error)),
                }
            }
        };
        // Refused, or the reply was lost: the new content there means that it got through.
        let found = match (self.read(key, bytes.len()).await, error) {
            (Ok(found), None) => found,
            (Ok(Some((found, version))), Some(error)) => {
                if found != bytes && expected == Some(&version) {
                    return Err(error);
                }
                Some((found, version))
            }
            // Longer than what we wrote: another's.
            (Err(error), None) if error.class() == StoreErrorClass::Corrupt => None,
            (_, Some(error)) | (Err(error), None) => return Err(error),
        };
        match found {
            Some((found, version)) if found == bytes => Ok(Update::Done(version)),
            _ => Ok(Update::Conflict),
        }
    }

    pub(crate) async fn list(&self, folder_key: &str) -> Result<Vec<Listed>, StoreError> {
        let path = self.path(folder_key)?;
        let root = if self.prefix.is_empty() { 0 } else { self.prefix.len() + 1 };
        let listed = |meta: ObjectMeta| {
            let key = meta.location.as_ref().get(root..).unwrap_or_default().to_owned();
            let modified_at = Timestamp::from_millisecond(meta.last_modified.timestamp_millis()).unwrap_or_default();
            Listed { key, modified_at }
        };
        let found: Vec<Listed> = self
            .store
            .list(Some(&path))
            .map_ok(listed)
            .try_collect()
            .await
            .map_err(|error| self.trouble.error("list", folder_key, &error))?;
        Ok(found)
    }

    pub(crate) async fn folders(&self, folder_key: &str) -> Result<Vec<String>, StoreError> {
        let path = match folder_key {
            "" => Path::from(self.prefix.as_str()),
            key => self.path(key)?,
        };
        let found = self.store.list_with_delimiter(Some(&path)).await;
        let found = found.map_err(|error| self.trouble.error("list", folder_key, &error))?;
        let names = found.common_prefixes.iter().filter_map(|path| path.filename());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) async fn delete_folder(&self, folder_key: &str) -> Result<(), StoreError> {
        let path = self.path(folder_key)?;
        let found = self.store.list(Some(&path)).map_ok(|meta| meta.location).boxed();
        self.delete_all(folder_key, found).await
    }

    pub(crate) async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let Some(first) = keys.first() else { return Ok(()) };
        let paths: Vec<Path> = keys.iter().map(|key| self.path(key)).collect::<Result<_, _>>()?;
        self.delete_all(first, futures::stream::iter(paths).map(Ok).boxed()).await
    }

    async fn delete_all(
        &self,
        place: &str,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> Result<(), StoreError> {
        let mut deleted = self.store.delete_stream(paths);
        while let Some(result) = deleted.next().await {
            match result {
                Err(Error::NotFound { .. }) | Ok(_) => {}
                Err(error) => return Err(self.trouble.error("delete", place, &error)),
            }
        }
        Ok(())
    }

    pub(crate) async fn output_path(&self, key: &str, scratch: &LocalPath) -> Result<PathBuf, StoreError> {
        let place = scratch.join(key);
        make_parent(&place).await?;
        Ok(place)
    }

    pub(crate) async fn store_file(&self, file: &LocalPath, key: &str) -> Result<StoredFile, StoreError> {
        let path = self.path(key)?;
        let local = file.to_owned();
        let (bytes, digest) = blocking(move || {
            let bytes = std::fs::metadata(&local).map(|metadata| metadata.len());
            let both = bytes.and_then(|bytes| Ok((bytes, file_digest(&local)?)));
            both.map_err(|error| trouble("read", &local, &error))
        })
        .await?;
        if bytes <= PART_BYTES {
            let content = fs::read(file).await.map_err(|error| trouble("read", file, &error))?;
            self.put(key, content.into()).await?;
        } else {
            let uploaded = self.upload(file, bytes, key, &path).await;
            // The end of an upload may say success and be none, or fail and be one: only what is there counts.
            if self.head(key).await?.is_none_or(|meta| meta.size != bytes) {
                uploaded?;
                let cause = format!("the upload of {bytes} bytes was confirmed, but they are not there");
                return Err(self.trouble.with(StoreErrorClass::Unreachable, "write", key, cause));
            }
        }
        Ok(StoredFile { key: key.to_owned(), bytes, digest })
    }

    async fn upload(&self, file: &LocalPath, bytes: u64, key: &str, path: &Path) -> Result<(), StoreError> {
        let unreadable = |error| trouble("read", file, &error);
        let failed = |error| self.trouble.error("write", key, &error);
        let part_bytes = PART_BYTES.max(bytes.div_ceil(PARTS));
        let mut content = fs::File::open(file).await.map_err(unreadable)?;
        let upload = self.store.put_multipart(path).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, usize::try_from(part_bytes).unwrap_or(usize::MAX));
        loop {
            let mut part = Vec::new();
            let read = (&mut content).take(part_bytes).read_to_end(&mut part).await;
            if let Err(error) = read {
                // The first failure is the one to tell.
                let _ = upload.abort().await;
                return Err(unreadable(error));
            }
            if part.is_empty() {
                return upload.finish().await.map(|_| ()).map_err(failed);
            }
            if let Err(error) = upload.wait_for_capacity(PARTS_AT_ONCE).await {
                let _ = upload.abort().await;
                return Err(failed(error));
            }
            upload.put(Bytes::from(part));
        }
    }

    pub(crate) async fn stage(&self, file: &StoredFile, scratch: &LocalPath) -> Result<PathBuf, StoreError> {
        let place = scratch.join(&file.key);
        match self.head(&file.key).await? {
            Some(meta) if meta.size == file.bytes => {}
            Some(meta) => {
                let cause = format!("it has {} bytes, but {} were recorded", meta.size, file.bytes);
                return Err(self.trouble.with(StoreErrorClass::Corrupt, "use", &file.key, cause));
            }
            None => {
                let cause = "there is no such object";
                return Err(self.trouble.with(StoreErrorClass::NotFound, "read", &file.key, cause));
            }
        }
        // What is there is from an earlier use; only its content can tell whether it is whole.
        if fs::try_exists(&place).await.unwrap_or(false) && self.verified(&place, file).await.is_ok() {
            return Ok(place);
        }
        make_parent(&place).await?;
        self.download(file, &place).await?;
        if self.verified(&place, file).await.is_err() {
            // A bit may flip on the way; twice is the object's fault.
            self.download(file, &place).await?;
            self.verified(&place, file).await?;
        }
        Ok(place)
    }

    async fn verified(&self, place: &LocalPath, file: &StoredFile) -> Result<(), StoreError> {
        let (place, file, uri) = (place.to_owned(), file.clone(), self.trouble.uri(&file.key));
        blocking(move || verify(&place, &file, &uri)).await
    }

    async fn download(&self, file: &StoredFile, place: &LocalPath) -> Result<(), StoreError> {
        let path = self.path(&file.key)?;
        let unwritable = |error| trouble("write", place, &error);
        let starts = (0..file.bytes.div_ceil(PART_BYTES)).map(|part| part * PART_BYTES);
        let parts = starts.map(|start| self.store.get_range(&path, start..(start + PART_BYTES).min(file.bytes)));
        let mut parts = futures::stream::iter(parts).buffered(PARTS_AT_ONCE);
        let mut content = fs::File::create(place).await.map_err(unwritable)?;
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| self.trouble.error("read", &file.key, &error))?;
            content.write_all(&part).await.map_err(unwritable)?;
        }
        content.flush().await.map_err(unwritable)
    }

    async fn current(&self, key: &str) -> Result<Update, StoreError> {
        match self.head(key).await? {
            Some(meta) => Ok(Update::Done(self.version(key, meta.e_tag)?)),
            None => Ok(Update::Conflict),
        }
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        match self.store.head(&self.path(key)?).await {
            Ok(meta) => Ok(Some(meta)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.trouble.error("read", key, &error)),
        }
    }

    fn version(&self, key: &str, e_tag: Option<String>) -> Result<Version, StoreError> {
        let cause = "the server gives no ETag, without which nothing can be changed safely";
        e_tag.map(Version).ok_or_else(|| self.trouble.with(StoreErrorClass::Invalid, "use", key, cause))
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        let path = if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) };
        Path::parse(path).map_err(|error| self.trouble.with(StoreErrorClass::Invalid, "use", key, error.to_string()))
    }
}

async fn make_parent(place: &LocalPath) -> Result<(), StoreError> {
    match place.parent() {
        Some(parent) => fs::create_dir_all(parent).await.map_err(|error| trouble("write", place, &error)),
        None => Ok(()),
    }
}
