//! Files of an editor: their addresses, and which of them are checked together.

use std::path::{Path, PathBuf};

use lsp_types::Uri;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::manifests::is_manifest;

/// What a path may not have in an address.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The folder of connections that belongs to a folder of workflows, as every example has it.
const CONNECTIONS: &str = "local";

/// `None` of what is no file.
pub fn path_of(uri: &Uri) -> Option<PathBuf> {
    let path = uri.as_str().strip_prefix("file://")?;
    let path = &path[path.find('/')?..];
    Some(PathBuf::from(percent_decode_str(path).decode_utf8().ok()?.as_ref()))
}

pub fn uri_of(path: &Path) -> Option<Uri> {
    let path = std::path::absolute(path).ok()?;
    format!("file://{}", utf8_percent_encode(path.to_str()?, ESCAPED)).parse().ok()
}

/// What is checked with a document, as `pintail lint` would be given it: its folder, or the one above if that has
/// manifests, with that one's folder `local` — unless the document's own folder has Connections in the place of those.
pub fn checked_with(document: &Path, roots: &[PathBuf]) -> Vec<PathBuf> {
    let Some(folder) = document.parent() else { return Vec::new() };
    let in_workspace = |folder: &&Path| roots.iter().any(|root| folder.starts_with(root));
    let above = folder.parent().filter(in_workspace).filter(|above| says(above, "pintail.dev/"));
    let home = above.unwrap_or(folder);
    let connections = home.join(CONNECTIONS);
    let has_own = above.is_some() && says(folder, "kind: Connection");
    let mut folders = vec![home.to_path_buf()];
    if !has_own && connections != folder && says(&connections, "pintail.dev/") {
        folders.push(connections);
    }
    if above.is_some() {
        folders.push(folder.to_path_buf());
    }
    folders.retain(|it| says(it, "") || (it == folder && is_manifest(document)));
    folders
}

/// Whether a manifest of a folder has this text.
fn says(folder: &Path, text: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let mut files = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|file| is_manifest(file));
    files.any(|file| text.is_empty() || std::fs::read_to_string(file).is_ok_and(|found| found.contains(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        let path = Path::new("/a b/100% é/[x]#1?.yaml");
        let uri = uri_of(path).unwrap();
        assert_eq!(path_of(&uri).as_deref(), Some(path));
        assert_eq!(path_of(&"file:///a%3Ab/c.yaml".parse().unwrap()), Some(PathBuf::from("/a:b/c.yaml")));
        assert_eq!(path_of(&"untitled:Untitled-1".parse().unwrap()), None);
    }

    #[test]
    fn a_document_is_checked_with_its_workflow_and_with_connections() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |name: &str, kind: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("apiVersion: pintail.dev/v1alpha1\nkind: {kind}\n")).unwrap();
        };
        write("taxi/workflow.yaml", "Workflow");
        write("taxi/local/raw.yaml", "Connection");
        write("taxi/bucket/raw.yaml", "Connection");
        write("taxi/tests/one.yaml", "WorkflowTest");
        for (document, expected) in [
            ("taxi/workflow.yaml", vec!["taxi", "taxi/local"]),
            ("taxi/local/raw.yaml", vec!["taxi", "taxi/local"]),
            ("taxi/bucket/raw.yaml", vec!["taxi", "taxi/bucket"]),
            ("taxi/tests/one.yaml", vec!["taxi", "taxi/local", "taxi/tests"]),
            ("taxi/sql/trends.sql", vec!["taxi", "taxi/local"]),
            ("new/first.yaml", vec!["new"]),
            ("notes/readme.md", vec![]),
        ] {
            let expected: Vec<PathBuf> = expected.into_iter().map(|name| root.join(name)).collect();
            assert_eq!(checked_with(&root.join(document), &[root.to_path_buf()]), expected, "{document}");
        }
    }
}
