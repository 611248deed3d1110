//! What may be a name.

use crate::Rule;
use crate::problem::{FieldPath, Problem};

const NAME_BYTES_MAX: usize = 40;

/// Words that DuckDB 1.5 takes as no name of a view, a database or a parameter without quotes (found by trying all of
/// its keywords), and its database and schema names.
#[rustfmt::skip]
const SQL_WORDS: &[&str] = &[
    "all", "analyse", "analyze", "and", "anti", "any", "array", "as", "asc", "asof", "asymmetric", "at",
    "authorization", "binary", "both", "by", "case", "cast", "check", "collate", "collation", "column",
    "concurrently", "constraint", "create", "cross", "default", "deferrable", "desc", "describe", "distinct", "do",
    "else", "end", "except", "false", "fetch", "for", "foreign", "freeze", "from", "full", "glob", "group", "having",
    "ilike", "in", "information_schema", "initially", "inner", "intersect", "into", "is", "isnull", "join", "lambda",
    "lateral", "leading", "left", "like", "limit", "main", "memory", "natural", "not", "notnull", "null", "offset",
    "on", "only", "or", "order", "outer", "overlaps", "pg_catalog", "pivot", "pivot_longer", "pivot_wider", "placing",
    "positional", "primary", "qualify", "references", "returning", "right", "select", "semi", "show", "similar",
    "some", "summarize", "symmetric", "system", "table", "tablesample", "temp", "then", "to", "trailing", "true",
    "union", "unique", "unpack", "unpivot", "using", "variadic", "verbose", "when", "where", "window", "with",
];

#[rustfmt::skip]
const CEL_WORDS: &[&str] = &[
    "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
    "namespace", "null", "package", "return", "true", "var", "void", "while",
];

const YAML_WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Fields that expressions read of a task, and so no names of its further outputs.
const RESULT_FIELDS: &[&str] = &["result", "rows", "bytes", "uri", "files", "load"];

/// Checks a name of an input, a task, a connection, an output or a dataset. `what` is one of these words.
pub(crate) fn check(name: &str, what: &str, path: &FieldPath) -> Option<Problem> {
    if !is_name(name) {
        let message = format!(
            "`{}` is no name of {}: 1 to {NAME_BYTES_MAX} lower-case letters, digits and `_`, a letter first, no `_` last",
            crate::problem::excerpt(name),
            with_article(what)
        );
        let meant = mend(name).filter(|meant| meant != name).map(|meant| format!("`{meant}`"));
        return Some(Problem::new(Rule::InvalidName, path.clone(), message).suggest(meant));
    }
    let whose = if YAML_WORDS.contains(&name) {
        "YAML"
    } else if SQL_WORDS.contains(&name) {
        "SQL"
    } else if CEL_WORDS.contains(&name) {
        "CEL"
    } else {
        return None;
    };
    let message = format!("`{name}` is a word of {whose} and cannot be the name of {}", with_article(what));
    let suggestion = if name.len() > 2 { format!("`{name}s` or `{name}_1`") } else { format!("`{name}_1`") };
    Some(Problem::new(Rule::ReservedName, path.clone(), message).suggest(Some(suggestion)))
}

/// As [`check`], for a name that neither SQL nor expressions ever see.
pub(crate) fn check_plain(name: &str, what: &str, path: &FieldPath) -> Option<Problem> {
    check(name, what, path).filter(|problem| problem.rule == Rule::InvalidName)
}

/// As [`check`], for a further output of a task.
pub(super) fn check_output(name: &str, path: &FieldPath) -> Option<Problem> {
    if RESULT_FIELDS.contains(&name) {
        let message = format!("`{name}` is what expressions read of every task and cannot be the name of an output");
        return Some(Problem::new(Rule::ReservedName, path.clone(), message));
    }
    check(name, "output", path)
}

/// Checks `metadata.name`. Its length is the business of the kind's own rule.
pub(crate) fn object_name_problem(name: &str, kind: &str, path: &FieldPath) -> Option<Problem> {
    let is_label = !name.is_empty()
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !is_label {
        let message = format!(
            "`{}` is no name of an object: lower-case letters, digits and `-`, no `-` first or last",
            crate::problem::excerpt(name)
        );
        let meant: String = name
            .chars()
            .map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '-' })
            .collect();
        let meant = Some(meant.trim_matches('-')).filter(|meant| !meant.is_empty()).map(|meant| format!("`{meant}`"));
        return Some(Problem::new(Rule::ObjectName, path.clone(), message).suggest(meant));
    }
    if kind != "Connection" {
        return None;
    }
    let sql_name = name.replace('-', "_");
    check(&sql_name, "connection", path).map(|problem| {
        let message = format!("in SQL the connection is `{sql_name}`, which cannot be: {}", problem.message);
        Problem { rule: Rule::ObjectName, message, suggestion: None, ..problem }
    })
}

fn with_article(what: &str) -> String {
    let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {what}")
}

pub(super) fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|char: char| char.is_ascii_lowercase())
        && !name.ends_with('_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A name that is right and close.
fn mend(name: &str) -> Option<String> {
    let letters: String = name
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '_' })
        .take(NAME_BYTES_MAX)
        .collect();
    let mended = letters.trim_matches('_').trim_start_matches(|char: char| char.is_ascii_digit() || char == '_');
    is_name(mended).then(|| mended.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_need_quotes_in_sql_are_refused_with_one_that_does_not() {
        let suggestion = |name| check(name, "task", &FieldPath::root()).map(|problem| problem.suggestion);
        assert_eq!(suggestion("trends_2024"), None);
        assert_eq!(suggestion("Sales-2024"), Some(Some("`sales_2024`".to_owned())));
        assert_eq!(suggestion("2nd"), Some(Some("`nd`".to_owned())));
        assert_eq!(suggestion("ü"), Some(None));
        assert_eq!(suggestion("order"), Some(Some("`orders` or `order_1`".to_owned())));
        assert_eq!(suggestion("in"), Some(Some("`in_1`".to_owned())));
        assert!(suggestion("a_").is_some() && suggestion("").is_some() && suggestion(&"a".repeat(41)).is_some());
    }
}
