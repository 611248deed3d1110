//! Files that are made from code. Everything in the folders [`FOLDERS`] that this does not make is a leftover.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Problems, chart, command_line, kinds, reference, rules};

/// Folders that hold generated files only, and the ending that they have.
const FOLDERS: [(&str, &str); 3] = [("crds", "yaml"), ("schemas", "json"), ("charts/pintail/templates/crds", "yaml")];

/// `kubectl apply` keeps a copy of an object in an annotation of at most 256 KiB, and a chart carries all of them.
const CRD_BYTES: usize = 100 * 1024;

/// Relative path to content.
pub type Files = BTreeMap<String, String>;

/// Writes every generated file, or compares it with what stands there.
pub fn run(check: bool) -> Result<(), Problems> {
    let root = root();
    let kinds = kinds::all();
    let mut problems: Problems = kinds.iter().flat_map(kinds::Kind::undescribed).collect();
    let mut files = Files::new();
    for kind in &kinds {
        if let Some(yaml) = kind.crd_yaml() {
            let path = format!("crds/{}.yaml", kind.file_name());
            let yaml = yaml.map_err(|error| vec![format!("{path}: {error}")])?;
            if yaml.len() > CRD_BYTES {
                problems.push(format!("{path}: {} bytes, more than {CRD_BYTES}", yaml.len()));
            }
            files.insert(path, yaml);
        }
        files.insert(format!("schemas/{}.json", kind.file_name()), kind.editor_schema());
    }
    files.insert("docs/reference/manifests.md".to_owned(), reference::manifests(&kinds));
    files.insert("docs/reference/cli.md".to_owned(), command_line::page());
    files.insert("docs/reference/lint-rules.md".to_owned(), rules::page());
    files.extend(chart::files(&kinds).map_err(|error| vec![format!("charts/pintail: {error}")])?);
    if !problems.is_empty() {
        return Err(problems);
    }
    if check { compare(&root, &files) } else { write(&root, &files) }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

fn compare(root: &Path, files: &Files) -> Result<(), Problems> {
    let stale = files
        .iter()
        .filter(|(path, content)| fs::read_to_string(root.join(path)).ok().as_ref() != Some(*content))
        .map(|(path, _)| format!("{path}: not what the code says; run `make generate`"));
    let left = leftovers(root, files).into_iter().map(|path| format!("{path}: nothing makes it; run `make generate`"));
    let problems: Problems = stale.chain(left).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn write(root: &Path, files: &Files) -> Result<(), Problems> {
    let explain = |path: &str, error: std::io::Error| vec![format!("{path}: {error}")];
    for (path, content) in files {
        let target = root.join(path);
        if fs::read_to_string(&target).ok().as_ref() == Some(content) {
            continue;
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(|error| explain(path, error))?;
        }
        fs::write(&target, content).map_err(|error| explain(path, error))?;
        println!("wrote {path}");
    }
    for path in leftovers(root, files) {
        fs::remove_file(root.join(&path)).map_err(|error| explain(&path, error))?;
        println!("removed {path}");
    }
    Ok(())
}

/// Files of the generated folders that nothing makes any more.
fn leftovers(root: &Path, files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, ending) in FOLDERS {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let relative = format!("{folder}/{name}");
            if path.extension().is_some_and(|found| found == ending) && !files.contains_key(&relative) {
                found.push(relative);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_differs_and_a_file_that_nothing_makes_are_named() {
        let folder = std::env::temp_dir().join(format!("pintail-xtask-{}", std::process::id()));
        let files = Files::from([("crds/a.yaml".to_owned(), "new".to_owned())]);
        fs::create_dir_all(folder.join("crds")).unwrap();
        fs::write(folder.join("crds/a.yaml"), "old").unwrap();
        fs::write(folder.join("crds/b.yaml"), "left").unwrap();

        let problems = compare(&folder, &files).unwrap_err();
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("crds/a.yaml: not what the code says"));
        assert!(problems[1].starts_with("crds/b.yaml: nothing makes it"));

        write(&folder, &files).unwrap();
        compare(&folder, &files).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }
}
