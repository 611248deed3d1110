//! A store in a folder of a file system: written once, lasting before it is visible, whole or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use pintail_protocol::StoredFile;

use crate::digest::{digest, file_digest};
use crate::{Listed, PutOnce, StoreError, StoreErrorClass, Update, Version};

#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: Arc<Path>,
}

impl Folder {
    /// `path` is absolute.
    pub(crate) fn new(path: &str) -> Self {
        Self { root: Arc::from(Path::new(path)) }
    }

    pub(crate) async fn read(&self, key: &str, limit_bytes: usize) -> Result<Option<(Bytes, Version)>, StoreError> {
        let path = self.root.join(key);
        blocking(move || read(&path, limit_bytes)).await
    }

    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.root.join(key);
        blocking(move || {
            writing(&path, ensure_parent(&path))?;
            let _lock = writing(&path, lock(&path))?;
            writing(&path, replace(&path, &bytes))
        })
        .await
    }

    pub(crate) async fn put_once(&self, key: &str, bytes: Bytes) -> Result<PutOnce, StoreError> {
        let path = self.root.join(key);
        blocking(move || writing(&path, create(&path, &bytes))).await
    }

    pub(crate) async fn update(
        &self,
        key: &str,
        bytes: Bytes,
        expected: Option<Version>,
    ) -> Result<Update, StoreError> {
        let path = self.root.join(key);
        blocking(move || {
            let new = Version(digest(&bytes));
            writing(&path, ensure_parent(&path))?;
            let _lock = writing(&path, lock(&path))?;
            let found = version(&path)?;
            if found.as_ref() == Some(&new) {
                return Ok(Update::Done(new));
            }
            if found != expected {
                return Ok(Update::Conflict);
            }
            writing(&path, replace(&path, &bytes))?;
            Ok(Update::Done(new))
        })
        .await
    }

    pub(crate) async fn list(&self, folder_key: &str) -> Result<Vec<Listed>, StoreError> {
        let (path, folder_key) = (self.root.join(folder_key), folder_key.to_owned());
        blocking(move || {
            let mut found = Vec::new();
            list(&path, &folder_key, &mut found).map_err(|error| trouble("list", &path, &error))?;
            Ok(found)
        })
        .await
    }

    pub(crate) async fn folders(&self, folder_key: &str) -> Result<Vec<String>, StoreError> {
        let path = self.root.join(folder_key);
        blocking(move || {
            let mut names = folder_names(&path).map_err(|error| trouble("list", &path, &error))?;
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    pub(crate) async fn delete_folder(&self, folder_key: &str) -> Result<(), StoreError> {
        let path = self.root.join(folder_key);
        blocking(move || match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(trouble("delete", &path, &error)),
            _ => Ok(()),
        })
        .await
    }

    pub(crate) async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let paths: Vec<PathBuf> = keys.iter().map(|key| self.root.join(key)).collect();
        blocking(move || {
            paths.iter().try_for_each(|path| match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(trouble("delete", path, &error)),
                _ => Ok(()),
            })
        })
        .await
    }

    pub(crate) async fn output_path(&self, key: &str) -> Result<PathBuf, StoreError> {
        let path = self.root.join(key);
        blocking(move || {
            writing(&path, ensure_parent(&path))?;
            Ok(path)
        })
        .await
    }

    pub(crate) async fn store_file(&self, path: &Path, key: &str) -> Result<StoredFile, StoreError> {
        let (path, place, key) = (path.to_owned(), self.root.join(key), key.to_owned());
        blocking(move || {
            if path != place {
                let cause = format!("the file was written to {}", path.display());
                return Err(StoreError::new(StoreErrorClass::Invalid, "store", shown(&place), cause));
            }
            writing(&path, make_last(&path)).map(|(bytes, digest)| StoredFile { key, bytes, digest })
        })
        .await
    }

    pub(crate) async fn stage(&self, file: &StoredFile) -> Result<PathBuf, StoreError> {
        let (path, file) = (self.root.join(&file.key), file.clone());
        blocking(move || verify(&path, &file, &shown(&path)).map(|()| path)).await
    }
}

/// Refuses a file that has not the recorded size and digest. `place` is what people know the object by.
pub(crate) fn verify(path: &Path, file: &StoredFile, place: &str) -> Result<(), StoreError> {
    let read = |result: io::Result<String>| result.map_err(|error| trouble("read", path, &error));
    let bytes = fs::metadata(path).map_err(|error| trouble("read", path, &error))?.len();
    // The size first: it is free, and tells a truncated file without reading it.
    if bytes != file.bytes {
        let cause = format!("it has {bytes} bytes, but {} were recorded", file.bytes);
        return Err(StoreError::new(StoreErrorClass::Corrupt, "use", place, cause));
    }
    let found = read(file_digest(path))?;
    if found != file.digest {
        let cause = format!("its content has digest {found}, but {} was recorded", file.digest);
        return Err(StoreError::new(StoreErrorClass::Corrupt, "use", place, cause));
    }
    Ok(())
}

