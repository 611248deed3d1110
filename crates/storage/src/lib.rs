//! Where runs keep what they make: objects by key, and the commit protocol over them.
//!
//! ```text
//! runner:  output_path ─> write ─> store_file ─┐
//!                                   put_report ─┴─> commit: `_commit`, created once
//! reader:  read_commit ─> report ─> stage ─> a local path with exactly the bytes that were recorded
//! state:   read_versioned ─> update (compare and swap)
//! ```
//!
//! A store is a folder or a prefix of a bucket, and means the same on both. Readers of data follow commit records and
//! never list. Every key comes from [`layout`].

mod bucket;
mod bucket_error;
mod commit;
mod digest;
mod error;
mod folder;
mod format;
mod installation;
pub mod layout;
mod location;
mod log;
mod marker;
mod order;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use pintail_protocol::{StoreLocation, StoredFile};

pub use commit::CommitOutcome;
pub use digest::digest;
pub use error::{StoreError, StoreErrorClass};
pub use installation::Installation;
pub use layout::RunTask;
pub use location::parse_location;
pub use marker::Marker;

use bucket::{Bucket, Variables};
use folder::Folder;

/// Whoever waits for a store that does not answer should soon know.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// An open store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    location: StoreLocation,
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Folder(Folder),
    Bucket(Bucket),
}

/// Whether [`Store::put_once`] made the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOnce {
    Created,
    /// It was there. It may be this process's own: a reply can get lost. Compare the content where that matters.
    Exists,
}

/// Names one content of one key, for [`Store::update`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub(crate) String);

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    /// When it was written last, by the clock of the store.
    pub modified_at: Timestamp,
}

/// What came of [`Store::update`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    Done(Version),
    /// The object is not at the expected version: read it again, decide again.
    Conflict,
}

impl Store {
    /// Opens the store, and makes it where there is none. The credential of a bucket comes from the environment.
    ///
    /// # Errors
    /// Within about 20 seconds, where the store cannot be reached, refuses, or was written by a newer Pintail.
    pub async fn open(location: &StoreLocation) -> Result<Self, StoreError> {
        Self::open_with(location, &variables()).await
    }

    /// A store that another program has opened, which ordered the work on it. Nothing is read: the credential here may
    /// be limited to one namespace.
    ///
    /// # Errors
    /// Where the environment's settings of a bucket cannot be understood.
    pub fn connect(location: &StoreLocation) -> Result<Self, StoreError> {
        Self::connect_with(location, &variables())
    }

    fn connect_with(location: &StoreLocation, variables: &Variables) -> Result<Self, StoreError> {
        let backend = match location {
            StoreLocation::Folder { path } => Backend::Folder(Folder::new(path)),
            StoreLocation::S3 { bucket, prefix } => Backend::Bucket(Bucket::new(bucket, prefix, variables)?),
        };
        Ok(Self { location: location.clone(), backend })
    }

    pub(crate) async fn open_with(location: &StoreLocation, variables: &Variables) -> Result<Self, StoreError> {
        let store = Self::connect_with(location, variables)?;
        match tokio::time::timeout(OPEN_TIMEOUT, format::claim(&store)).await {
            Ok(claimed) => claimed.map(|()| store),
            Err(_) => {
                let cause = format!("no answer within {} seconds", OPEN_TIMEOUT.as_secs());
                Err(StoreError::new(StoreErrorClass::Unreachable, "open", store.uri(""), cause))
            }
        }
    }

    /// A store that is gone with its last clone, at `s3://memory`. For tests; `objects` is an
    /// [`object_store::memory::InMemory`] or wraps one.
    #[must_use]
    pub fn in_memory(objects: Arc<dyn object_store::ObjectStore>) -> Self {
        const BUCKET: &str = "memory";
        let trouble = bucket_error::Trouble::new(BUCKET, "", &Variables::new());
        let backend = Backend::Bucket(Bucket::over(objects, "", trouble));
        Self { location: StoreLocation::S3 { bucket: BUCKET.to_owned(), prefix: String::new() }, backend }
    }

    #[must_use]
    pub fn location(&self) -> &StoreLocation {
        &self.location
    }

    /// Where the object is, for people and for DuckDB: an absolute path, or `s3://bucket/…`.
    #[must_use]
    pub fn uri(&self, key: &str) -> String {
        match &self.location {
            StoreLocation::Folder { path } => format!("{}/{key}", path.trim_end_matches('/')),
            StoreLocation::S3 { bucket, prefix } if prefix.is_empty() => format!("s3://{bucket}/{key}"),
            StoreLocation::S3 { bucket, prefix } => format!("s3://{bucket}/{prefix}/{key}"),
        }
    }

    /// The whole object, or `None` where there is none.
    ///
    /// # Errors
    /// Where it cannot be read; class `Corrupt` where it has more than `limit_bytes`.
    pub async fn get(&self, key: &str, limit_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        Ok(self.read_versioned(key, limit_bytes).await?.map(|(bytes, _)| bytes))
    }

