//! The statements that bring a batch into its table, by mode and kind of database.

use jiff::Timestamp;
use pintail_protocol::{Load, LoadMode, ResultColumn};

use super::batch::{self, Batch};
use super::columns::{Pair, is_same, keeps_values};
use super::ledger::time_text;
use super::target::{Kind, Target};
use crate::failure::TaskFailure;
use crate::sql::{identifier, text};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub inserted: u64,
    pub updated: u64,
}

/// The table's columns that are written, and the value of the stamp.
struct Columns {
    pairs: Vec<Pair>,
    /// Name and constant, quoted.
    stamp: Option<(String, String)>,
}

impl Columns {
    /// The written columns: `"a", "b", "stamp"`.
    fn names(&self) -> String {
        let stamp = self.stamp.iter().map(|(name, _)| name.clone());
        self.pairs.iter().map(Pair::name).chain(stamp).collect::<Vec<_>>().join(", ")
    }

    /// The batch's values and the stamp, in the order of `names`, as `value` writes each.
    fn values(&self, value: impl Fn(&Pair) -> String) -> String {
        let stamp = self.stamp.iter().map(|(_, value)| value.clone());
        self.pairs.iter().map(value).chain(stamp).collect::<Vec<_>>().join(", ")
    }

    /// The batch under the names and in the types of the table.
    fn typed_batch(&self) -> String {
        let columns: Vec<_> = self.pairs.iter().map(|pair| format!("{} AS {}", pair.value(), pair.name())).collect();
        format!("SELECT {} FROM {}", columns.join(", "), batch::path())
    }

    /// `t` and `b` have the same key.
    fn same_key(&self) -> String {
        let keys = self.pairs.iter().filter(|pair| pair.is_key).map(|pair| format!("t.{0} = b.{0}", pair.name()));
        keys.collect::<Vec<_>>().join(" AND ")
    }

    /// `t` and `b` differ in what is no key; `None` where there is nothing else.
    fn differs(&self, kind: Kind) -> Option<String> {
        let as_text = |pair: &Pair| if kind == Kind::Postgres { text_cast(&pair.target.data_type) } else { "" };
        let others = self.pairs.iter().filter(|pair| !pair.is_key);
        let terms: Vec<_> = others
            .map(|pair| {
                format!("t.{name}{cast} IS DISTINCT FROM b.{name}{cast}", name = pair.name(), cast = as_text(pair))
            })
            .collect();
        if terms.is_empty() { None } else { Some(terms.join(" OR ")) }
    }

    /// `"a" = b."a", "stamp" = …`
    fn assignments(&self) -> String {
        let others = self.pairs.iter().filter(|pair| !pair.is_key).map(|pair| format!("{0} = b.{0}", pair.name()));
        let stamp = self.stamp.iter().map(|(name, value)| format!("{name} = {value}"));
        others.chain(stamp).collect::<Vec<_>>().join(", ")
    }
}

/// PostgreSQL has no equality for json and xml, which DuckDB reads as text.
fn text_cast(data_type: &str) -> &'static str {
    match data_type {
        "VARCHAR" | "JSON" => "::text",
        "VARCHAR[]" | "JSON[]" => "::text[]",
        _ => "",
    }
}

/// Writes the batch into the table, which is there, inside the open transaction.
///
/// # Errors
/// `ColumnsDiffer`, `ColumnTypes`, `ConstraintError`, or the database's error by its class.
pub(super) fn write(target: &Target<'_>, load: &Load, batch: &Batch, now: Timestamp) -> Result<Counts, TaskFailure> {
    let (pairs, table) = target.pairs(load, &batch.columns)?;
    let stamp = load.stamp.as_ref().map(|stamp| stamp_value(stamp, &table, now)).transpose()?;
    let columns = Columns { pairs, stamp };
    match target.kind {
        Kind::DuckDb => write_file(target, load, &columns),
        Kind::Postgres => write_server(target, load, &columns),
    }
}

fn stamp_value(stamp: &str, table: &[ResultColumn], now: Timestamp) -> Result<(String, String), TaskFailure> {
    let column = table.iter().find(|column| is_same(&column.name, stamp));
    let (name, data_type) = column.map_or((stamp, ""), |column| (&column.name, &column.data_type));
    let zone = if data_type == "TIMESTAMP WITH TIME ZONE" { "+00" } else { "" };
    if keeps_values("TIMESTAMP", data_type) {
        let value = format!("CAST({} AS {data_type})", text(&format!("{}{zone}", time_text(now))));
        return Ok((identifier(name), value));
    }
    Err(TaskFailure::permanent(
        "ColumnTypes",
        format!("the stamp column `{stamp}` is {data_type} in the table, but must be TIMESTAMP"),
    ))
}

