//! `_pintail_loads`: one row for each load that was done, in the schema of the tables it was done to.
//!
//! | Column | Meaning |
//! |---|---|
//! | `execution`, `task`, `item` | which work: the run's uid, its task, its item (-1 if none); the primary key |
//! | `loaded_at` | when, UTC |
//! | `source` | `<namespace>/<workflow>/<task>`: whose watermark it is |
//! | `target` | the table |
//! | `rows` | rows that were inserted or changed |
//! | `watermark_column`, `watermark_type`, `watermark` | the greatest value loaded so far, as text of that DuckDB type |
//! | `report` | the load's result and the files that it read, JSON |
//! | `format` | format number of the row |
//!
//! To load from the beginning again, drop the table, or set `watermark` to NULL where `target` is the table.

use duckdb::ToSql;
use jiff::Timestamp;
use pintail_protocol::{FORMAT, Identity, Load, check_format};

use super::Loaded;
use super::columns::is_same;
use super::target::Target;
use crate::failure::TaskFailure;

pub(super) const TABLE: &str = "_pintail_loads";

/// Text of a time as DuckDB and PostgreSQL read it, UTC, whole microseconds.
pub(super) fn time_text(now: Timestamp) -> String {
    now.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string()
}

pub(super) struct Ledger<'a> {
    target: &'a Target<'a>,
    load: &'a Load,
    /// As the ledger spells them: execution, task, item.
    work: (String, String, i64),
    source: String,
}

/// A recorded watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    pub value: String,
    pub data_type: String,
}

impl<'a> Ledger<'a> {
    /// Finds or makes the ledger.
    ///
    /// # Errors
    /// `NewerFormat` for a ledger with rows of a newer build.
    pub fn open(target: &'a Target<'a>, identity: &Identity, load: &'a Load) -> Result<Self, TaskFailure> {
        let work = (identity.execution_uid.clone(), identity.task.clone(), identity.item.map_or(-1, i64::from));
        let source = format!("{}/{}/{}", identity.namespace, identity.workflow, identity.task);
        let ledger = Self { target, load, work, source };
        target.refresh()?;
        ledger.create()?;
        ledger.check_format()?;
        Ok(ledger)
    }

    fn path(&self) -> String {
        self.target.path(TABLE)
    }

