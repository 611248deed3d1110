use std::ffi::OsStr;
use std::fs::{self, DirEntry, File, FileType, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pintail_protocol::FileIdentity;

use super::pattern::Pattern;
use super::{ListedFile, VISITED, too_many_visited};
use crate::failure::TaskFailure;

/// Files below a folder. Symbolic links are followed to files inside of it, never out of it.
pub(super) struct Folder {
    /// Absolute, without symbolic links.
    root: PathBuf,
}

impl Folder {
    /// Opens a folder; one that is to be written is made where it is missing.
    pub fn open(path: &str, make: bool) -> Result<Self, TaskFailure> {
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => TaskFailure::permanent(
                "NotFound",
                format!("the folder {path} does not exist: make it, or correct the connection's path"),
            ),
            _ => TaskFailure::from_io(&error, &format!("open the folder {path}")),
        };
        if make {
            fs::create_dir_all(path).map_err(failed)?;
        }
        let root = fs::canonicalize(path).map_err(failed)?;
        if !root.is_dir() {
            return Err(failed(ErrorKind::NotADirectory.into()));
        }
        Ok(Self { root })
    }

    pub fn uri(&self, path: &str) -> String {
        self.root.join(path).to_string_lossy().into_owned()
    }

    pub fn list(&self, pattern: &Pattern) -> Result<Vec<FileIdentity>, TaskFailure> {
        let mut found = Vec::new();
        self.visit(pattern, |file| found.push(file.identity))?;
        Ok(found)
    }

    /// Every file that matches, in no order.
    pub fn visit(&self, pattern: &Pattern, mut each: impl FnMut(ListedFile)) -> Result<(), TaskFailure> {
        let start = self.root.join(&pattern.folder);
        match self.inside(&start) {
            Ok(Some(_)) => {}
            Ok(None) => return Err(outside(&self.uri(&pattern.folder))),
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => return Err(cannot_list(&error, &start)),
        }
        let mut visited = 0;
        let mut folders = vec![pattern.folder.clone()];
        while let Some(folder) = folders.pop() {
            let at = self.root.join(&folder);
            let entries = match fs::read_dir(&at) {
                Ok(entries) => entries,
                // Gone since it was seen.
                Err(error) if is_missing(&error) => continue,
                Err(error) => return Err(cannot_list(&error, &at)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| cannot_list(&error, &at))?;
                visited += 1;
                if visited > VISITED {
                    return Err(too_many_visited());
                }
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                let kind = entry.file_type().map_err(|error| cannot_list(&error, &at))?;
                if kind.is_dir() && pattern.depth.is_none_or(|depth| path.split('/').count() < depth) {
                    folders.push(path);
                } else if !kind.is_dir() && pattern.matches(&path) {
                    self.entry(&path, &entry, kind)?.into_iter().for_each(&mut each);
                }
            }
        }
        Ok(())
    }

    /// `None` where it is gone since it was seen.
    fn entry(&self, path: &str, entry: &DirEntry, kind: FileType) -> Result<Option<ListedFile>, TaskFailure> {
        // Folders are entered without following links, so only a link has to be looked at for where it leads.
        if !kind.is_file() {
            return self.listed_if_there(path);
        }
        match entry.metadata() {
            Ok(metadata) => Ok(Some(listed(path, &metadata))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(TaskFailure::from_io(&error, &format!("read {}", self.uri(path)))),
        }
    }

    pub fn head(&self, path: &str) -> Result<ListedFile, TaskFailure> {
        self.listed_if_there(path)?.ok_or_else(|| not_found(&self.uri(path)))
    }

    /// `None` where there is no file.
    fn listed_if_there(&self, path: &str) -> Result<Option<ListedFile>, TaskFailure> {
        let uri = self.uri(path);
        match self.inside(&self.root.join(path)).and_then(|found| found.map(fs::metadata).transpose()) {
            Ok(Some(metadata)) if metadata.is_file() => Ok(Some(listed(path, &metadata))),
            Ok(Some(_)) => Err(TaskFailure::permanent(
                "NotFound",
                format!("{uri} is not a file: to read all files in a folder, write `{path}/*`"),
            )),
            Ok(None) => Err(outside(&uri)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(TaskFailure::from_io(&error, &format!("read {uri}"))),
        }
    }

    /// The path without symbolic links; `None` where it is outside of the root.
    fn inside(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let path = fs::canonicalize(path)?;
        Ok(path.starts_with(&self.root).then_some(path))
    }

    /// Where a file is on this machine.
    pub fn local(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub fn delete(&self, path: &str) -> Result<(), TaskFailure> {
        let uri = self.uri(path);
        let failed = |error: io::Error| TaskFailure::from_io(&error, &format!("delete {uri}"));
        let at = self.root.join(path);
        let Some(parent) = at.parent() else { return Err(outside(&uri)) };
        match self.inside(parent) {
            Ok(Some(_)) => match fs::remove_file(&at) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(()),
            },
            Ok(None) => Err(outside(&uri)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes beside the target under a hidden name and renames: a reader sees the old file or the whole new one.
    pub fn upload(&self, local: &Path, path: &str) -> Result<(), TaskFailure> {
        let uri = self.uri(path);
        let target = self.root.join(path);
        let parent = target.parent().unwrap_or(&self.root);
        let existing = parent.ancestors().find(|folder| folder.exists()).unwrap_or(&self.root);
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
                let message = format!("could not write {uri}: {error}: give another path");
                TaskFailure::permanent("InvalidPath", message)
            }
            _ => TaskFailure::from_io(&error, &format!("write {uri}")),
        };
        if self.inside(existing).map_err(failed)?.is_none() {
            return Err(outside(&uri));
        }
        write_whole(local, &target, parent).map_err(failed)
    }
}

fn write_whole(local: &Path, target: &Path, parent: &Path) -> io::Result<()> {
    fs::create_dir_all(parent)?;
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(target.file_name().unwrap_or(OsStr::new("file")));
    // The umask of the process decides who may read the file, as for any other program.
    let everyone = fs::Permissions::from_mode(0o666);
    let mut part =
        tempfile::Builder::new().prefix(&prefix).suffix(".part").permissions(everyone).tempfile_in(parent)?;
    io::copy(&mut File::open(local)?, part.as_file_mut())?;
    part.as_file().sync_all()?;
    part.persist(target).map_err(|error| error.error)?;
    File::open(parent)?.sync_all()
}

fn listed(path: &str, metadata: &Metadata) -> ListedFile {
    let nanoseconds = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    let identity = FileIdentity { path: path.to_owned(), bytes: metadata.len(), version: nanoseconds.to_string() };
    // A time that no calendar has is none that says when it arrived.
    let modified_at = Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::MAX);
    ListedFile { identity, modified_at }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn cannot_list(error: &io::Error, folder: &Path) -> TaskFailure {
    TaskFailure::from_io(error, &format!("list the folder {}", folder.display()))
}

pub(super) fn not_found(uri: &str) -> TaskFailure {
    TaskFailure::permanent("NotFound", format!("{uri} does not exist: check the path; letters' case counts"))
}

fn outside(uri: &str) -> TaskFailure {
    let message = format!("{uri} leads out of the connection's folder by a symbolic link: only files inside are used");
    TaskFailure::permanent("InvalidPath", message)
}
