//! The loader with DuckDB itself and a database file. Each load opens the file anew, as attempts do.

mod columns;
mod kill;
mod ledger;
mod modes;
mod postgres;
mod scan;
mod watermark;

use jiff::Timestamp;
use pintail_protocol::{AccessMode, FailureClass, Identity, Load, LoadMode, LoadResult, OrderTerm, Overlap, Watermark};

use crate::failure::TaskFailure;
use crate::session::Session;
use crate::tests::{Fixture, rows};

/// A database file, `w` in SQL.
pub(super) struct Warehouse {
    pub fixture: Fixture,
}

/// The loader's clock in tests, in seconds from this moment.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

pub(super) fn result(inserted: u64, updated: u64, watermark: Option<&str>) -> LoadResult {
    LoadResult { rows: inserted + updated, inserted, updated, watermark: watermark.map(str::to_owned) }
}

impl Warehouse {
    pub fn new() -> Self {
        let mut fixture = Fixture::new();
        fixture.duckdb("w", "w.duckdb", AccessMode::Write);
        Self { fixture }
    }

    pub fn session(&self) -> Session {
        self.fixture.open().unwrap()
    }

    pub fn identity(&self, run: i64) -> Identity {
        Identity { execution_uid: format!("uid-{run}"), ..self.fixture.order.identity.clone() }
    }

    /// The load of one run, which also is its time.
    pub fn load(&self, run: i64, load: &Load, query: &str) -> Result<LoadResult, TaskFailure> {
        load_alone(&self.session(), &self.identity(run), load, query, at(run))
    }

    /// Why a load fails, permanently.
    pub fn refuses(&self, run: i64, load: &Load, query: &str) -> TaskFailure {
        let failure = self.load(run, load, query).unwrap_err();
        assert_eq!(failure.class, FailureClass::Permanent, "{failure}");
        failure
    }

    pub fn run(&self, sql: &str) {
        self.session().connection().execute_batch(sql).unwrap();
    }

    pub fn rows(&self, query: &str) -> Vec<String> {
        rows(&self.session(), query).unwrap()
    }
}

pub(super) fn into_table(mode: LoadMode) -> Load {
    Load {
        connection: "w".to_owned(),
        schema: None,
        table: "t".to_owned(),
        mode,
        key: Vec::new(),
        prefer: None,
        stamp: None,
        watermark: None,
    }
}

pub(super) fn upsert(key: &[&str]) -> Load {
    Load { key: key.iter().map(|&name| name.to_owned()).collect(), ..into_table(LoadMode::Upsert) }
}

pub(super) fn prefer(column: &str, descending: bool) -> Option<OrderTerm> {
    Some(OrderTerm { column: column.to_owned(), descending })
}

pub(super) fn watermark(column: &str, overlap: Option<Overlap>) -> Watermark {
    Watermark { column: column.to_owned(), overlap, until: None, bind: None }
}

pub(super) const HOUR: Option<Overlap> = Some(Overlap::DurationMs(3_600_000));

/// A load whose files nobody changes.
fn load_alone(
    session: &Session,
    identity: &Identity,
    load: &Load,
    query: &str,
    now: Timestamp,
) -> Result<LoadResult, TaskFailure> {
    super::load(session, identity, load, query, now, &|| Ok(())).map(|loaded| loaded.result)
}
