//! Finds and stages what an order reads: files from outside, and what other tasks committed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pintail_protocol::{
    AccessMode, Connection, ConnectionTarget, FileIdentity, PinnedInput, RelationSource, WorkOrder,
};
use pintail_storage::Store;
use tokio::runtime::Runtime;

use crate::failure::TaskFailure;
use crate::files::Files;
use crate::workspace::{Environment, SourceFile};

/// The files of each relation from outside: those that an earlier attempt pinned, else those that are there now.
///
/// # Errors
/// `NotFound`, `InputChanged`, or that the place cannot be reached.
pub fn find(order: &WorkOrder, environment: &Environment) -> Result<BTreeMap<String, Vec<SourceFile>>, TaskFailure> {
    let mut found = BTreeMap::new();
    for relation in &order.relations {
        let files = match &relation.source {
            RelationSource::Files { connection, path, pinned, .. } => {
                let connection = order.connections.iter().find(|it| it.name == *connection).ok_or_else(|| {
                    let message = format!("the order names connection `{connection}`, but does not have it");
                    TaskFailure::infrastructure("InvalidOrder", message)
                })?;
                find_files(&Files::open(connection, environment)?, path, pinned.as_deref())
            }
            RelationSource::Uri { uri, pinned, .. } => find_uri(uri, pinned.as_deref(), environment),
            _ => continue,
        };
        let files = files.map_err(|failure| failure.on(&format!("table `{}`", relation.name)))?;
        found.insert(relation.name.clone(), files);
    }
    Ok(found)
}

fn find_files(files: &Files, pattern: &str, pinned: Option<&[FileIdentity]>) -> Result<Vec<SourceFile>, TaskFailure> {
    let Some(pinned) = pinned else { return files.list(pattern) };
    pinned.iter().map(|identity| unchanged(files, identity)).collect()
}

fn unchanged(files: &Files, pinned: &FileIdentity) -> Result<SourceFile, TaskFailure> {
    let changed = |how: &str| {
        let message = format!(
            "{} {how} since this run first read it: start a new run to use what is there now",
            files.uri(&pinned.path)
        );
        TaskFailure::permanent("InputChanged", message)
    };
    match files.head(&pinned.path) {
        Ok(file) if file.identity == *pinned => Ok(file),
        Ok(_) => Err(changed("was changed")),
        Err(failure) if failure.reason == "NotFound" => Err(changed("was removed")),
        Err(failure) => Err(failure),
    }
}

/// A URI is a path below a connection that nobody declared: the root of this machine, or a folder of a web server.
fn find_uri(
    uri: &str,
    pinned: Option<&[FileIdentity]>,
    environment: &Environment,
) -> Result<Vec<SourceFile>, TaskFailure> {
    let (root, target) = match uri.rsplit_once('/') {
        Some((url, _)) if uri.starts_with("http://") || uri.starts_with("https://") => {
            (format!("{url}/"), ConnectionTarget::Http { url: url.to_owned(), bearer_token: None })
        }
        _ => ("/".to_owned(), ConnectionTarget::Folder { path: "/".to_owned() }),
    };
    let below = |path: &str| path.strip_prefix(&root).unwrap_or(path).to_owned();
    let connection = Connection { name: "uri".to_owned(), mode: AccessMode::Read, target };
    let files = Files::open(&connection, environment)?;
    let pinned: Option<Vec<_>> = pinned.map(|pinned| {
        let strip = |identity: &FileIdentity| FileIdentity { path: below(&identity.path), ..identity.clone() };
        pinned.iter().map(strip).collect()
    });
    let mut found = find_files(&files, &below(uri), pinned.as_deref())?;
    for file in &mut found {
        file.identity.path = format!("{root}{}", file.identity.path);
    }
    Ok(found)
}

/// What the report keeps of the found files.
#[must_use]
pub fn pins(found: &BTreeMap<String, Vec<SourceFile>>) -> Vec<PinnedInput> {
    let pin = |(relation, files): (&String, &Vec<SourceFile>)| PinnedInput {
        relation: relation.clone(),
        files: files.iter().map(|file| file.identity.clone()).collect(),
    };
    found.iter().map(pin).collect()
}

/// Brings every committed file of the order to this machine, verified: its local path by its key.
///
/// # Errors
/// The store's, also where a file is not what was committed.
pub fn stage(
    order: &WorkOrder,
    store: &Store,
    runtime: &Runtime,
    scratch: &Path,
) -> Result<BTreeMap<String, PathBuf>, TaskFailure> {
    let tables = order.relations.iter().flat_map(|relation| match &relation.source {
        RelationSource::Committed { files } => files.as_slice(),
        _ => &[],
    });
    let files = tables.chain(order.files.iter().map(|binding| &binding.file));
    let mut staged = BTreeMap::new();
    for file in files {
        if !staged.contains_key(&file.key) {
            staged.insert(file.key.clone(), runtime.block_on(store.stage(file, scratch))?);
        }
    }
    Ok(staged)
}
