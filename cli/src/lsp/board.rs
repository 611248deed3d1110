//! What the two threads share: one takes in what the editor says and answers, the other checks.
//!
//! ```text
//! editor ─> open documents ─ a moment without a change ─> check, as `pintail lint` ─┬> diagnostics
//!                 └──────────> answers <─ what was known at the last good check <───┘
//! ```

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lsp_types::{Diagnostic, PublishDiagnosticsParams, Uri};
use pintail_api as api;
use pintail_plan::Located;

use super::diagnostics::{diagnostics, failure};
use super::files::checked_with;
use super::knowledge::{Knowledge, Known};
use super::wire::Client;
use crate::check::check;
use crate::failure::CommandFailure;
use crate::manifests::{Manifests, Unsaved, real};

/// A burst of changes is over after this long without one, and
const QUIET: Duration = Duration::from_millis(200);
/// is not waited for any longer than this.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A document that the editor shows.
#[derive(Clone)]
pub struct Open {
    /// As the editor writes it.
    pub uri: Uri,
    pub version: Option<i32>,
    pub text: Arc<str>,
}

#[derive(Default)]
struct State {
    open: BTreeMap<PathBuf, Open>,
    /// Of open documents, and whatever else makes a check necessary.
    changes: u64,
    is_over: bool,
    /// By what is checked together.
    known: BTreeMap<Vec<PathBuf>, Arc<Knowledge>>,
}

pub struct Board {
    client: Arc<Client>,
    /// What was named on the command line, and is checked whatever is open.
    given: Vec<PathBuf>,
    roots: Vec<PathBuf>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Board {
    pub fn new(client: Arc<Client>, given: Vec<PathBuf>, roots: Vec<PathBuf>) -> Self {
        Self { client, given, roots, state: Mutex::default(), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.changes += 1;
        self.changed.notify_all();
    }

    pub fn open(&self, file: PathBuf, document: Open) {
        self.change(|state| drop(state.open.insert(file, document)));
    }

    pub fn edit(&self, file: &Path, version: Option<i32>, text: String) {
        self.change(|state| {
            if let Some(document) = state.open.get_mut(file) {
                document.version = version;
                document.text = text.into();
            }
        });
    }

    pub fn close(&self, file: &Path) {
        self.change(|state| {
            if let Some(document) = state.open.remove(file) {
                // What nobody looks at has no problems: the editor would show them until it ends.
                self.publish(&Open { version: None, ..document }, Vec::new());
            }
        });
    }

    /// Files may be others than they were.
    pub fn touch(&self) {
        self.change(|_| {});
    }

    pub fn end(&self) {
        self.change(|state| state.is_over = true);
    }

    /// A document, and what is known of the manifests that it belongs to; nothing before the first check.
    pub fn document(&self, file: &Path) -> Option<(Arc<str>, Option<Arc<Knowledge>>)> {
        let (files, state) = (self.checked_with(file), self.state());
        Some((Arc::clone(&state.open.get(file)?.text), state.known.get(&files).cloned()))
    }

    fn checked_with(&self, file: &Path) -> Vec<PathBuf> {
        if self.given.is_empty() { checked_with(file, &self.roots) } else { self.given.clone() }
    }

    /// Checks until it is over.
    pub fn work(&self) {
        let mut checked = 0;
        while let Some((changes, open)) = self.next(checked) {
            checked = changes;
            let mut unsaved = Unsaved::default();
            open.iter().for_each(|(file, document)| unsaved.insert(file, Arc::clone(&document.text)));
            let mut together: BTreeMap<Vec<PathBuf>, Vec<&PathBuf>> = BTreeMap::new();
            open.keys().for_each(|file| together.entry(self.checked_with(file)).or_default().push(file));
            together.remove(&Vec::new());
            self.state().known.retain(|files, _| together.contains_key(files));
            for (files, documents) in &together {
                let known = self.state().known.get(files).cloned();
                let found = guarded(|| look(files, &unsaved, known.as_ref()));
                let mut state = self.state();
                // What was found of texts that are no longer shown is wrong at every place behind the change.
                let is_stale = state.changes != changes;
                if !is_stale {
                    for file in documents {
                        let Some(document) = open.get(*file) else { continue };
                        self.publish(document, of_document(&found, &real(file), &document.text));
                    }
                }
                if let Ok(known) = found {
                    state.known.insert(files.clone(), known);
                }
                if is_stale || state.is_over {
                    break;
                }
            }
        }
    }

    /// Waits for a change and the end of its burst.
    fn next(&self, checked: u64) -> Option<(u64, BTreeMap<PathBuf, Open>)> {
        let mut state = self.state();
        while state.changes == checked && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let start = Instant::now();
        let mut seen = checked;
        while state.changes != seen && !state.is_over && start.elapsed() < WAIT_MAX {
            seen = state.changes;
            state = self.changed.wait_timeout(state, QUIET).unwrap_or_else(PoisonError::into_inner).0;
        }
        (!state.is_over).then(|| (state.changes, state.open.clone()))
    }

    fn publish(&self, document: &Open, diagnostics: Vec<Diagnostic>) {
        let parameters = PublishDiagnosticsParams { uri: document.uri.clone(), diagnostics, version: document.version };
        self.client.notify("textDocument/publishDiagnostics", &parameters);
    }
}

/// What is known after a check, or why there was none.
type Found = Result<Arc<Knowledge>, String>;

fn of_document(found: &Found, file: &Path, text: &str) -> Vec<Diagnostic> {
    let is_own = |located: &&Located| real(Path::new(&located.file)) == file;
    match found {
        Ok(known) => diagnostics(known.problems.iter().filter(is_own), text),
        Err(message) => vec![failure(message)],
    }
}

/// A fault of one check must not end those to come.
fn guarded(check: impl FnOnce() -> Result<Arc<Knowledge>, CommandFailure>) -> Found {
    let found = catch_unwind(AssertUnwindSafe(check));
    let fault = |_| Err(CommandFailure::failed("the check ended by a fault of its own, which standard error tells"));
    found.unwrap_or_else(fault).map_err(|failure| failure.message)
}

fn look(
    files: &[PathBuf],
    unsaved: &Unsaved,
    known: Option<&Arc<Knowledge>>,
) -> Result<Arc<Knowledge>, CommandFailure> {
    let manifests = Manifests::read_with(files, unsaved)?;
    // Documents are opened and saved more often than they are changed.
    if let Some(known) = known.filter(|known| known.manifests.has_texts_of(&manifests)) {
        return Ok(Arc::clone(known));
    }
    // Of folders that are another program's nothing is said, charts of Helm for example, which are no YAML.
    if !manifests.sources().values().any(|text| text.contains(api::GROUP)) {
        return Ok(Arc::new(Knowledge::new(manifests, Vec::new(), Vec::new(), None)));
    }
    let (problems, checked) = check(&manifests)?;
    let checked = checked.workflows.into_iter().map(Known::of).collect();
    Ok(Arc::new(Knowledge::new(manifests, problems, checked, known.map(AsRef::as_ref))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_panics_is_said_where_the_document_begins() {
        let found = guarded(|| panic!("no"));
        let [diagnostic] = of_document(&found, Path::new("a.yaml"), "").try_into().unwrap();
        assert!(diagnostic.message.contains("a fault of its own"), "{diagnostic:?}");
    }
}
