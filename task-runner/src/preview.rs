//! Results and tables for people: first rows of a file, or a whole task's session to ask.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pintail_protocol::WorkOrder;
use pintail_storage::Store;

use crate::failure::TaskFailure;
use crate::session::{Session, TextTable};
use crate::sql::identifier;
use crate::workspace::{Environment, Workspace};
use crate::{files, inputs, query};

/// The first `limit` rows of Parquet files, or of a query that sees them as `table`.
///
/// # Errors
/// A file that cannot be read, `TwoStatements`, `NotAQuery`, or DuckDB's error by its class.
pub fn preview(paths: &[PathBuf], table: &str, sql: Option<&str>, limit: usize) -> Result<TextTable, TaskFailure> {
    let scratch = tempfile::tempdir().map_err(|error| TaskFailure::from_io(&error, "make a scratch folder"))?;
    let session = Session::over_files(table, paths, scratch.path())?;
    let all = format!("FROM {}", identifier(table));
    session.text_rows(sql.unwrap_or(&all), &[], limit)
}

/// The session that a task's queries would have, after its setup. Databases are as the order has them: one that is
/// written can be written.
///
/// # Errors
/// As of [`crate::run::run_order`], up to its first query.
pub async fn explore(
    order: &WorkOrder,
    scratch: &Path,
    secrets: BTreeMap<String, String>,
) -> Result<Session, TaskFailure> {
    let (order, scratch) = (order.clone(), scratch.to_owned());
    // Listing and staging block.
    tokio::task::spawn_blocking(move || open(&order, scratch, secrets))
        .await
        .map_err(|error| TaskFailure::infrastructure("EngineError", format!("could not open the session: {error}")))?
}

fn open(order: &WorkOrder, scratch: PathBuf, secrets: BTreeMap<String, String>) -> Result<Session, TaskFailure> {
    let environment = Environment::of_process().with(secrets);
    let runtime = files::runtime()?;
    let store = runtime.block_on(Store::open(&order.store))?;
    let found = inputs::find(order, &environment)?;
    let staged = inputs::stage(order, &store, &runtime, &scratch)?;
    let session = Session::open(order, Workspace { scratch, staged, found, outputs: Vec::new() }, &environment)?;
    if let pintail_protocol::Work::DuckDb(work) = &order.work {
        query::run_setup(&session, &work.setup)?;
    }
    Ok(session)
}
