//! Loads the rows of a query into a table of an attached database, once however often it is tried.
//!
//! ```text
//! in the ledger? ── yes ──> the recorded result
//!      │ no
//! watermark ─> batch: the query's rows, read once into a temporary table ─> checks
//!      ─> BEGIN ─> lock ─> in the ledger by now? ─> rows ─> ledger row ─> COMMIT
//! ```
//!
//! Rows, watermark and the row in the ledger `_pintail_loads` (see [`ledger`]) are written in one transaction of the
//! target database: a process that is killed at any moment leaves all of them or none. Not covered: a new run
//! that loads by `Append` without a watermark appends its rows again, because it is other work.
//!
//! **Columns** are matched by name, whatever the case of ASCII letters. A table that is not there is created from the
//! query's types, without keys and indexes; one that is there is never altered, in no mode. A column of the query that
//! the table lacks is an error; columns that only the table has get their default. A value is cast to its column's type
//! only where the cast keeps it or fails (see [`columns`]).
//!
//! **Append** inserts. **Replace** deletes every row and inserts. **Upsert** inserts rows with new keys and updates rows
//! that differ in a column other than key and stamp, where NULL equals NULL and NaN equals NaN; equal rows
//! stay untouched, stamp included. Several rows of one batch with one key are an error unless `prefer` orders them: the first
//! wins, NULL comes last; where that ties, the order of all other columns decides, so that a repeat chooses the same row.
//!
//! **Watermark**: the greatest value of the column that this task of this workflow has loaded into this table. The next
//! load takes rows from there, less the overlap: `>=` for Upsert, `>` for Append, which else would load the rows at the
//! watermark twice, and so misses rows that come later with a value equal to it. `until` leaves rows from there on for
//! later. It never moves back; it starts anew when the table has been dropped. Rows without a value in the
//! column (NULL, infinity, NaN) belong to no load and are an error, also those the filter would hide.
//! With `bind` the query takes the lower bound as a parameter and filters by itself (NULL at first).
//!
//! **PostgreSQL**: the batch is copied to a temporary table of the server, and the statements run there. Loads into one
//! schema follow one another from the lock on the ledger to the end of the transaction; reading the sources is not part of that.

mod batch;
mod columns;
mod fault;
mod ledger;
mod target;
mod write;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use pintail_protocol::{Identity, Load, LoadResult, PinnedInput};
use serde::{Deserialize, Serialize};

use crate::failure::TaskFailure;
use crate::inputs;
use crate::session::Session;
use batch::Batch;
pub(crate) use columns::{Measure, is_same, keeps_values, measure};
use ledger::Ledger;
use target::Target;

/// What a load did, and the files outside the store that it read. An earlier attempt may have read others than this one
/// found; what it recorded counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    #[serde(flatten)]
    pub result: LoadResult,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<PinnedInput>,
}

/// Loads the rows of `query` as `load` says, or gives what an earlier attempt of the same work (execution, task, item)
/// recorded. `query` is one statement without a semicolon; `now` becomes stamp and time of the load. `unchanged` says
/// whether the files that were read are still the same; it is asked before the rows are committed.
///
/// # Errors
/// Permanent: `ColumnsDiffer`, `ColumnTypes`, `NullKey`, `DuplicateKey`, `NullWatermark`, `WatermarkType`,
/// `WatermarkChanged`, `NewerFormat`, `ConstraintError`, `AccessDenied`. Transient: `TransactionConflict`,
/// `PostgresError`. Infrastructure: `ConnectionLost`, `WatermarkMoved`. Else DuckDB's error by its class.
pub fn load(
    session: &Session,
    identity: &Identity,
    load: &Load,
    query: &str,
    now: Timestamp,
    unchanged: &dyn Fn() -> Result<(), TaskFailure>,
) -> Result<Loaded, TaskFailure> {
    let target = Target::of(session, load)?;
    let ledger = Ledger::open(&target, identity, load)?;
    if let Some(loaded) = ledger.recorded()? {
        return Ok(loaded);
    }
    let since = ledger.watermark()?;
    let batch = Batch::take(session, load, query, since.as_ref())?;
    target.refresh()?;
    unchanged()?;
    let loaded = target.transaction(|| {
        target.lock(ledger::TABLE)?;
        if let Some(loaded) = ledger.recorded()? {
            return Ok(loaded);
        }
        if load.watermark.is_some() && ledger.watermark()? != since {
            return Err(TaskFailure::infrastructure(
                "WatermarkMoved",
                format!("another run loaded rows into {target} since this one looked at its watermark: try again"),
            ));
        }
        if target.create_if_absent(load, &batch.columns)? {
            ledger.forget_watermarks()?;
        }
        let counts = write::write(&target, load, &batch, now)?;
        let watermark = batch.watermark.clone();
        let (inserted, updated) = (counts.inserted, counts.updated);
        let result = LoadResult { rows: inserted + updated, inserted, updated, watermark };
        let loaded = Loaded { result, inputs: inputs::pins(&session.workspace().found) };
        ledger.record(&loaded, batch.watermark_type.as_deref(), now)?;
        Ok(loaded)
    })?;
    batch.drop(session)?;
    Ok(loaded)
}
