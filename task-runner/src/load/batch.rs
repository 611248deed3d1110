//! The rows of one load: read once, checked, in a temporary table of the session.

use pintail_protocol::{Load, LoadMode, Overlap, Parameter, ResultColumn, Watermark};
use serde_json::Value;

use super::columns::{Measure, check_query, is_same, list, measure};
use super::ledger::Recorded;
use crate::failure::TaskFailure;
use crate::parameter::literal;
use crate::session::Session;
use crate::sql::identifier;

/// The temporary table.
pub(super) const TABLE: &str = "_pintail_batch";

pub(super) struct Batch {
    /// The query's.
    pub columns: Vec<ResultColumn>,
    /// The greatest value that is loaded after this batch; `None` if it has no rows.
    pub watermark: Option<String>,
    pub watermark_type: Option<String>,
}

/// The batch as SQL names it.
pub(super) fn path() -> String {
    format!("temp.main.{}", identifier(TABLE))
}

impl Batch {
    /// Runs the query from the recorded watermark on, and checks its rows.
    pub fn take(session: &Session, load: &Load, query: &str, since: Option<&Recorded>) -> Result<Self, TaskFailure> {
        let bind = bound_parameter(session, load, since)?;
        let columns = session.describe(query, &bind)?;
        check_query(load, &columns)?;
        let mut batch = Self { columns, watermark: None, watermark_type: None };
        match &load.watermark {
            None => {
                session.stage(TABLE, query, &bind)?;
            }
            Some(watermark) => {
                let data_type = batch.watermark_type(watermark)?;
                let recorded = since.map(|since| cast_recorded(session, watermark, since, &data_type)).transpose()?;
                let filter = filter(session, load, watermark, &data_type, recorded.as_deref())?;
                take_filtered(session, watermark, query, &filter, &bind)?;
                batch.watermark = greatest(session, watermark, &data_type, recorded.as_deref())?;
                batch.watermark_type = Some(data_type);
            }
        }
        if load.mode == LoadMode::Upsert {
            batch.check_keys(session, load)?;
        }
        Ok(batch)
    }

    /// Gives its memory back.
    pub fn drop(self, session: &Session) -> Result<(), TaskFailure> {
        session.batch(&format!("DROP TABLE {}", path()), "drop a temporary table")
    }

    fn watermark_type(&self, watermark: &Watermark) -> Result<String, TaskFailure> {
        let column = self.columns.iter().find(|column| is_same(&column.name, &watermark.column));
        let data_type = column.map(|column| column.data_type.clone()).unwrap_or_default();
        let fits = match (measure(&data_type), watermark.overlap) {
            (Some(Measure::Time), Some(Overlap::Number(_))) => false,
            (Some(Measure::Integer | Measure::Fraction), Some(Overlap::DurationMs(_))) => false,
            (measure, _) => measure.is_some(),
        };
        if fits {
            return Ok(data_type);
        }
        Err(TaskFailure::permanent(
            "WatermarkType",
            format!(
                "the watermark column `{}` is {data_type}: it must be a date or a timestamp, with a duration such as 1h as \
                 overlap, or a number, with a number as overlap",
                watermark.column
            ),
        ))
    }

