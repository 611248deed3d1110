//! Copies files byte for byte between connections.

use std::path::Path;

use pintail_protocol::{CopyWork, WorkOrder, WrittenFile};

use crate::failure::TaskFailure;
use crate::files::{Files, connection_of, fixed_folder, read_only};
use crate::workspace::{Environment, SourceFile};

/// Copies files, and deletes them where they were once all are copied, if the work says so. Whoever reads the target
/// sees an old file or a whole new one. Where the work is only tried, nothing is looked at.
///
/// A repeated attempt copies again. Where an earlier attempt moved everything away already, it finds nothing to do: a
/// pattern that matches no file is an error for a copy, but not for a move.
///
/// # Errors
/// `NotFound`, `SeveralFiles`, `SameFile`, `ReadOnly`, `InputChanged`, `CopyDiffers`, or that of one of the places.
pub(crate) fn copy(
    work: &CopyWork,
    order: &WorkOrder,
    environment: &Environment,
    scratch: &Path,
) -> Result<Vec<WrittenFile>, TaskFailure> {
    if environment.rehearsal().is_some() {
        let uri = format!("{}/{}", work.to.connection, work.to.path);
        return Ok(vec![WrittenFile { uri, bytes: 0, rows: None }]);
    }
    let source = Files::open(connection_of(order, &work.from.connection)?, environment)?;
    let target = Files::open(connection_of(order, &work.to.connection)?, environment)?;
    if !target.is_writable() || (work.delete_source && !source.is_writable()) {
        return Err(read_only());
    }
    let found = if work.delete_source {
        match source.matching(&work.from.path) {
            Err(failure) if failure.reason == "NotFound" => return moved_before(work, &target).ok_or(failure),
            found => found?,
        }
    } else {
        source.list(&work.from.path)?
    };
    let paths =
        found.iter().map(|file| target_path(work, &file.identity.path, found.len())).collect::<Result<Vec<_>, _>>()?;
    if let Some((file, _)) =
        found.iter().zip(&paths).find(|(file, path)| source.is_same(&file.identity.path, &target, path))
    {
        let message = format!("{} would be copied onto itself: give another target", source.uri(&file.identity.path));
        return Err(TaskFailure::permanent("SameFile", message));
    }
    let mut written = Vec::new();
    for (file, path) in found.iter().zip(&paths) {
        let bytes = copy_one(&source, file, &target, path, scratch)?;
        written.push(WrittenFile { uri: target.uri(path), bytes, rows: None });
    }
    if work.delete_source {
        for file in &found {
            source.delete(&file.identity.path)?;
        }
    }
    Ok(written)
}

/// What an earlier attempt of the same move has left: the one file at its new place.
fn moved_before(work: &CopyWork, target: &Files) -> Option<Vec<WrittenFile>> {
    let path = target_path(work, &work.from.path, 1).ok()?;
    let there = target.head(&path).ok()?;
    Some(vec![WrittenFile { uri: target.uri(&path), bytes: there.identity.bytes, rows: None }])
}

/// Where a file goes: below a target that ends in `/` under its path below the pattern's fixed folder.
fn target_path(work: &CopyWork, path: &str, files: usize) -> Result<String, TaskFailure> {
    if let Some(folder) = work.to.path.strip_suffix('/') {
        let fixed = fixed_folder(&work.from.path)?;
        let below = path.strip_prefix(&fixed).map_or(path, |rest| rest.trim_start_matches('/'));
        return Ok(if folder.is_empty() { below.to_owned() } else { format!("{folder}/{below}") });
    }
    if files > 1 {
        let message = format!(
            "`{}` matches {files} files, but `{}` is one: end the target in `/` to keep the files' names",
            work.from.path, work.to.path
        );
        return Err(TaskFailure::permanent("SeveralFiles", message));
    }
    Ok(work.to.path.clone())
}