    /// As [`Store::get`], with the version for [`Store::update`].
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn read_versioned(&self, key: &str, limit_bytes: usize) -> Result<Option<(Bytes, Version)>, StoreError> {
        layout::check_key(key)?;
        match &self.backend {
            Backend::Folder(folder) => folder.read(key, limit_bytes).await,
            Backend::Bucket(bucket) => bucket.read(key, limit_bytes).await,
        }
    }

    /// Writes the object, whatever was there.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        layout::check_key(key)?;
        match &self.backend {
            Backend::Folder(folder) => folder.put(key, bytes).await,
            Backend::Bucket(bucket) => bucket.put(key, bytes).await,
        }
    }

    /// Writes the object unless there is one: of many writers exactly one creates it.
    ///
    /// # Errors
    /// Where it cannot be written, or it stays unknown whether it was.
    pub async fn put_once(&self, key: &str, bytes: Bytes) -> Result<PutOnce, StoreError> {
        layout::check_key(key)?;
        match &self.backend {
            Backend::Folder(folder) => folder.put_once(key, bytes).await,
            Backend::Bucket(bucket) => bucket.put_once(key, bytes).await,
        }
    }

    /// Writes the object if it is still at the expected version (`None`: if there is none). An object that already has
    /// the new content counts as written: that is how a lost reply looks.
    ///
    /// # Errors
    /// Where it cannot be written, or it stays unknown whether it was.
    pub async fn update(&self, key: &str, bytes: Bytes, expected: Option<&Version>) -> Result<Update, StoreError> {
        layout::check_key(key)?;
        match &self.backend {
            Backend::Folder(folder) => folder.update(key, bytes, expected.cloned()).await,
            Backend::Bucket(bucket) => bucket.update(key, bytes, expected).await,
        }
    }

    /// The keys in and below a folder, sorted. For state and catalog; readers of data follow commit records.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn list(&self, folder_key: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.list_dated(folder_key).await?.into_iter().map(|listed| listed.key).collect())
    }

    /// As [`Store::list`], with the time of each.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_dated(&self, folder_key: &str) -> Result<Vec<Listed>, StoreError> {
        layout::check_key(folder_key)?;
        let mut found = match &self.backend {
            Backend::Folder(folder) => folder.list(folder_key).await,
            Backend::Bucket(bucket) => bucket.list(folder_key).await,
        }?;
        found.sort_unstable_by(|left, right| left.key.cmp(&right.key));
        Ok(found)
    }

    /// The names of the folders in a folder, sorted; the root is empty.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn folders(&self, folder_key: &str) -> Result<Vec<String>, StoreError> {
        if !folder_key.is_empty() {
            layout::check_key(folder_key)?;
        }
        match &self.backend {
            Backend::Folder(folder) => folder.folders(folder_key).await,
            Backend::Bucket(bucket) => bucket.folders(folder_key).await,
        }
    }

    /// Deletes all in and below a folder. None there is fine.
    ///
    /// # Errors
    /// Where something cannot be deleted; the rest may be gone then.
    pub async fn delete_folder(&self, folder_key: &str) -> Result<(), StoreError> {
        layout::check_key(folder_key)?;
        match &self.backend {
            Backend::Folder(folder) => folder.delete_folder(folder_key).await,
            Backend::Bucket(bucket) => bucket.delete_folder(folder_key).await,
        }
    }

    /// Deletes objects. None there is fine.
    ///
    /// # Errors
    /// Where one cannot be deleted; others may be gone then.
    pub async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        keys.iter().try_for_each(|key| layout::check_key(key))?;
        match &self.backend {
            Backend::Folder(folder) => folder.delete(keys).await,
            Backend::Bucket(bucket) => bucket.delete(keys).await,
        }
    }

    /// Where to write the file that [`Store::store_file`] then makes the object `key`; its folder is there. In a folder
    /// store that is its place already, so nothing is copied; otherwise it is below `scratch`.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub async fn output_path(&self, key: &str, scratch: &Path) -> Result<PathBuf, StoreError> {
        layout::check_key(key)?;
        match &self.backend {
            Backend::Folder(folder) => folder.output_path(key).await,
            Backend::Bucket(bucket) => bucket.output_path(key, scratch).await,
        }
    }

    /// Makes a written file the object `key`: hashes it, and makes it last. `path` is that of [`Store::output_path`].
    ///
    /// # Errors
    /// Where the file cannot be read, or the object not be written.
    pub async fn store_file(&self, path: &Path, key: &str) -> Result<StoredFile, StoreError> {
        layout::check_key(key)?;
        match &self.backend {
            Backend::Folder(folder) => folder.store_file(path, key).await,
            Backend::Bucket(bucket) => bucket.store_file(path, key).await,
        }
    }

    /// A local path whose content has the recorded size and digest: in place in a folder store, else a copy below
    /// `scratch`.
    ///
    /// # Errors
    /// Class `Corrupt` where it has not, `NotFound` where there is no such object.
    pub async fn stage(&self, file: &StoredFile, scratch: &Path) -> Result<PathBuf, StoreError> {
        layout::check_key(&file.key)?;
        match &self.backend {
            Backend::Folder(folder) => folder.stage(file).await,
            Backend::Bucket(bucket) => bucket.stage(file, scratch).await,
        }
    }
}

fn variables() -> Variables {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}
