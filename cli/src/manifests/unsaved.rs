//! Texts that stand in place of those of files: what an editor shows and has not saved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Texts by the files that they belong to.
#[derive(Debug, Default)]
pub struct Unsaved(BTreeMap<PathBuf, Arc<str>>);

impl Unsaved {
    pub fn insert(&mut self, file: &Path, text: Arc<str>) {
        self.0.insert(real(file), text);
    }

    pub fn text(&self, file: &Path) -> Option<&str> {
        // Most commands have none, and need not ask where each file really is.
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&real(file)).map(AsRef::as_ref)
    }

    /// Those of a folder that were never saved.
    pub fn new_files_in(&self, folder: &Path) -> impl Iterator<Item = PathBuf> {
        let real = real(folder);
        let own = self.0.keys().filter(move |file| file.parent() == Some(&real) && !file.exists());
        own.filter_map(|file| Some(folder.join(file.file_name()?)))
    }
}

/// The one path of a file that may be named in many ways.
pub fn real(path: &Path) -> PathBuf {
    if let Ok(real) = std::fs::canonicalize(path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf()).join(name),
        _ => path.to_path_buf(),
    }
}
