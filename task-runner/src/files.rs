//! Files outside of the store: below a folder, a prefix of a bucket or a URL.
//!
//! Calls block: they are made from a thread that is no worker of an asynchronous runtime.

use std::fs::File;
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pintail_protocol::{AccessMode, Connection, ConnectionTarget, FileIdentity, WorkOrder};
use tokio::runtime::Runtime;

use crate::failure::{TaskFailure, with_pauses};
use crate::workspace::{Environment, SourceFile};

mod bucket;
mod folder;
mod pattern;
mod watched;
mod web;

pub(crate) use watched::{ListedFile, Watched};

use bucket::Bucket;
use folder::Folder;
use pattern::Pattern;
use web::Web;

/// Files of one pattern. Each stands in the task's report, some 150 bytes, and a report has at most 1 MiB.
pub(crate) const FILES: usize = 5_000;

/// Files and folders looked at for one pattern: a bucket lists a thousand in about 100 ms, so this is half a minute.
const VISITED: usize = 300_000;

/// A host that has not answered by then is not there; a slow network has.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Of silence while data is awaited.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Of one request of many.
const RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// The place of one connection of kind `folder`, `s3` or `http`. Paths are below its root.
pub struct Files {
    connection: String,
    place: Place,
    runtime: Runtime,
}

enum Place {
    Folder(Folder),
    Bucket(Bucket),
    Web(Web),
}

impl Place {
    fn open(connection: &Connection, environment: &Environment) -> Result<Self, TaskFailure> {
        let owner = format!("connection `{}`", connection.name);
        match &connection.target {
            ConnectionTarget::Folder { path } => {
                Folder::open(path, connection.mode == AccessMode::Write).map(Place::Folder)
            }
            target @ ConnectionTarget::S3 { .. } => Bucket::open(target, environment, &owner).map(Place::Bucket),
            ConnectionTarget::Http { url, bearer_token } => bearer_token
                .as_ref()
                .map(|variable| environment.secret(variable, &owner))
                .transpose()
                .and_then(|token| Web::open(url, token.map(str::to_owned)))
                .map(Place::Web),
            _ => {
                Err(TaskFailure::permanent("WrongConnection", "it holds no files: use one of kind folder, s3 or http"))
            }
        }
    }

    fn uri(&self, path: &str) -> String {
        match self {
            Place::Folder(folder) => folder.uri(path),
            Place::Bucket(bucket) => bucket.uri(path),
            Place::Web(web) => web.uri(path),
        }
    }
}

impl Files {
    /// Opens a connection; nothing is asked of a server yet. The folder of a connection that is written is made.
    ///
    /// # Errors
    /// `WrongConnection` for another kind, `SecretMissing`, `AccessDenied` without credentials, `NotFound` for a folder that is not there.
    pub fn open(connection: &Connection, environment: &Environment) -> Result<Self, TaskFailure> {
        let opened = Place::open(connection, environment).and_then(|place| Ok((place, runtime()?)));
        let (place, runtime) = opened.map_err(|failure| on_connection(failure, &connection.name))?;
        Ok(Self { connection: connection.name.clone(), place, runtime })
    }

    /// The files that a path or pattern names, sorted by path; at least one.
    ///
    /// # Errors
    /// `NotFound` for none, `TooManyFiles`, `InvalidPath`, `ConnectionFailed`, `AccessDenied`.
    pub fn list(&self, pattern: &str) -> Result<Vec<SourceFile>, TaskFailure> {
        let found = self.matching(pattern)?;
        if found.is_empty() {
            let message = format!("no file matches {}: check the path; letters' case counts", self.uri(pattern));
            return Err(on_connection(TaskFailure::permanent("NotFound", message), &self.connection));
        }
        Ok(found)
    }

    /// As [`Files::list`], but a pattern that matches no file gives none.
    ///
    /// # Errors
    /// As [`Files::list`]; `NotFound` for a path without wildcards that is not there.
    pub fn matching(&self, pattern: &str) -> Result<Vec<SourceFile>, TaskFailure> {
        self.reach(|| self.find(pattern))
    }