fn write_file(target: &Target<'_>, load: &Load, columns: &Columns) -> Result<Counts, TaskFailure> {
    let table = target.path(target.table);
    if load.mode == LoadMode::Upsert {
        return merge(target, columns);
    }
    if load.mode == LoadMode::Replace {
        target.run(&format!("DELETE FROM {table}"), &[])?;
    }
    let insert = format!(
        "INSERT INTO {table} ({}) SELECT {} FROM {}",
        columns.names(),
        columns.values(Pair::value),
        batch::path()
    );
    Ok(Counts { inserted: target.run(&insert, &[])?, updated: 0 })
}

/// One join. DuckDB counts changed rows, not which way; the table's growth tells.
fn merge(target: &Target<'_>, columns: &Columns) -> Result<Counts, TaskFailure> {
    let table = target.path(target.table);
    let rows_of_table = || -> Result<u64, TaskFailure> {
        let counts = target.rows(&format!("SELECT count(*) FROM {table}"), &[], |row| row.get::<_, u64>(0))?;
        Ok(counts.first().copied().unwrap_or(0))
    };
    let update = columns.differs(target.kind).map_or(String::new(), |differs| {
        format!("WHEN MATCHED AND ({differs}) THEN UPDATE SET {}", columns.assignments())
    });
    let sql = format!(
        "MERGE INTO {table} AS t USING ({}) AS b ON {} {update} WHEN NOT MATCHED THEN INSERT ({}) VALUES ({})",
        columns.typed_batch(),
        columns.same_key(),
        columns.names(),
        columns.values(|pair| format!("b.{}", pair.name())),
    );
    let before = rows_of_table()?;
    let changed = target.run(&sql, &[])?;
    let inserted = rows_of_table()?.saturating_sub(before);
    Ok(Counts { inserted, updated: changed.saturating_sub(inserted) })
}

/// Temporary tables of the server's session, gone with the transaction.
const STAGED: &str = "pg_temp._pintail_batch";
const COUNTED: &str = "pg_temp._pintail_counts";

/// Copies the batch to the server and writes it there by one statement. (DuckDB's own UPDATE and MERGE would
/// read the whole table to find the rows.)
fn write_server(target: &Target<'_>, load: &Load, columns: &Columns) -> Result<Counts, TaskFailure> {
    let table = target.server_path(target.table);
    let names: Vec<_> = columns.pairs.iter().map(Pair::name).collect();
    target.run_on_server(&format!(
        "CREATE TEMPORARY TABLE _pintail_batch ON COMMIT DROP AS SELECT {} FROM {table} WITH NO DATA;
         CREATE TEMPORARY TABLE _pintail_counts ON COMMIT DROP AS SELECT 0::bigint AS inserted, 0::bigint AS updated WITH NO DATA",
        names.join(", ")
    ))?;
    // DuckDB does not know the new tables yet.
    target.refresh()?;
    let database = identifier(target.database);
    target.run(&format!("INSERT INTO {database}.{STAGED} {}", columns.typed_batch()), &[])?;
    target.run_on_server(&format!("ANALYZE {STAGED}"))?;
    if load.mode == LoadMode::Replace {
        target.run_on_server(&format!("DELETE FROM {table}"))?;
    }
    let updates = match columns.differs(target.kind) {
        Some(differs) if load.mode == LoadMode::Upsert => format!(
            "updated AS (UPDATE {table} AS t SET {} FROM {STAGED} AS b WHERE {} AND ({differs}) RETURNING 1)",
            columns.assignments(),
            columns.same_key()
        ),
        _ => "updated AS (SELECT 1 WHERE false)".to_owned(),
    };
    let only_new = match load.mode {
        LoadMode::Upsert => format!(" WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {})", columns.same_key()),
        LoadMode::Append | LoadMode::Replace => String::new(),
    };
    // Both parts see the table as it was before.
    target.run_on_server(&format!(
        "WITH {updates}, inserted AS (INSERT INTO {table} ({}) SELECT {} FROM {STAGED} AS b{only_new} RETURNING 1)
         INSERT INTO {COUNTED} SELECT (SELECT count(*) FROM inserted), (SELECT count(*) FROM updated)",
        columns.names(),
        columns.values(|pair| format!("b.{}", pair.name())),
    ))?;
    let counts = target.rows(&format!("SELECT inserted, updated FROM {database}.{COUNTED}"), &[], |row| {
        Ok(Counts { inserted: row.get(0)?, updated: row.get(1)? })
    })?;
    Ok(counts.first().copied().unwrap_or_default())
}