    /// Every row has a whole key, and each key one row.
    fn check_keys(&self, session: &Session, load: &Load) -> Result<(), TaskFailure> {
        let keys: Vec<_> = load.key.iter().map(|key| identifier(key)).collect();
        let names = list(load.key.iter().map(String::as_str));
        let any_null = keys.iter().map(|key| format!("{key} IS NULL")).collect::<Vec<_>>().join(" OR ");
        let without_key = count(session, &format!("SELECT count(*) FROM {} WHERE {any_null}", path()))?;
        if without_key > 0 {
            return Err(TaskFailure::permanent(
                "NullKey",
                format!(
                    "rows with NULL in the key ({names}): {without_key}. Filter them in the query, or give them a key"
                ),
            ));
        }
        let keys = keys.join(", ");
        let several =
            format!("SELECT count(*) FROM (SELECT {keys} FROM {} GROUP BY {keys} HAVING count(*) > 1)", path());
        let several = count(session, &several)?;
        match &load.prefer {
            _ if several == 0 => Ok(()),
            Some(prefer) => {
                let direction = if prefer.descending { "DESC" } else { "ASC" };
                let all = self.columns.iter().map(|column| identifier(&column.name)).collect::<Vec<_>>().join(", ");
                // A new table, because the query may have a column `rowid`.
                let sql = format!(
                    "CREATE TEMP TABLE _pintail_chosen AS SELECT * FROM {table} QUALIFY row_number() OVER
                     (PARTITION BY {keys} ORDER BY {} {direction} NULLS LAST, {all}) = 1;
                     DROP TABLE {table}; ALTER TABLE temp.main._pintail_chosen RENAME TO {}",
                    identifier(&prefer.column),
                    identifier(TABLE),
                    table = path()
                );
                session.batch(&sql, "choose between rows with one key")
            }
            None => Err(TaskFailure::permanent(
                "DuplicateKey",
                format!(
                    "keys ({names}) with more than one row in this batch: {several}. Say with `prefer` which row wins, or \
                     make the query give one row a key"
                ),
            )),
        }
    }
}

fn one<T: duckdb::types::FromSql>(session: &Session, sql: &str, attempt: &str) -> Result<T, TaskFailure> {
    let row = session.connection().query_row(sql, [], |row| row.get(0));
    row.map_err(|error| TaskFailure::from_duckdb(&error, attempt))
}

fn count(session: &Session, sql: &str) -> Result<u64, TaskFailure> {
    one(session, sql, "check the rows to load")
}

/// With `bind`: the query's parameter for the lower bound.
fn bound_parameter(session: &Session, load: &Load, since: Option<&Recorded>) -> Result<Vec<Parameter>, TaskFailure> {
    let Some((watermark, name)) = load.watermark.as_ref().and_then(|w| Some((w, w.bind.as_ref()?))) else {
        return Ok(Vec::new());
    };
    let (data_type, value) = match since {
        Some(since) => {
            let bound = lower_bound(session, watermark, &since.data_type, &since.value)?;
            (since.data_type.clone(), bound.map_or(Value::Null, Value::String))
        }
        // DuckDB's own type of a bare NULL, which goes with every type.
        None => ("\"NULL\"".to_owned(), Value::Null),
    };
    Ok(vec![Parameter { name: name.clone(), data_type, value }])
}

/// The recorded watermark as text of the type that the column has now.
fn cast_recorded(
    session: &Session,
    watermark: &Watermark,
    since: &Recorded,
    data_type: &str,
) -> Result<String, TaskFailure> {
    let value = literal(&since.data_type, &Value::String(since.value.clone()));
    let cast = one::<Option<String>>(
        session,
        &format!("SELECT CAST(TRY_CAST({value} AS {data_type}) AS VARCHAR)"),
        "read the watermark",
    );
    cast.ok().flatten().ok_or_else(|| {
        TaskFailure::permanent(
            "WatermarkChanged",
            format!(
                "the watermark column `{}` was {} when it was recorded and is {data_type} now: to load from the beginning, \
                 set `watermark` to NULL in _pintail_loads, or drop the table",
                watermark.column, since.data_type
            ),
        )
    })
}

/// The watermark less the overlap; `None` where that is less than any value of the type.
fn lower_bound(
    session: &Session,
    watermark: &Watermark,
    data_type: &str,
    recorded: &str,
) -> Result<Option<String>, TaskFailure> {
    let recorded = literal(data_type, &Value::String(recorded.to_owned()));
    let bound = match watermark.overlap {
        None => recorded,
        Some(Overlap::DurationMs(overlap_ms)) => format!("{recorded} - to_milliseconds({overlap_ms})"),
        Some(Overlap::Number(overlap)) if measure(data_type) == Some(Measure::Integer) => {
            format!("CAST({recorded} AS HUGEINT) - {overlap}")
        }
        Some(Overlap::Number(overlap)) => format!("{recorded} - {overlap}"),
    };
    let sql = format!("SELECT CAST(TRY_CAST({bound} AS {data_type}) AS VARCHAR)");
    one(session, &sql, "subtract the overlap from the watermark")
}

