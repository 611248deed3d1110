//! Names for messages: the nearest to a wrong one, and lists of what is there.

use pintail_protocol::ResultColumn;

/// How many names a message lists.
const SHOWN: usize = 10;

/// The candidate that `name` was most likely meant to be.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let edits = match wanted.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    let loose = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let distance = |candidate: &str| {
        let lower = candidate.to_lowercase();
        if loose(candidate) == loose(name) {
            0
        } else if lower == format!("{wanted}s") || wanted == format!("{lower}s") {
            1
        } else {
            strsim::osa_distance(&lower, &wanted)
        }
    };
    let near = candidates.into_iter().filter(|candidate| candidate.len().abs_diff(name.len()) <= 3);
    near.map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= edits)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `` `a` BIGINT, `b` VARCHAR and 3 more ``
pub(super) fn typed(columns: &[ResultColumn]) -> String {
    list(columns.iter().map(|column| format!("`{}` {}", column.name, shortened(&column.data_type))).collect())
}

pub(super) fn list(names: Vec<String>) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    match more {
        0 if shown.is_empty() => "none".to_owned(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A type as a message shows it.
pub(super) fn shortened(data_type: &str) -> String {
    const LETTERS: usize = 40;
    if data_type.chars().count() <= LETTERS {
        return data_type.to_owned();
    }
    data_type.chars().take(LETTERS).collect::<String>() + "…"
}

pub(super) fn find<'a>(columns: &'a [ResultColumn], name: &str) -> Option<&'a ResultColumn> {
    columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
}

/// `` `name` ``, or in double quotes where SQL needs them.
pub(super) fn quoted(name: &str) -> String {
    let plain = name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
        && !name.starts_with(|char: char| char.is_ascii_digit());
    if plain { format!("`{name}`") } else { format!("`{}`", crate::sql::identifier(name)) }
}

pub(super) fn is_number(data_type: &str) -> bool {
    const NUMBERS: [&str; 16] = [
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "HUGEINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "UHUGEINT",
        "FLOAT",
        "DOUBLE",
        "BIGNUM",
        "INTEGER_LITERAL",
        "DECIMAL",
        "NUMERIC",
    ];
    NUMBERS.contains(&data_type) || data_type.starts_with("DECIMAL(")
}