    fn find(&self, pattern: &str) -> Result<Vec<SourceFile>, TaskFailure> {
        check_path(pattern)?;
        let mut identities = match &self.place {
            Place::Web(_) if pattern.contains('*') => {
                let message =
                    format!("`{pattern}` has wildcards, but a web server cannot be asked for a list: name one file");
                return Err(TaskFailure::permanent("InvalidPath", message));
            }
            Place::Web(web) => vec![self.wait(web.head(pattern))?],
            _ if !pattern::is_pattern(pattern) => vec![self.identity(pattern)?],
            Place::Folder(folder) => folder.list(&Pattern::parse(pattern)?)?,
            Place::Bucket(bucket) => self.wait(bucket.list(&Pattern::parse(pattern)?))?,
        };
        identities.sort_by(|left, right| left.path.cmp(&right.path));
        if identities.len() > FILES {
            let message =
                format!("`{pattern}` matches {} files, but at most {FILES} are taken: narrow it", identities.len());
            return Err(TaskFailure::permanent("TooManyFiles", message));
        }
        Ok(identities.into_iter().map(|identity| self.found(identity)).collect())
    }

    fn found(&self, identity: FileIdentity) -> SourceFile {
        SourceFile { location: self.uri(&identity.path), identity }
    }

    /// The one file of a path without wildcards.
    ///
    /// # Errors
    /// As [`Files::list`].
    pub fn head(&self, path: &str) -> Result<SourceFile, TaskFailure> {
        self.reach(|| check_path(path).and_then(|()| self.identity(path)).map(|identity| self.found(identity)))
    }

    fn identity(&self, path: &str) -> Result<FileIdentity, TaskFailure> {
        match &self.place {
            Place::Folder(folder) => folder.head(path).map(|file| file.identity),
            Place::Bucket(bucket) => self.wait(bucket.head(path)).map(|file| file.identity),
            Place::Web(web) => self.wait(web.head(path)),
        }
    }

    /// Copies a file to a path of this machine. Gives its size in bytes.
    ///
    /// # Errors
    /// `InputChanged` where it is no longer the file that was found, else as [`Files::list`].
    pub fn download(&self, file: &FileIdentity, local: &Path) -> Result<u64, TaskFailure> {
        self.reach(|| self.fetch(file, local))
    }

    fn fetch(&self, file: &FileIdentity, local: &Path) -> Result<u64, TaskFailure> {
        check_path(&file.path)?;
        let bytes = match &self.place {
            Place::Folder(folder) => {
                self.check_unchanged(file)?;
                let cannot = |error| TaskFailure::from_io(&error, &format!("copy {}", self.uri(&file.path)));
                let mut target = Download::create(local)?;
                io::copy(&mut File::open(folder.local(&file.path)).map_err(cannot)?, &mut target.file)
                    .map_err(cannot)?;
                let bytes = target.finish()?;
                // It may have been written to meanwhile.
                self.check_unchanged(file)?;
                bytes
            }
            Place::Bucket(bucket) => self.wait(bucket.download(file, local))?,
            Place::Web(web) => self.wait(web.download(file, local))?,
        };
        // A web server need not tell the size beforehand.
        if bytes != file.bytes && !(file.bytes == 0 && matches!(self.place, Place::Web(_))) {
            return Err(changed(&self.uri(&file.path)));
        }
        Ok(bytes)
    }

    fn check_unchanged(&self, file: &FileIdentity) -> Result<(), TaskFailure> {
        if self.identity(&file.path)? == *file { Ok(()) } else { Err(changed(&self.uri(&file.path))) }
    }

    /// Puts a file of this machine under a path; what was there is replaced at once. Gives what is there then.
    ///
    /// # Errors
    /// `ReadOnly` for http, `DiskFull`, else as [`Files::list`].
    pub fn upload(&self, local: &Path, path: &str) -> Result<FileIdentity, TaskFailure> {
        self.reach(|| {
            check_path(path)?;
            match &self.place {
                Place::Folder(folder) => folder.upload(local, path),
                Place::Bucket(bucket) => self.wait(bucket.upload(local, path)),
                Place::Web(_) => Err(read_only()),
            }?;
            self.identity(path)
        })
    }

    /// Deletes a file; one that is not there is as good as deleted.
    ///
    /// # Errors
    /// `ReadOnly` for http, else as [`Files::list`].
    pub fn delete(&self, path: &str) -> Result<(), TaskFailure> {
        self.reach(|| {
            check_path(path)?;
            match &self.place {
                Place::Folder(folder) => folder.delete(path),
                Place::Bucket(bucket) => self.wait(bucket.delete(path)),
                Place::Web(_) => Err(read_only()),
            }
        })
    }