/// Gives the size in bytes of what is at the target then.
fn copy_one(source: &Files, file: &SourceFile, target: &Files, path: &str, scratch: &Path) -> Result<u64, TaskFailure> {
    let local = scratch.join("copy");
    // Also out of a folder: what is uploaded is then what was checked, whatever others do to the file meanwhile.
    let bytes = source.download(&file.identity, &local)?;
    let uploaded = target.upload(&local, path)?;
    if uploaded.bytes != bytes {
        let message = format!(
            "{} has {} bytes, but {bytes} were copied: something else writes there; nothing was deleted",
            target.uri(path),
            uploaded.bytes
        );
        return Err(TaskFailure::transient("CopyDiffers", message));
    }
    std::fs::remove_file(&local).map_err(|error| TaskFailure::from_io(&error, "delete a scratch file"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pintail_protocol::{AccessMode, Connection, ConnectionTarget, FileTarget};

    use super::*;
    use crate::tests::Fixture;
    use crate::tests::servers::{http, reply};

    /// Two folders, `a` with files and `b` without.
    fn fixture() -> Fixture {
        let mut fixture = Fixture::new();
        for (path, content) in
            [("a/in/1.csv", "1"), ("a/in/2.csv", "22"), ("a/in/deep/3.csv", "\0\r\n3"), ("a/x.txt", "x")]
        {
            fixture.write(path, content);
        }
        for name in ["a", "b"] {
            let path = fixture.folder.path().join(name).display().to_string();
            let target = ConnectionTarget::Folder { path };
            fixture.order.connections.push(Connection { name: name.to_owned(), mode: AccessMode::Write, target });
        }
        fixture
    }

    fn work(from: &str, to: &str, delete_source: bool) -> CopyWork {
        let target =
            |connection: &str, path: &str| FileTarget { connection: connection.to_owned(), path: path.to_owned() };
        CopyWork { from: target("a", from), to: target("b", to), delete_source }
    }

    fn run(fixture: &Fixture, work: &CopyWork) -> Result<Vec<String>, TaskFailure> {
        let root = format!("{}/", fixture.folder.path().display());
        let written = copy(work, &fixture.order, &fixture.environment, &fixture.workspace.scratch)?;
        Ok(written.iter().map(|file| format!("{} {}", file.uri.replace(&root, ""), file.bytes)).collect())
    }

    #[test]
    fn files_keep_their_names_below_a_target_that_ends_in_a_slash() {
        let fixture = fixture();
        assert_eq!(run(&fixture, &work("in/*.csv", "out/", false)).unwrap(), ["b/out/1.csv 1", "b/out/2.csv 2"]);
        assert_eq!(run(&fixture, &work("in/1.csv", "/", false)).unwrap(), ["b/1.csv 1"]);
        let expected = ["b/all/1.csv 1", "b/all/2.csv 2", "b/all/deep/3.csv 4"];
        for _ in 0..2 {
            assert_eq!(run(&fixture, &work("in/**/*.csv", "all/", false)).unwrap(), expected);
        }
        assert_eq!(fs::read(fixture.folder.path().join("b/all/deep/3.csv")).unwrap(), b"\0\r\n3");
        assert!(fixture.folder.path().join("a/in/1.csv").exists());
    }

    #[test]
    fn another_target_is_the_new_name_of_one_file() {
        let fixture = fixture();
        assert_eq!(run(&fixture, &work("in/1.csv", "new/name.csv", false)).unwrap(), ["b/new/name.csv 1"]);
        let failure = run(&fixture, &work("in/*.csv", "new/name.csv", false)).unwrap_err();
        assert_eq!(failure.reason, "SeveralFiles");
        assert_eq!(run(&fixture, &work("in/9*.csv", "out/", false)).unwrap_err().reason, "NotFound");
    }

    #[test]
    fn a_move_that_is_repeated_finds_it_done() {
        let fixture = fixture();
        let one = work("x.txt", "y.txt", true);
        assert_eq!(run(&fixture, &one).unwrap(), ["b/y.txt 1"]);
        assert!(!fixture.folder.path().join("a/x.txt").exists());
        assert_eq!(run(&fixture, &one).unwrap(), ["b/y.txt 1"]);
        let many = work("in/*.csv", "out/", true);
        assert_eq!(run(&fixture, &many).unwrap().len(), 2);
        assert_eq!(run(&fixture, &many).unwrap().len(), 0);
        assert_eq!(run(&fixture, &work("never.txt", "there.txt", true)).unwrap_err().reason, "NotFound");
    }

    #[test]
    fn nothing_is_deleted_before_all_is_copied() {
        let fixture = fixture();
        // A folder stands where the second file has to go.
        fs::create_dir_all(fixture.folder.path().join("b/out/2.csv")).unwrap();
        assert_eq!(run(&fixture, &work("in/*.csv", "out/", true)).unwrap_err().reason, "InvalidPath");
        assert!(fixture.folder.path().join("a/in/1.csv").exists() && fixture.folder.path().join("a/in/2.csv").exists());
    }

    #[test]
    fn a_file_is_never_moved_onto_itself() {
        let fixture = fixture();
        let mut itself = work("in/*.csv", "in/", true);
        itself.to.connection = "a".to_owned();
        assert_eq!(run(&fixture, &itself).unwrap_err().reason, "SameFile");
        assert!(fixture.folder.path().join("a/in/1.csv").exists());
    }

    #[test]
    fn a_file_of_a_web_server_can_be_copied_but_not_moved() {
        let (url, _requests) = http(|_| reply("200 OK", "etag: \"1\"\r\n", "web"));
        let mut fixture = fixture();
        fixture.order.connections[0].target = ConnectionTarget::Http { url, bearer_token: None };
        assert_eq!(run(&fixture, &work("w.csv", "in/", false)).unwrap(), ["b/in/w.csv 3"]);
        assert_eq!(run(&fixture, &work("w.csv", "moved/", true)).unwrap_err().reason, "ReadOnly");
        assert!(!fixture.folder.path().join("b/moved").exists());
    }
}
