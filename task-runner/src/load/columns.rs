//! Which column of a query goes to which column of a table, and which types may meet.

use pintail_protocol::{Load, ResultColumn};

use crate::failure::TaskFailure;
use crate::sql::identifier;

/// One column of the query on its way to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// Its name in the batch.
    pub source: String,
    /// The table's column: its name as the table spells it, and its type.
    pub target: ResultColumn,
    pub is_key: bool,
}

impl Pair {
    /// The batch's value in the type of the table's column.
    pub fn value(&self) -> String {
        format!("CAST({} AS {})", identifier(&self.source), self.target.data_type)
    }

    /// The name of the table's column, quoted.
    pub fn name(&self) -> String {
        identifier(&self.target.name)
    }
}

pub(crate) fn is_same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn find<'a>(columns: &'a [ResultColumn], name: &str) -> Option<&'a ResultColumn> {
    columns.iter().find(|column| is_same(&column.name, name))
}

/// Names as people read them: `a, b`.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// Refuses a query that lacks a column which the load names, or gives the one that the loader sets.
///
/// # Errors
/// `ColumnsDiffer`.
pub(super) fn check_query(load: &Load, query: &[ResultColumn]) -> Result<(), TaskFailure> {
    let prefer = load.prefer.iter().map(|term| (&term.column, "prefer"));
    let watermark = load.watermark.iter().map(|watermark| (&watermark.column, "watermark"));
    for (column, role) in load.key.iter().map(|column| (column, "key")).chain(prefer).chain(watermark) {
        if find(query, column).is_none() {
            let given = list(query.iter().map(|column| column.name.as_str()));
            let message = format!("the {role} column `{column}` is not in the query, which gives: {given}");
            return Err(TaskFailure::permanent("ColumnsDiffer", message));
        }
    }
    match &load.stamp {
        Some(stamp) if find(query, stamp).is_some() => Err(TaskFailure::permanent(
            "ColumnsDiffer",
            format!("the query gives the stamp column `{stamp}`, which the loader sets: take it out of the query"),
        )),
        _ => Ok(()),
    }
}

/// Pairs the query's columns with the table's. `table_name` is for messages.
///
/// # Errors
/// `ColumnsDiffer` for a column (the stamp too) that the table lacks; `ColumnTypes` for a type that could change a value.
pub(super) fn pair(
    load: &Load,
    query: &[ResultColumn],
    table: &[ResultColumn],
    table_name: &str,
) -> Result<Vec<Pair>, TaskFailure> {
    let wanted = query.iter().map(|column| column.name.as_str()).chain(load.stamp.as_deref());
    let missing = list(wanted.filter(|name| find(table, name).is_none()));
    if !missing.is_empty() {
        let (given, there) = (list(query.iter().map(|c| c.name.as_str())), list(table.iter().map(|c| c.name.as_str())));
        return Err(TaskFailure::permanent(
            "ColumnsDiffer",
            format!(
                "table {table_name} has no column {missing}: the query gives {given}; the table has {there}. Add the \
                 column to the table, leave it out of the query, or drop the table so that it is created anew"
            ),
        ));
    }
    let pairs = query.iter().filter_map(|column| {
        let is_key = load.key.iter().any(|key| is_same(key, &column.name));
        let target = find(table, &column.name)?.clone();
        Some((column, Pair { source: column.name.clone(), target, is_key }))
    });
    let (mut kept, mut unsafe_casts) = (Vec::new(), Vec::new());
    for (column, pair) in pairs {
        if !keeps_values(&column.data_type, &pair.target.data_type) {
            unsafe_casts.push(format!(
                "`{}` is {} in the query and {} in the table",
                column.name, column.data_type, pair.target.data_type
            ));
        }
        kept.push(pair);
    }
    if unsafe_casts.is_empty() {
        return Ok(kept);
    }
    Err(TaskFailure::permanent(
        "ColumnTypes",
        format!("table {table_name} takes other types: {}. Cast in the query", unsafe_casts.join("; ")),
    ))
}

/// Families within which casts are understood.
enum Family {
    /// Bits of magnitude, sign left out.
    Integer(u8),
    Decimal {
        scale: u8,
    },
    /// Bits of the significand.
    Float(u8),
    Date,
    /// Digits of a second.
    Timestamp(u8),
    TimestampWithZone,
    Other,
}

