//! What surrounds one attempt on this machine: its files and its environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use pintail_protocol::{FileIdentity, SecretVariable};

use crate::failure::TaskFailure;

/// Where the files of an attempt stand.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// Folder of this attempt alone, on local disk. DuckDB spills below it.
    pub scratch: PathBuf,
    /// Local path of each committed input, by its key in the store.
    pub staged: BTreeMap<String, PathBuf>,
    /// The files of each relation from outside, by the relation's name.
    pub found: BTreeMap<String, Vec<SourceFile>>,
    /// Folders below which results are written.
    pub outputs: Vec<PathBuf>,
}

impl Workspace {
    /// A workspace with nothing in it but a scratch folder.
    #[must_use]
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        Self { scratch: scratch.into(), ..Self::default() }
    }

    /// What inputs take of the scratch folder: those of a bucket, as a folder store's stay where they are.
    pub(crate) fn staged_bytes(&self) -> u64 {
        let copies = self.staged.values().filter(|path| path.starts_with(&self.scratch));
        copies.filter_map(|path| Some(path.metadata().ok()?.len())).sum()
    }
}

/// One file outside the store, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    pub identity: FileIdentity,
    /// What DuckDB opens: an absolute path, `s3://bucket/key` or an `http(s)://` URL.
    pub location: String,
}

/// What the process was given from outside: variables and the folder of DuckDB's extensions.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    extensions: PathBuf,
    rehearsal: Option<Timestamp>,
}

impl Environment {
    /// An environment of its own, for programs that do not hand on theirs.
    #[must_use]
    pub fn new(variables: BTreeMap<String, String>, extensions: PathBuf) -> Self {
        Self { variables, extensions, rehearsal: None }
    }

    /// Of this process. Extensions come from `PINTAIL_EXTENSIONS_DIR`, or `../lib/extensions` beside the program.
    #[must_use]
    pub fn of_process() -> Self {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let beside_program = || {
            let program = std::env::current_exe().and_then(std::fs::canonicalize).unwrap_or_default();
            program.parent().and_then(std::path::Path::parent).unwrap_or(&program).join("lib/extensions")
        };
        let extensions = variables.get("PINTAIL_EXTENSIONS_DIR").map_or_else(beside_program, PathBuf::from);
        Self { variables, extensions, rehearsal: None }
    }

    /// With these variables besides, which win.
    #[must_use]
    pub fn with(mut self, variables: BTreeMap<String, String>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// For work that is only tried, as by tests: nothing is sent, exported or copied, and the time is `now` throughout, in
    /// SQL too.
    #[must_use]
    pub fn rehearsing(mut self, now: Timestamp) -> Self {
        self.rehearsal = Some(now);
        self
    }

    /// The time of work that is only tried.
    #[must_use]
    pub fn rehearsal(&self) -> Option<Timestamp> {
        self.rehearsal
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.rehearsal.unwrap_or_else(Timestamp::now)
    }

    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A secret's value. `owner` says whose it is, such as `connection mail`.
    ///
    /// # Errors
    /// `SecretMissing`, which names the variable and how to give it.
    pub fn secret(&self, variable: &SecretVariable, owner: &str) -> Result<&str, TaskFailure> {
        self.variable(&variable.0).ok_or_else(|| {
            TaskFailure::permanent(
                "SecretMissing",
                format!(
                    "{owner} needs a secret that is not there: add its key to a Secret manifest beside the connection, \
                     or set the environment variable {}",
                    variable.0
                ),
            )
        })
    }

    /// The file of one of DuckDB's extensions.
    ///
    /// # Errors
    /// `ExtensionMissing`, which names the file and how to get it.
    pub fn extension(&self, name: &str) -> Result<PathBuf, TaskFailure> {
        let file = self.extensions.join(format!("{name}.duckdb_extension"));
        if file.is_file() {
            return Ok(file);
        }
        Err(TaskFailure::infrastructure(
            "ExtensionMissing",
            format!(
                "DuckDB's extension {name} is not at {}: run `make setup`, or set PINTAIL_EXTENSIONS_DIR to its folder",
                file.display()
            ),
        ))
    }
}