/// What a row must fulfil to be in the batch, as constants of the column's type, so that it reaches the scan of the
/// files and whole row groups are skipped. Empty at a first load without end.
fn filter(
    session: &Session,
    load: &Load,
    watermark: &Watermark,
    data_type: &str,
    recorded: Option<&str>,
) -> Result<String, TaskFailure> {
    let column = identifier(&watermark.column);
    let constant = |text: &str| literal(data_type, &Value::String(text.to_owned()));
    let mut terms = Vec::new();
    if let (Some(recorded), None) = (recorded, &watermark.bind)
        && let Some(bound) = lower_bound(session, watermark, data_type, recorded)?
    {
        let from = if load.mode == LoadMode::Append { ">" } else { ">=" };
        terms.push(format!("{column} {from} {}", constant(&bound)));
    }
    if let Some(until) = &watermark.until {
        let known = one::<bool>(session, &format!("SELECT {} IS NOT NULL", constant(until)), "read `until`");
        if !known.unwrap_or(false) {
            let message = format!("`until` is not a {data_type}, which the watermark column `{}` is", watermark.column);
            return Err(TaskFailure::permanent("WatermarkType", message));
        }
        terms.push(format!("{column} < {}", constant(until)));
    }
    Ok(terms.join(" AND "))
}

/// Reads the rows, and refuses those without a watermark. They are asked for by a second query, which reads one column
/// and, of Parquet, only row groups that hold NULL; `… OR … IS NULL` in the first would keep it from skipping any.
fn take_filtered(
    session: &Session,
    watermark: &Watermark,
    query: &str,
    filter: &str,
    bind: &[Parameter],
) -> Result<(), TaskFailure> {
    let column = identifier(&watermark.column);
    let without = if filter.is_empty() {
        session.stage(TABLE, query, bind)?;
        count(session, &format!("SELECT count(*) FROM {} WHERE {column} IS NULL", path()))?
    } else {
        session.stage(TABLE, &format!("SELECT * FROM (\n{query}\n) WHERE {filter}"), bind)?;
        let nulls = format!("INSERT INTO {} SELECT * FROM (\n{query}\n) WHERE {column} IS NULL", path());
        session.execute(&nulls, bind)?
    };
    if without == 0 {
        return Ok(());
    }
    Err(TaskFailure::permanent(
        "NullWatermark",
        format!(
            "rows with NULL in the watermark column `{}`: {without}. No load would ever take them: filter them in the \
             query, or give them a value",
            watermark.column
        ),
    ))
}

/// The greatest value that is loaded after the batch.
fn greatest(
    session: &Session,
    watermark: &Watermark,
    data_type: &str,
    recorded: Option<&str>,
) -> Result<Option<String>, TaskFailure> {
    let column = identifier(&watermark.column);
    let endless = match measure(data_type) {
        Some(Measure::Integer) => 0,
        _ if data_type.starts_with("DECIMAL") => 0,
        _ => count(session, &format!("SELECT count(*) FROM {} WHERE NOT isfinite({column})", path()))?,
    };
    if endless > 0 {
        return Err(TaskFailure::permanent(
            "NullWatermark",
            format!(
                "rows with infinity or NaN in the watermark column `{}`: {endless}. No row could ever be newer: filter them \
                 in the query, or give them a value",
                watermark.column
            ),
        ));
    }
    let recorded = recorded.map_or(Value::Null, |text| Value::String(text.to_owned()));
    let sql =
        format!("SELECT CAST(greatest(max({column}), {}) AS VARCHAR) FROM {}", literal(data_type, &recorded), path());
    one(session, &sql, "find the new watermark")
}