    fn create(&self) -> Result<(), TaskFailure> {
        if self.target.columns(TABLE)?.is_some() {
            return Ok(());
        }
        let sql = format!(
            r#"CREATE TABLE IF NOT EXISTS {} (
                "execution" VARCHAR NOT NULL, "task" VARCHAR NOT NULL, "item" BIGINT NOT NULL,
                "loaded_at" TIMESTAMP NOT NULL, "source" VARCHAR NOT NULL, "target" VARCHAR NOT NULL,
                "rows" BIGINT NOT NULL, "watermark_column" VARCHAR, "watermark_type" VARCHAR, "watermark" VARCHAR,
                "report" VARCHAR NOT NULL, "format" INTEGER NOT NULL, PRIMARY KEY ("execution", "task", "item"))"#,
            self.path()
        );
        let Err(failure) = self.target.run(&sql, &[]) else { return Ok(()) };
        // Two runs that make it at one time: PostgreSQL refuses one of them.
        self.target.refresh()?;
        if self.target.columns(TABLE)?.is_some() { Ok(()) } else { Err(failure) }
    }

    fn check_format(&self) -> Result<(), TaskFailure> {
        let sql = format!(r#"SELECT COALESCE(max("format"), 0) FROM {}"#, self.path());
        let newest: Vec<i32> = self.target.rows(&sql, &[], |row| row.get(0))?;
        let newest = newest.first().map_or(0, |format| format.unsigned_abs());
        check_format("the ledger _pintail_loads", newest).map_err(|error| {
            TaskFailure::permanent("NewerFormat", error.to_string()).on(&format!("table {}", self.target))
        })
    }

    /// What an attempt of this work did before.
    pub fn recorded(&self) -> Result<Option<Loaded>, TaskFailure> {
        let sql =
            format!(r#"SELECT "report" FROM {} WHERE "execution" = ? AND "task" = ? AND "item" = ?"#, self.path());
        let (execution, task, item) = &self.work;
        let reports: Vec<String> = self.target.rows(&sql, &[execution, task, item], |row| row.get(0))?;
        let parse = |report: &String| {
            serde_json::from_str(report).map_err(|_| {
                TaskFailure::permanent(
                    "BrokenLedger",
                    format!("the row of this load in {} holds no report that can be read", self.path()),
                )
            })
        };
        reports.first().map(parse).transpose()
    }

    /// The watermark that this task reached in the table; `None` where there is neither, or no table.
    ///
    /// # Errors
    /// `WatermarkChanged` where it was recorded for another column.
    pub fn watermark(&self) -> Result<Option<Recorded>, TaskFailure> {
        let Some(watermark) = &self.load.watermark else { return Ok(None) };
        if self.target.columns(self.target.table)?.is_none() {
            return Ok(None);
        }
        let of_table = r#""source" = ? AND "target" = ? AND "watermark" IS NOT NULL"#;
        let values: [&dyn ToSql; 2] = [&self.source, &self.target.table];
        let sql = format!(
            r#"SELECT "watermark_column", "watermark_type" FROM {} WHERE {of_table}
               GROUP BY ALL ORDER BY max("loaded_at")"#,
            self.path()
        );
        let kinds: Vec<(String, String)> = self.target.rows(&sql, &values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        if let Some((column, _)) = kinds.iter().find(|(column, _)| !is_same(column, &watermark.column)) {
            return Err(self.changed(&format!("column `{column}`")));
        }
        let Some((_, data_type)) = kinds.into_iter().next_back() else { return Ok(None) };
        // The greatest, not the last: clocks of two machines differ.
        let sql = format!(
            r#"SELECT CAST(max(CAST("watermark" AS {data_type})) AS VARCHAR) FROM {} WHERE {of_table}"#,
            self.path()
        );
        let greatest: Vec<Option<String>> = self.target.rows(&sql, &values, |row| row.get(0))?;
        Ok(greatest.into_iter().next().flatten().map(|value| Recorded { value, data_type }))
    }

    /// The watermark that is there cannot serve.
    fn changed(&self, recorded: &str) -> TaskFailure {
        TaskFailure::permanent(
            "WatermarkChanged",
            format!(
                "the watermark of {} was recorded for {recorded}, not for the one that is asked for now: to load from the \
                 beginning, set `watermark` to NULL in {} where `target` is '{}', or drop the table",
                self.target,
                self.path(),
                self.target.table
            ),
        )
    }

    /// The table is new, so nothing recorded of it holds.
    pub fn forget_watermarks(&self) -> Result<(), TaskFailure> {
        let sql =
            format!(r#"UPDATE {} SET "watermark" = NULL WHERE "target" = ? AND "watermark" IS NOT NULL"#, self.path());
        self.target.run(&sql, &[&self.target.table]).map(drop)
    }

    /// Writes the row of this load.
    pub fn record(&self, loaded: &Loaded, watermark_type: Option<&str>, now: Timestamp) -> Result<(), TaskFailure> {
        let result = &loaded.result;
        let report = serde_json::to_string(loaded).map_err(|error| {
            TaskFailure::permanent("BrokenLedger", format!("the result cannot be written: {error}"))
        })?;
        let sql = format!(
            r#"INSERT INTO {} ("execution", "task", "item", "loaded_at", "source", "target", "rows",
                               "watermark_column", "watermark_type", "watermark", "report", "format")
               VALUES (?, ?, ?, CAST(? AS TIMESTAMP), ?, ?, ?, ?, ?, ?, ?, ?)"#,
            self.path()
        );
        let (execution, task, item) = &self.work;
        let column = self.load.watermark.as_ref().map(|watermark| watermark.column.as_str());
        let rows = i64::try_from(result.rows).unwrap_or(i64::MAX);
        self.target.run(
            &sql,
            &[
                execution,
                task,
                item,
                &time_text(now),
                &self.source,
                &self.target.table,
                &rows,
                &column,
                &watermark_type,
                &result.watermark,
                &report,
                &i64::from(FORMAT),
            ],
        )?;
        Ok(())
    }
}