    /// Whether files can be put here and deleted.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        !matches!(self.place, Place::Web(_))
    }

    /// Whole path or URL of a path, without credentials.
    #[must_use]
    pub fn uri(&self, path: &str) -> String {
        self.place.uri(path)
    }

    /// Whether a path here and one of another connection are the same file.
    #[must_use]
    pub fn is_same(&self, path: &str, other: &Self, other_path: &str) -> bool {
        let endpoint = |files: &Self| match &files.place {
            Place::Bucket(bucket) => bucket.endpoint.clone(),
            Place::Folder(_) | Place::Web(_) => None,
        };
        self.uri(path) == other.uri(other_path) && endpoint(self) == endpoint(other)
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Once more after each pause where the server cannot be reached: all that is done here may be done twice.
    fn reach<T>(&self, act: impl Fn() -> Result<T, TaskFailure>) -> Result<T, TaskFailure> {
        with_pauses(|failure| failure.reason == "ConnectionFailed", act)
            .map_err(|failure| on_connection(failure, &self.connection))
    }
}

/// The connection of an order.
///
/// # Errors
/// `InvalidOrder` where the order does not have it.
pub(crate) fn connection_of<'a>(order: &'a WorkOrder, name: &str) -> Result<&'a Connection, TaskFailure> {
    order.connections.iter().find(|connection| connection.name == name).ok_or_else(|| {
        let message = format!("the order names connection `{name}`, but does not have it");
        TaskFailure::infrastructure("InvalidOrder", message)
    })
}

/// The parts of a path or pattern before its name or first wildcard, without a slash at the end.
///
/// # Errors
/// `InvalidPath` for a pattern that cannot be read.
pub(crate) fn fixed_folder(pattern: &str) -> Result<String, TaskFailure> {
    Pattern::parse(pattern).map(|pattern| pattern.folder)
}

/// A runtime for the requests of one thread.
///
/// # Errors
/// Infrastructure, where the machine gives no more handles.
pub(crate) fn runtime() -> Result<Runtime, TaskFailure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| TaskFailure::from_io(&error, "start the network"))
}

/// The innermost cause: `Connection refused`, and never a URL.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(next) = innermost.source() {
        innermost = next;
    }
    innermost.to_string()
}

/// A file of this machine that is being written.
struct Download {
    file: File,
    path: PathBuf,
}

impl Download {
    fn create(path: &Path) -> Result<Self, TaskFailure> {
        let file = File::create(path).map_err(|error| Self::failure(&error, path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), TaskFailure> {
        self.file.write_all(chunk).map_err(|error| Self::failure(&error, &self.path))
    }

    /// The size in bytes.
    fn finish(self) -> Result<u64, TaskFailure> {
        let length = self.file.metadata().map(|metadata| metadata.len());
        length.map_err(|error| Self::failure(&error, &self.path))
    }

    fn failure(error: &io::Error, path: &Path) -> TaskFailure {
        TaskFailure::from_io(error, &format!("write {}", path.display()))
    }
}

/// A path stays below the root by its text alone.
fn check_path(path: &str) -> Result<(), TaskFailure> {
    let why = if path.is_empty() {
        "it is empty"
    } else if path.starts_with('/') {
        "it starts with `/`"
    } else if path.split('/').any(|part| matches!(part, "." | "..")) {
        "it has a part `.` or `..`"
    } else if path.split('/').any(str::is_empty) {
        "it has an empty part or ends in `/`"
    } else if path.chars().any(char::is_control) {
        "it has a control character"
    } else {
        return Ok(());
    };
    let message = format!(
        "the path `{}` cannot be used: {why}: give the path of a file below the connection's root",
        path.escape_debug()
    );
    Err(TaskFailure::permanent("InvalidPath", message))
}

fn on_connection(failure: TaskFailure, connection: &str) -> TaskFailure {
    failure.on(&format!("connection `{connection}`"))
}

pub(crate) fn read_only() -> TaskFailure {
    TaskFailure::permanent("ReadOnly", "a connection of kind http can only be read: write to one of kind folder or s3")
}

fn changed(uri: &str) -> TaskFailure {
    let message = format!("{uri} was changed after the run had found it: start a new run to use the new content");
    TaskFailure::permanent("InputChanged", message)
}

fn too_many_visited() -> TaskFailure {
    let message =
        format!("more than {VISITED} files lie below the pattern's fixed part: start it with a longer fixed part");
    TaskFailure::permanent("TooManyFiles", message)
}

#[cfg(test)]
mod tests;
