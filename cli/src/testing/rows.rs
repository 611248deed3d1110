//! Expected and found rows as texts of the same columns, and their differences for people and programs.

use pintail_api as api;
use pintail_plan::FieldPath;
use pintail_protocol::ResultColumn;
use pintail_task_runner::fixture::TableReader;
use pintail_task_runner::session::TextTable;
use serde_json::Value;

use super::compare::{Column, Rows, compare};
use super::{Detail, Difference, Failure};

/// A value, and whether it is written without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `None` is NULL.
    pub text: Option<String>,
    pub is_bare: bool,
}

/// Columns and their values.
pub type Row = Vec<(String, Shown)>;

impl Shown {
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), is_bare: false }
    }

    pub fn bare(text: impl ToString) -> Self {
        Self { text: Some(text.to_string()), is_bare: true }
    }

    fn of(column: &Column, cell: &Option<String>) -> Self {
        const BARE: [&str; 16] = [
            "BIGINT",
            "BOOLEAN",
            "DECIMAL",
            "DOUBLE",
            "FLOAT",
            "HUGEINT",
            "INTEGER",
            "SMALLINT",
            "TINYINT",
            "UBIGINT",
            "UHUGEINT",
            "UINTEGER",
            "USMALLINT",
            "UTINYINT",
            "BIGNUM",
            "BIT",
        ];
        let name = column.data_type.split('(').next().unwrap_or_default();
        Self { text: cell.clone(), is_bare: BARE.contains(&name) }
    }
}

/// How expected rows differ from a table; nothing where they do not.
pub fn difference(
    expectation: &api::Expectation,
    table: &TextTable,
    path: &FieldPath,
    reader: &TableReader,
) -> Option<Failure> {
    let rows = expectation.rows.as_deref().unwrap_or_default();
    let of_output = match &expectation.output {
        Some(output) => format!("task `{}`, output `{output}`", expectation.task),
        None => format!("task `{}`", expectation.task),
    };
    let path = path.field("rows");
    let chosen = match chosen(rows, table) {
        Ok(chosen) => chosen,
        Err(names) => {
            let there: Vec<String> = table.columns.iter().map(|column| format!("`{}`", column.name)).collect();
            let message = format!("{of_output} gives no column {}; it gives {}", names.join(", "), there.join(", "));
            return Some(Failure::new(path, message));
        }
    };
    let expected = match expected(rows, &chosen, table, reader) {
        Ok(expected) => expected,
        Err(Unfit { position, column, data_type, value }) => {
            let message = format!("{of_output} gives `{column}` as {data_type}, and the expected {value} is none");
            return Some(Failure::new(path.index(position).field(&column), message));
        }
    };
    let found = Rows {
        columns: expected.columns.clone(),
        rows: table.rows.iter().map(|row| chosen.iter().map(|at| row[*at].clone()).collect()).collect(),
    };
    told(&expected, &found, expectation, &of_output, path)
}

/// Positions of the table's columns that the rows name, in the table's order: all where there is no row.
fn chosen(rows: &[api::Row], table: &TextTable) -> Result<Vec<usize>, Vec<String>> {
    let mut missing: Vec<String> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        let quoted = format!("`{name}`");
        if !table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name)) && !missing.contains(&quoted) {
            missing.push(quoted);
        }
    }
    if !missing.is_empty() {
        return Err(missing);
    }
    let is_named = |column: &ResultColumn| {
        rows.is_empty() || rows.iter().any(|row| row.keys().any(|name| name.eq_ignore_ascii_case(&column.name)))
    };
    Ok((0..table.columns.len()).filter(|at| is_named(&table.columns[*at])).collect())
}

/// An expected value that is none of its column's type.
struct Unfit {
    position: usize,
    column: String,
    data_type: String,
    value: String,
}

fn expected(rows: &[api::Row], chosen: &[usize], table: &TextTable, reader: &TableReader) -> Result<Rows, Unfit> {
    const NULL: Value = Value::Null;
    let columns: Vec<ResultColumn> = chosen.iter().map(|at| table.columns[*at].clone()).collect();
    let given: Vec<Vec<&Value>> = rows
        .iter()
        .map(|row| {
            let value = |column: &ResultColumn| {
                row.iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(&column.name))
                    .map_or(&NULL, |(_, value)| &value.0)
            };
            columns.iter().map(value).collect()
        })
        .collect();
    let mut texts = Vec::new();
    for (position, row) in reader.values(&columns, &given).into_iter().enumerate() {
        let mut cells = Vec::new();
        for (at, cell) in row.into_iter().enumerate() {
            cells.push(cell.map_err(|()| Unfit {
                position,
                column: columns[at].name.clone(),
                data_type: columns[at].data_type.clone(),
                value: given[position][at].to_string(),
            })?);
        }
        texts.push(cells);
    }
    let columns = columns.into_iter().map(|column| Column { name: column.name, data_type: column.data_type });
    Ok(Rows { columns: columns.collect(), rows: texts })
}

/// The difference in words and details.
fn told(
    expected: &Rows,
    found: &Rows,
    expectation: &api::Expectation,
    of_output: &str,
    path: FieldPath,
) -> Option<Failure> {
    let difference = compare(expected, found, expectation.in_order.unwrap_or_default());
    if difference.is_none() {
        return None;
    }
    let columns = &expected.columns;
    if let Some((position, place)) = difference.order {
        let message = format!(
            "{of_output} gives the right rows in another order: expected row {} came as row {}",
            position + 1,
            place + 1
        );
        let mut failure = Failure::new(path.index(position), message);
        failure.details = vec![Detail::Missing { position, row: row(columns, &expected.rows[position]) }];
        return Some(failure);
    }
    let counts = [
        (difference.differing.len(), "differs", "differ"),
        (difference.missing.len(), "is missing", "are missing"),
        (difference.unexpected.len(), "is unexpected", "are unexpected"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, several)| format!("{count} {}", if *count == 1 { one } else { several }))
        .collect();
    let message = format!(
        "{of_output}: {} expected, {} found; {}",
        count_of(expected.rows.len()),
        found.rows.len(),
        counts.join(", ")
    );
    let mut failure = Failure::new(path, message);
    for differing in &difference.differing {
        let (one, other) = (&expected.rows[differing.expected], &found.rows[differing.found]);
        let equal = row(columns, one).into_iter().enumerate();
        let equal = equal.filter(|(at, _)| !differing.columns.contains(at)).map(|(_, cell)| cell).collect();
        let value = |at: &usize| Difference {
            name: columns[*at].name.clone(),
            expected: Shown::of(&columns[*at], &one[*at]),
            found: Shown::of(&columns[*at], &other[*at]),
        };
        let values = differing.columns.iter().map(value).collect();
        failure.details.push(Detail::Differs { position: differing.expected, equal, values });
    }
    let missing = difference.missing.iter();
    failure.details.extend(missing.map(|at| Detail::Missing { position: *at, row: row(columns, &expected.rows[*at]) }));
    let unexpected = difference.unexpected.iter();
    failure.details.extend(unexpected.map(|at| Detail::Unexpected { row: row(columns, &found.rows[*at]) }));
    Some(failure)
}

fn row(columns: &[Column], cells: &[Option<String>]) -> Row {
    columns.iter().zip(cells).map(|(column, cell)| (column.name.clone(), Shown::of(column, cell))).collect()
}

fn count_of(rows: usize) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}