fn read(path: &Path, limit_bytes: usize) -> Result<Option<(Bytes, Version)>, StoreError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| trouble("read", path, &error))?,
    };
    let mut bytes = Vec::new();
    let limit = limit_bytes as u64;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| trouble("read", path, &error))?;
    if bytes.len() as u64 > limit {
        let cause = format!("it has more than the {limit} bytes that such an object may have");
        return Err(StoreError::new(StoreErrorClass::Corrupt, "read", shown(path), cause));
    }
    let version = Version(digest(&bytes));
    Ok(Some((Bytes::from(bytes), version)))
}

fn version(path: &Path) -> Result<Option<Version>, StoreError> {
    match file_digest(path) {
        Ok(digest) => Ok(Some(Version(digest))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(trouble("read", path, &error)),
    }
}

/// A hard link fails where its name is taken: the one way to create that is atomic on every POSIX file system, and what
/// it makes visible is on the disk already.
fn create(path: &Path, bytes: &[u8]) -> io::Result<PutOnce> {
    ensure_parent(path)?;
    // Process numbers repeat, in containers all the time. A name used twice would be the very file that it was linked to.
    let temporary = beside(path, &format!("{}.new", uuid::Uuid::new_v4()));
    let mut file = File::options().write(true).create_new(true).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&temporary, path));
    // Nobody else knows this name, so what is left of it does no harm.
    let _ = fs::remove_file(&temporary);
    match linked {
        Ok(()) => sync_parent(path).map(|()| PutOnce::Created),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(PutOnce::Exists),
        Err(error) => Err(error),
    }
}

/// Whoever replaces holds the lock, so one name for the new content is enough and nothing piles up after a crash.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = beside(path, "new");
    write(&temporary, bytes)?;
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// Waits for other processes that change the object. The lock ends with the file's handle, also when the process dies.
fn lock(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(beside(path, "lock"))?;
    file.lock()?;
    Ok(file)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Brings a file and its name to the disk while it is hashed; gives its size and digest.
fn make_last(path: &Path) -> io::Result<(u64, String)> {
    let file = File::open(path)?;
    let digest = std::thread::scope(|scope| {
        let synced = scope.spawn(|| file.sync_all());
        let digest = file_digest(path);
        synced.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs the file died"))).and(digest)
    })?;
    sync_parent(path)?;
    Ok((file.metadata()?.len(), digest))
}

fn ensure_parent(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    if parent.is_dir() {
        return Ok(());
    }
    ensure_parent(parent)?;
    match fs::create_dir(parent) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => sync_parent(parent),
    }
}

/// A name lasts when its folder is on the disk.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// A hidden name in the same folder: keys never start with a dot, and listings leave it out.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

fn list(path: &Path, folder_key: &str, found: &mut Vec<Listed>) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let key = format!("{folder_key}/{name}");
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &key, found)?;
            continue;
        }
        match entry.metadata().and_then(|metadata| metadata.modified()) {
            Ok(modified) => {
                let modified_at = Timestamp::try_from(modified).unwrap_or_default();
                found.push(Listed { key, modified_at });
            }
            // It went just now.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn folder_names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(name) = name.to_str().filter(|name| !name.starts_with('.'))
            && entry.file_type()?.is_dir()
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// File operations block: they run beside the threads that drive futures.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::new(StoreErrorClass::Unreachable, "reach", "the store", error.to_string())),
    }
}

fn writing<T>(path: &Path, result: io::Result<T>) -> Result<T, StoreError> {
    result.map_err(|error| trouble("write", path, &error))
}

pub(crate) fn trouble(action: &'static str, path: &Path, error: &io::Error) -> StoreError {
    let class = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => StoreErrorClass::NoSpace,
        ErrorKind::ReadOnlyFilesystem => StoreErrorClass::ReadOnly,
        ErrorKind::PermissionDenied if action == "write" || action == "delete" => StoreErrorClass::ReadOnly,
        ErrorKind::PermissionDenied => StoreErrorClass::Denied,
        ErrorKind::NotFound => StoreErrorClass::NotFound,
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::InvalidFilename => StoreErrorClass::Invalid,
        _ => StoreErrorClass::Unreachable,
    };
    StoreError::new(class, action, shown(path), error.to_string())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
