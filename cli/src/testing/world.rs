//! What stands in the place of the world: databases in a temporary folder, and secrets that are none.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use pintail_api as api;
use pintail_execution::{Connections, RunContext, connection_target, given_relation};
use pintail_plan::PlannedTest;
use pintail_protocol::{
    AccessMode, Connection, ConnectionTarget, FORMAT, Identity, Relation, Resources, SecretVariable, StoreLocation,
    Work, WorkOrder,
};
use pintail_storage::layout::DEFAULT_NAMESPACE;
use pintail_task_runner::fixture::GivenTable;

/// The connections of a test: every database is a DuckDB file in `folder`; the others are never opened.
pub fn connections(real: &Connections, folder: &Path) -> Connections {
    let replace = |(name, connection): (&String, &Arc<api::Connection>)| {
        let spec = &connection.spec;
        let mut connection = Arc::clone(connection);
        if spec.duckdb.is_some() || spec.postgres.is_some() {
            let path = folder.join(format!("{name}.duckdb")).display().to_string();
            let duckdb = api::DuckDbConnection { path, volume_claim: None, busy_timeout: None };
            let spec = api::ConnectionSpec { duckdb: Some(duckdb), ..api::ConnectionSpec::default() };
            connection = Arc::new(api::Connection { spec, ..(*connection).clone() });
        }
        (name.clone(), connection)
    };
    real.iter().map(replace).collect()
}

/// Values of the `secrets` connections by variable: each is the name of its parameter.
pub fn secrets(connections: &Connections) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (name, connection) in connections {
        if let Ok(ConnectionTarget::Secrets(parameters)) = connection_target(name, &connection.spec) {
            values.extend(parameters.into_iter().map(|(parameter, SecretVariable(variable))| (variable, parameter)));
        }
    }
    values
}

pub fn context(test: &PlannedTest, folder: &Path) -> RunContext {
    RunContext {
        namespace: DEFAULT_NAMESPACE.to_owned(),
        name: test.name.clone(),
        uid: uuid::Uuid::nil().to_string(),
        start_time: test.now,
        started_by: None,
        store: StoreLocation::Folder { path: folder.join("store").display().to_string() },
    }
}

/// The order that fills the databases which the test's tasks use, and what goes where.
pub fn filling(test: &PlannedTest, connections: &Connections, folder: &Path) -> (WorkOrder, Vec<GivenTable>) {
    let context = context(test, folder);
    let mut names: Vec<&str> = test.tables.iter().map(|table| table.connection.as_str()).collect();
    names.extend(test.plan.tasks.iter().flat_map(|task| &task.connections).map(|used| used.name.as_str()));
    names.sort_unstable();
    names.dedup();
    let database = |name: &str| {
        let target = connection_target(name, &connections.get(name)?.spec).ok()?;
        let is_database = matches!(target, ConnectionTarget::DuckDb { .. });
        is_database.then(|| Connection { name: name.to_owned(), mode: AccessMode::Write, target })
    };
    let (mut relations, mut tables): (Vec<Relation>, _) = (Vec::new(), Vec::new());
    for table in &test.tables {
        let name = match &table.schema {
            Some(schema) => format!("{}.{schema}.{}", table.connection, table.table),
            None => format!("{}.{}", table.connection, table.table),
        };
        relations.push(given_relation(&name, &table.source, table.contract.as_ref()));
        tables.push(GivenTable {
            relation: name,
            connection: table.connection.clone(),
            schema: table.schema.clone(),
            table: table.table.clone(),
        });
    }
    let order = WorkOrder {
        format: FORMAT,
        identity: identity(&context, test, test.now),
        store: context.store,
        relations,
        parameters: Vec::new(),
        files: Vec::new(),
        connections: names.into_iter().filter_map(database).collect(),
        work: Work::DuckDb(pintail_protocol::DuckDbWork::default()),
        outputs: Vec::new(),
        resources: Resources::default(),
        reuse_key: String::new(),
        reuse: None,
    };
    (order, tables)
}

fn identity(context: &RunContext, test: &PlannedTest, start: Timestamp) -> Identity {
    Identity {
        namespace: context.namespace.clone(),
        execution: context.name.clone(),
        execution_uid: context.uid.clone(),
        execution_start: start,
        workflow: test.plan.workflow.clone(),
        revision: test.plan.revision.clone(),
        task: "given".to_owned(),
        item: None,
        attempt: 1,
    }
}
