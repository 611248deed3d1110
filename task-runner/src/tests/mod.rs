//! Tests of the session with DuckDB itself.

mod delivery;
mod lock_down;
mod parameters;
mod relations;
mod remote;
mod runs;
pub(crate) mod servers;

use std::path::Path;

use pintail_protocol::{
    AccessMode, Connection, ConnectionTarget, Contract, ContractColumn, DuckDbWork, FileIdentity, FormatOptions,
    Identity, OtherColumns, Parameter, Relation, RelationSource, Resources, StoreLocation, TableFormat, Work,
    WorkOrder,
};
use serde_json::Value;

use crate::failure::TaskFailure;
use crate::session::Session;
use crate::workspace::{Environment, SourceFile, Workspace};

/// An order with nothing in it, whose store is the folder.
pub(crate) fn empty_order(store: &Path) -> WorkOrder {
    WorkOrder {
        format: pintail_protocol::FORMAT,
        identity: Identity {
            namespace: "default".to_owned(),
            execution: "run".to_owned(),
            execution_uid: "uid-1".to_owned(),
            execution_start: jiff::Timestamp::UNIX_EPOCH,
            workflow: "workflow".to_owned(),
            revision: "workflow-1".to_owned(),
            task: "task".to_owned(),
            item: None,
            attempt: 1,
        },
        store: StoreLocation::Folder { path: store.display().to_string() },
        relations: Vec::new(),
        parameters: Vec::new(),
        files: Vec::new(),
        connections: Vec::new(),
        work: Work::DuckDb(DuckDbWork::default()),
        outputs: Vec::new(),
        resources: Resources { cpu_millis: Some(2000), memory_bytes: Some(1 << 29), scratch_bytes: None },
        reuse_key: "key".to_owned(),
        reuse: None,
    }
}

/// A folder for one test, with an order that grows by what is asked for.
pub(crate) struct Fixture {
    pub folder: tempfile::TempDir,
    pub order: WorkOrder,
    pub workspace: Workspace,
    pub environment: Environment,
}

impl Fixture {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let order = empty_order(&folder.path().join("store"));
        let scratch = folder.path().join("scratch");
        let output = folder.path().join("out");
        std::fs::create_dir_all(&scratch).unwrap();
        std::fs::create_dir_all(&output).unwrap();
        let mut workspace = Workspace::new(scratch);
        workspace.outputs.push(output);
        Self { folder, order, workspace, environment: Environment::default() }
    }

    pub fn write(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    pub fn parameter(&mut self, name: &str, data_type: &str, value: Value) -> &mut Self {
        self.order.parameters.push(Parameter { name: name.to_owned(), data_type: data_type.to_owned(), value });
        self
    }

    /// The table `name` over files that have been written.
    pub fn table(&mut self, name: &str, format: TableFormat, paths: &[&str], contract: Option<Contract>) -> &mut Self {
        let found = paths.iter().map(|path| SourceFile {
            identity: FileIdentity {
                path: Path::new(path).file_name().unwrap().to_string_lossy().into_owned(),
                bytes: std::fs::metadata(path).map_or(0, |it| it.len()),
                version: "1".to_owned(),
            },
            location: (*path).to_owned(),
        });
        self.workspace.found.insert(name.to_owned(), found.collect());
        let source = RelationSource::Files {
            connection: "raw".to_owned(),
            path: "in/*".to_owned(),
            format: Some(format),
            options: FormatOptions::default(),
            pinned: None,
        };
        self.order.relations.push(Relation { name: name.to_owned(), source, contract });
        self
    }

    pub fn duckdb(&mut self, name: &str, file: &str, mode: AccessMode) -> &mut Self {
        let path = self.folder.path().join(file).display().to_string();
        let target = ConnectionTarget::DuckDb { path, busy_timeout_ms: 0 };
        self.order.connections.push(Connection { name: name.to_owned(), mode, target });
        self
    }

    pub fn open(&self) -> Result<Session, TaskFailure> {
        Session::open(&self.order, self.workspace.clone(), &self.environment)
    }
}

pub(crate) fn contract(columns: &[(&str, &str)]) -> Contract {
    let columns = columns.iter().map(|(name, data_type)| ContractColumn {
        name: (*name).to_owned(),
        data_type: (*data_type).trim_end_matches('!').to_owned(),
        nullable: !data_type.ends_with('!'),
        from_file_name: false,
    });
    Contract { columns: columns.collect(), other_columns: OtherColumns::Drop }
}

/// The rows of a query as text, one line a row, values parted by `|`.
pub(crate) fn rows(session: &Session, query: &str) -> Result<Vec<String>, TaskFailure> {
    let table = session.text_rows(query, &[], 1000)?;
    let line = |row: &Vec<Option<String>>| {
        row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join("|")
    };
    Ok(table.rows.iter().map(line).collect())
}
