//! The types that Parquet keeps, and how results get there without losing a value.
//!
//! DuckDB would write a HUGEINT, the type of `sum(BIGINT)`, as a DOUBLE, which rounds above 2^53. Results are cast to the
//! delivered types first, so that what a query is inferred to give is what its file has.

use pintail_protocol::ResultColumn;

use crate::sql::identifier;

/// The type that a column of a result's file has.
#[must_use]
pub fn delivered(data_type: &str) -> String {
    if let Some(open) = data_type.strip_suffix(']').and_then(|list| list.rfind('[')) {
        return format!("{}[]", delivered(&data_type[..open]));
    }
    if let Some(members) = inside(data_type, "STRUCT(") {
        let members: Vec<String> = split(members).into_iter().map(member).collect();
        return format!("STRUCT({})", members.join(", "));
    }
    if let Some(members) = inside(data_type, "MAP(") {
        let types: Vec<String> = split(members).into_iter().map(delivered).collect();
        return format!("MAP({})", types.join(", "));
    }
    let kept = match data_type {
        "HUGEINT" | "UHUGEINT" => "DECIMAL(38,0)",
        "TIMESTAMP_S" | "TIMESTAMP_MS" => "TIMESTAMP",
        "BIT" | "BIGNUM" | "TIME_NS" => "VARCHAR",
        "GEOMETRY" => "BLOB",
        "\"NULL\"" => "INTEGER",
        other if other.starts_with("ENUM(") => "VARCHAR",
        other if other.starts_with("UNION(") => "JSON",
        other => other,
    };
    kept.to_owned()
}

/// The columns of a result's file, for those of its query.
#[must_use]
pub fn delivered_columns(columns: &[ResultColumn]) -> Vec<ResultColumn> {
    let one =
        |column: &ResultColumn| ResultColumn { name: column.name.clone(), data_type: delivered(&column.data_type) };
    columns.iter().map(one).collect()
}

/// The query with its columns in their delivered types; `None` where they are so already.
pub(crate) fn deliver(query: &str, columns: &[ResultColumn]) -> Option<String> {
    let delivered = delivered_columns(columns);
    if delivered == columns {
        return None;
    }
    let list: Vec<String> = columns
        .iter()
        .zip(&delivered)
        .map(|(found, wanted)| {
            let name = identifier(&found.name);
            // DuckDB's writer knows how.
            if found == wanted || found.data_type == "GEOMETRY" || found.data_type == "\"NULL\"" {
                return name;
            }
            format!("CAST({name} AS {}) AS {name}", wanted.data_type)
        })
        .collect();
    Some(format!("SELECT {} FROM (\n{query}\n)", list.join(", ")))
}

fn inside<'a>(data_type: &'a str, start: &str) -> Option<&'a str> {
    data_type.strip_prefix(start)?.strip_suffix(')')
}

/// `name TYPE`; a struct of `row(…)` has no names.
fn member(text: &str) -> String {
    let name_length = match text.strip_prefix('"') {
        Some(rest) => {
            let mut end = 0;
            while rest[end..].starts_with("\"\"") || !rest[end..].starts_with('"') {
                let skipped = if rest[end..].starts_with("\"\"") {
                    2
                } else {
                    rest[end..].chars().next().map_or(0, char::len_utf8)
                };
                if skipped == 0 {
                    return text.to_owned();
                }
                end += skipped;
            }
            end + 2
        }
        None => text.find([' ', '(']).unwrap_or(text.len()),
    };
    match text[name_length..].strip_prefix(' ') {
        Some(data_type) if !data_type.starts_with("WITH ") => {
            format!("{} {}", &text[..name_length], delivered(data_type))
        }
        _ => delivered(text),
    }
}

/// The parts between commas, but for those in brackets and quotes.
fn split(members: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, char) in members.char_indices() {
        match (quote, char) {
            (Some(open), char) if open == char => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(char),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(members[start..at].trim());
                start = at + 1;
            }
            (None, _) => {}
        }
    }
    parts.push(members[start..].trim());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_parquet_lacks_become_others_at_any_depth() {
        for (found, kept) in [
            ("BIGINT", "BIGINT"),
            ("DECIMAL(12,2)", "DECIMAL(12,2)"),
            ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE"),
            ("HUGEINT", "DECIMAL(38,0)"),
            ("HUGEINT[]", "DECIMAL(38,0)[]"),
            ("INTEGER[3]", "INTEGER[]"),
            ("HUGEINT[2][]", "DECIMAL(38,0)[][]"),
            ("ENUM('a', ',)')", "VARCHAR"),
            (
                "STRUCT(a HUGEINT, \"b, \"\"c\" ENUM('x)'), d STRUCT(e DECIMAL(4,1)))",
                "STRUCT(a DECIMAL(38,0), \"b, \"\"c\" VARCHAR, d STRUCT(e DECIMAL(4,1)))",
            ),
            (
                "STRUCT(INTEGER, TIMESTAMP WITH TIME ZONE, HUGEINT)",
                "STRUCT(INTEGER, TIMESTAMP WITH TIME ZONE, DECIMAL(38,0))",
            ),
            ("MAP(VARCHAR, HUGEINT)", "MAP(VARCHAR, DECIMAL(38,0))"),
            ("MAP(VARCHAR, STRUCT(a TIMESTAMP_S))", "MAP(VARCHAR, STRUCT(a TIMESTAMP))"),
            ("UNION(a INTEGER, b VARCHAR)", "JSON"),
        ] {
            assert_eq!(delivered(found), kept);
        }
    }
}