fn family(data_type: &str) -> Family {
    match data_type {
        "TINYINT" => Family::Integer(7),
        "UTINYINT" => Family::Integer(8),
        "SMALLINT" => Family::Integer(15),
        "USMALLINT" => Family::Integer(16),
        "INTEGER" => Family::Integer(31),
        "UINTEGER" => Family::Integer(32),
        "BIGINT" => Family::Integer(63),
        "UBIGINT" => Family::Integer(64),
        "HUGEINT" => Family::Integer(127),
        "UHUGEINT" => Family::Integer(128),
        "FLOAT" => Family::Float(24),
        "DOUBLE" => Family::Float(53),
        "DATE" => Family::Date,
        "TIMESTAMP_S" => Family::Timestamp(0),
        "TIMESTAMP_MS" => Family::Timestamp(3),
        "TIMESTAMP" => Family::Timestamp(6),
        "TIMESTAMP_NS" => Family::Timestamp(9),
        "TIMESTAMP WITH TIME ZONE" => Family::TimestampWithZone,
        other => decimal_scale(other).map_or(Family::Other, |scale| Family::Decimal { scale }),
    }
}

fn decimal_scale(data_type: &str) -> Option<u8> {
    let digits = data_type.strip_prefix("DECIMAL(")?.strip_suffix(')')?;
    digits.split_once(',')?.1.trim().parse().ok()
}

/// Whether a cast keeps every value, or fails where it cannot. A cast that would round, or change what a value means, is not
/// one of them.
pub(crate) fn keeps_values(from: &str, to: &str) -> bool {
    if from == to {
        return true;
    }
    if let (Some(from), Some(to)) = (from.strip_suffix("[]"), to.strip_suffix("[]")) {
        return keeps_values(from, to);
    }
    match (family(from), family(to)) {
        (Family::Integer(_), Family::Integer(_) | Family::Decimal { .. }) => true,
        (Family::Integer(bits) | Family::Float(bits), Family::Float(room)) => bits <= room,
        (Family::Decimal { scale }, Family::Decimal { scale: room }) => scale <= room,
        (Family::Date, Family::Timestamp(_) | Family::TimestampWithZone) => true,
        (Family::Timestamp(digits), Family::Timestamp(room)) => digits <= room,
        // The session's time zone is UTC.
        (Family::Timestamp(digits), Family::TimestampWithZone) => digits <= 6,
        _ => is_text(from) && is_text(to),
    }
}

fn is_text(data_type: &str) -> bool {
    matches!(data_type, "VARCHAR" | "JSON") || data_type.starts_with("ENUM(")
}

/// How a watermark column counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Time,
    Integer,
    /// Decimal or float.
    Fraction,
}

/// How the values of a type grow; `None` for types that no watermark can have.
pub(crate) fn measure(data_type: &str) -> Option<Measure> {
    match family(data_type) {
        Family::Integer(_) => Some(Measure::Integer),
        Family::Decimal { .. } | Family::Float(_) => Some(Measure::Fraction),
        Family::Date | Family::Timestamp(_) | Family::TimestampWithZone => Some(Measure::Time),
        Family::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cast_is_taken_only_where_it_keeps_the_value_or_fails() {
        for (from, to) in [
            ("HUGEINT", "BIGINT"),
            ("BIGINT", "DECIMAL(20,0)"),
            ("INTEGER", "DOUBLE"),
            ("FLOAT", "DOUBLE"),
            ("DECIMAL(12,2)", "DECIMAL(10,4)"),
            ("DATE", "TIMESTAMP"),
            ("TIMESTAMP_S", "TIMESTAMP"),
            ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE"),
            ("JSON", "VARCHAR"),
            ("ENUM('a', 'b')", "VARCHAR"),
            ("INTEGER[]", "BIGINT[]"),
            ("STRUCT(a INTEGER)", "STRUCT(a INTEGER)"),
        ] {
            assert!(keeps_values(from, to), "{from} to {to}");
        }
        for (from, to) in [
            ("BIGINT", "DOUBLE"),
            ("DOUBLE", "FLOAT"),
            ("DOUBLE", "BIGINT"),
            ("DOUBLE", "DECIMAL(12,2)"),
            ("DECIMAL(12,2)", "DOUBLE"),
            ("DECIMAL(12,4)", "DECIMAL(12,2)"),
            ("DECIMAL(12,2)", "BIGINT"),
            ("TIMESTAMP", "DATE"),
            ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP"),
            ("TIMESTAMP_NS", "TIMESTAMP"),
            ("VARCHAR", "INTEGER"),
            ("INTEGER", "VARCHAR"),
            ("BOOLEAN", "INTEGER"),
            ("DOUBLE[]", "BIGINT[]"),
        ] {
            assert!(!keeps_values(from, to), "{from} to {to}");
        }
    }
}
