//! Expected rows against those that came out: which are missing, which are unexpected, and which differ in what. Pure.
//!
//! ```text
//! equal rows go ─> what is left is paired by likeness ─> pairs differ in columns, the rest is missing or unexpected
//! ```

use std::collections::HashMap;

/// A value as DuckDB writes it; `None` is NULL.
pub type Cell = Option<String>;

/// Rows of the same columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// DuckDB type.
    pub data_type: String,
}

/// What is different. Positions count from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Positions of expected rows that are not there.
    pub missing: Vec<usize>,
    /// Positions of rows that are there and not expected.
    pub unexpected: Vec<usize>,
    pub differing: Vec<Differing>,
    /// Where the rows are the same and their order is not: the first expected row that stands elsewhere, and where.
    pub order: Option<(usize, usize)>,
}

/// Two rows that are most likely meant to be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    pub expected: usize,
    pub found: usize,
    /// Positions of the columns that differ.
    pub columns: Vec<usize>,
}

impl Difference {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Both have the same columns.
pub fn compare(expected: &Rows, found: &Rows, in_order: bool) -> Difference {
    let columns = &expected.columns;
    let mut matched: Vec<(usize, usize)> = Vec::new();
    let mut left = Vec::new();
    let mut places: HashMap<&[Cell], Vec<usize>> = HashMap::new();
    for (position, row) in found.rows.iter().enumerate().rev() {
        places.entry(row).or_default().push(position);
    }
    for (position, row) in expected.rows.iter().enumerate() {
        match places.get_mut(row.as_slice()).and_then(Vec::pop) {
            Some(place) => matched.push((position, place)),
            None => left.push(position),
        }
    }
    let mut others: Vec<usize> = places.into_values().flatten().collect();
    others.sort_unstable();
    let mut difference = Difference::default();
    for (one, other) in pair(&left, &others, expected, found) {
        left.retain(|position| *position != one);
        others.retain(|position| *position != other);
        let differs = differing_columns(columns, &expected.rows[one], &found.rows[other]);
        if differs.is_empty() {
            matched.push((one, other));
        } else {
            difference.differing.push(Differing { expected: one, found: other, columns: differs });
        }
    }
    difference.differing.sort_by_key(|differing| differing.expected);
    (difference.missing, difference.unexpected) = (left, others);
    if in_order && difference.is_none() {
        matched.sort_unstable();
        difference.order = matched.into_iter().find(|(position, place)| position != place);
    }
    difference
}

/// Rows that are most alike, each at most once: half of the columns are equal, or the first, which often tells rows
/// apart, or any where no other row is left. A table of one row has no other that could be meant.
fn pair(left: &[usize], others: &[usize], expected: &Rows, found: &Rows) -> Vec<(usize, usize)> {
    /// Beyond, rows are only listed: nobody reads so many pairs.
    const PAIRED_MAX: usize = 1000;
    if let ([one], [other], 1, 1) = (left, others, expected.rows.len(), found.rows.len()) {
        return vec![(*one, *other)];
    }
    let is_lone = left.len() == 1 && others.len() == 1;
    let columns = &expected.columns;
    let mut likely = Vec::new();
    for one in left.iter().take(PAIRED_MAX) {
        for other in others.iter().take(PAIRED_MAX) {
            let differs = differing_columns(columns, &expected.rows[*one], &found.rows[*other]);
            let equal = columns.len() - differs.len();
            let same_first = !differs.contains(&0);
            if equal > 0 && (equal * 2 >= columns.len() || same_first || is_lone) {
                likely.push((differs.len(), !same_first, one.abs_diff(*other), *one, *other));
            }
        }
    }
    likely.sort_unstable();
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (.., one, other) in likely {
        if !pairs.iter().any(|(left, right)| *left == one || *right == other) {
            pairs.push((one, other));
        }
    }
    pairs
}

fn differing_columns(columns: &[Column], one: &[Cell], other: &[Cell]) -> Vec<usize> {
    let differs = |(position, column): (usize, &Column)| {
        let (one, other) = (one.get(position)?, other.get(position)?);
        (!is_equal(&column.data_type, one.as_deref(), other.as_deref())).then_some(position)
    };
    columns.iter().enumerate().filter_map(differs).collect()
}

/// Floats are equal to nine digits: their last ones depend on the order in which they are added.
fn is_equal(data_type: &str, one: Option<&str>, other: Option<&str>) -> bool {
    const PRECISION: f64 = 1e-9;
    if one == other {
        return true;
    }
    let (Some(one), Some(other), "DOUBLE" | "FLOAT") = (one, other, data_type) else { return false };
    match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => (one - other).abs() <= PRECISION * one.abs().max(other.abs()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[&str; 3]]) -> Rows {
        let column =
            |(name, data_type): (&str, &str)| Column { name: name.to_owned(), data_type: data_type.to_owned() };
        let cell = |text: &&str| (*text != "NULL").then(|| (*text).to_owned());
        Rows {
            columns: [("code", "VARCHAR"), ("pieces", "BIGINT"), ("mean", "DOUBLE")].map(column).to_vec(),
            rows: rows.iter().map(|row| row.iter().map(cell).collect()).collect(),
        }
    }

    #[test]
    fn equal_rows_in_any_order_do_not_differ() {
        let expected = rows(&[["a", "1", "0.3"], ["b", "2", "NULL"], ["a", "1", "0.3"]]);
        let found = rows(&[["b", "2", "NULL"], ["a", "1", "0.30000000000000004"], ["a", "1", "0.3"]]);
        assert!(compare(&expected, &found, false).is_none());
        assert_eq!(compare(&expected, &found, true).order, Some((0, 2)));
    }

    #[test]
    fn likely_rows_are_compared_by_column_and_others_are_missing_or_unexpected() {
        let expected = rows(&[["a", "1", "1.0"], ["b", "2", "2.0"], ["c", "3", "3.0"]]);
        let found = rows(&[["b", "9", "8.0"], ["c", "3", "3.0"], ["x", "7", "7.0"]]);
        let difference = compare(&expected, &found, true);
        assert_eq!(difference.differing, [Differing { expected: 1, found: 0, columns: vec![1, 2] }]);
        assert_eq!((difference.missing, difference.unexpected, difference.order), (vec![0], vec![2], None));
    }

    #[test]
    fn a_row_that_comes_too_often_is_unexpected() {
        let difference = compare(&rows(&[["a", "1", "1.0"]]), &rows(&[["a", "1", "1.0"], ["a", "1", "1.0"]]), false);
        assert_eq!(difference, Difference { unexpected: vec![1], ..Difference::default() });
    }

    #[test]
    fn a_table_of_one_row_is_compared_by_column_whatever_it_holds() {
        let difference = compare(&rows(&[["a", "1", "1.0"]]), &rows(&[["b", "2", "NULL"]]), false);
        assert_eq!(difference.differing, [Differing { expected: 0, found: 0, columns: vec![0, 1, 2] }]);
        let expected = rows(&[["c", "3", "3.0"], ["a", "1", "1.0"]]);
        let difference = compare(&expected, &rows(&[["c", "3", "3.0"], ["b", "2", "NULL"]]), false);
        assert_eq!((difference.missing, difference.unexpected), (vec![1], vec![1]));
    }

    #[test]
    fn null_is_equal_to_null_alone() {
        assert!(is_equal("BIGINT", None, None) && !is_equal("DOUBLE", None, Some("0.0")));
        assert!(
            !is_equal("DECIMAL(9,2)", Some("1.00"), Some("1.0")) && !is_equal("DOUBLE", Some("1"), Some("1.00001"))
        );
    }
}
