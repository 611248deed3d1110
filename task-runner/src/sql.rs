//! Text of SQL: quoting what we write, and taking apart what people write. Nothing here ever edits a person's text.

use crate::failure::TaskFailure;

/// An identifier in quotes: `a"b` gives `"a""b"`.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal: `it's` gives `'it''s'`.
#[must_use]
pub fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A list of string literals: `['a', 'b']`.
#[must_use]
pub fn text_list<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", values.into_iter().map(text).collect::<Vec<_>>().join(", "))
}

/// A table's name as a manifest has it, `table` or `schema.table`, quoted below `database`.
#[must_use]
pub fn table(database: &str, name: &str) -> String {
    std::iter::once(database).chain(name.split('.')).map(identifier).collect::<Vec<_>>().join(".")
}

/// Where one statement stands in a text, without the semicolon and what surrounds it.
pub(crate) fn statements(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut end) = (None, 0);
    for token in Tokens::new(sql) {
        match token.kind {
            TokenKind::Semicolon => {
                if let Some(from) = start.take() {
                    found.push(&sql[from..end]);
                }
            }
            TokenKind::Blank => {}
            TokenKind::Word | TokenKind::Other => {
                start.get_or_insert(token.start);
                end = token.end;
            }
        }
    }
    found.extend(start.map(|from| &sql[from..end]));
    found
}

/// The first word of a statement in upper case, open brackets before it left out.
fn first_words(statement: &str) -> (String, String) {
    let mut words = Tokens::new(statement)
        .filter(|token| token.kind == TokenKind::Word)
        .map(|token| statement[token.start..token.end].to_ascii_uppercase());
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

const QUERY_WORDS: [&str; 11] =
    ["SELECT", "WITH", "FROM", "VALUES", "TABLE", "PIVOT", "UNPIVOT", "DESCRIBE", "DESC", "SHOW", "SUMMARIZE"];

/// Queries that can stand in brackets, but not in a COPY.
const QUERY_WORDS_FOR_BRACKETS: [&str; 4] = ["DESCRIBE", "DESC", "SHOW", "SUMMARIZE"];

/// A query that can stand in a COPY.
pub(crate) fn copyable(query: &str) -> std::borrow::Cow<'_, str> {
    let (word, _) = first_words(query);
    if QUERY_WORDS_FOR_BRACKETS.contains(&word.as_str()) { format!("FROM (\n{query}\n)").into() } else { query.into() }
}

/// Statements before a query may make and fill things inside the session; what opens, attaches or configures is ours.
const SETUP_WORDS: [&str; 13] = [
    "CREATE", "INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "DROP", "ALTER", "WITH", "SELECT", "FROM", "ANALYZE",
    "SET",
];

/// The one statement of `sql`, without semicolons and comments after it. `what` names it in errors.
fn single<'a>(sql: &'a str, what: &str) -> Result<&'a str, TaskFailure> {
    match statements(sql).as_slice() {
        [one] => Ok(one),
        [] => Err(TaskFailure::permanent("NotAQuery", format!("{what} holds no statement: write one query"))),
        many => Err(TaskFailure::permanent(
            "TwoStatements",
            format!(
                "{what} holds {} statements, but takes exactly one: statements that must run before it go to `setup`",
                many.len()
            ),
        )),
    }
}

/// The one query of `sql`, ready to be embedded: it returns rows, and ends before any semicolon or comment.
///
/// # Errors
/// `TwoStatements`, or `NotAQuery` for a statement that gives no rows.
pub fn query<'a>(sql: &'a str, what: &str) -> Result<&'a str, TaskFailure> {
    let statement = single(sql, what)?;
    let (word, _) = first_words(statement);
    if QUERY_WORDS.contains(&word.as_str()) {
        return Ok(statement);
    }
    Err(TaskFailure::permanent(
        "NotAQuery",
        format!("{what} starts with {word}, but must be a query that returns rows, such as SELECT, WITH or FROM"),
    ))
}

/// The one setup statement of `sql`.
///
/// # Errors
/// `TwoStatements`, or `NotAllowed` for a statement that reaches outside the session.
pub fn setup<'a>(sql: &'a str, what: &str) -> Result<&'a str, TaskFailure> {
    let statement = single(sql, what)?;
    let words = first_words(statement);
    let refused = match (words.0.as_str(), words.1.as_str()) {
        ("SET", second) => second != "VARIABLE",
        ("CREATE" | "DROP" | "ALTER", _) => names_outside_object(statement),
        (first, _) => !SETUP_WORDS.contains(&first),
    };
    if refused {
        return Err(TaskFailure::permanent(
            "NotAllowed",
            format!(
                "{what} starts with {} {}: setup may create tables, views, macros and types and change rows, but not \
                 attach, load, copy or configure; name connections under `reads` or `writes` instead",
                words.0, words.1
            ),
        ));
    }
    Ok(statement)
}

/// `CREATE OR REPLACE TEMPORARY SECRET IF NOT EXISTS …` and the like.
fn names_outside_object(statement: &str) -> bool {
    Tokens::new(statement)
        .filter(|token| token.kind == TokenKind::Word)
        .map(|token| statement[token.start..token.end].to_ascii_uppercase())
        .skip(1)
        .find(|word| !matches!(word.as_str(), "OR" | "REPLACE" | "TEMP" | "TEMPORARY" | "PERSISTENT"))
        .is_some_and(|word| matches!(word.as_str(), "SECRET" | "DATABASE"))
}

/// The parts of `CREATE … TABLE name AS query`.
pub(crate) struct TableFromQuery<'a> {
    /// `CREATE … TABLE name`.
    pub head: &'a str,
    /// As written, quoted or not.
    pub name: &'a str,
    pub query: &'a str,
}

/// Takes a `CREATE … TABLE name AS query` apart; `None` for any other statement, and for one that lists columns.
pub(crate) fn table_from_query(statement: &str) -> Option<TableFromQuery<'_>> {
    let visible: Vec<_> = Tokens::new(statement).filter(|token| token.kind != TokenKind::Blank).collect();
    let word = |token: &Token| statement[token.start..token.end].to_ascii_uppercase();
    let table = visible
        .iter()
        .take(5)
        .position(|token| word(token) == "TABLE")
        .filter(|_| visible.first().is_some_and(|first| word(first) == "CREATE"))?;
    let skipped =
        visible[table + 1..].iter().take_while(|token| matches!(word(token).as_str(), "IF" | "NOT" | "EXISTS"));
    let first = table + 1 + skipped.count();
    let length = visible[first..].iter().position(|token| word(token) == "AS")?;
    let name = &statement[visible.get(first)?.start..visible[first + length].start];
    let in_name =
        |token: &Token| token.kind == TokenKind::Word || matches!(&statement[token.start..=token.start], "\"" | ".");
    if length == 0 || !visible[first..first + length].iter().all(in_name) {
        return None;
    }
    let query = &statement[visible.get(first + length + 1)?.start..];
    Some(TableFromQuery { head: statement[..visible[first + length].start].trim_end(), name: name.trim_end(), query })
}

/// Whether DuckDB can PREPARE a statement, which is how parameters are bound.
pub(crate) fn takes_parameters(statement: &str) -> bool {
    let (word, _) = first_words(statement);
    matches!(word.as_str(), "COPY" | "INSERT" | "UPDATE" | "DELETE") || QUERY_WORDS.contains(&word.as_str())
}

/// Whether a statement may name parameters. `$` inside a string counts too; DuckDB then finds none.
pub(crate) fn may_name_parameters(sql: &str) -> bool {
    sql.contains('$') || sql.contains('?')
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Whitespace or a comment.
    Blank,
    Semicolon,
    /// A keyword or bare name.
    Word,
    /// Quoted text, or one other character.
    Other,
}

pub struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
}

/// As much of DuckDB's lexer as tells where a statement ends.
pub struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub fn new(sql: &'a str) -> Self {
        Self { sql, at: 0 }
    }

    fn next_length(rest: &str, first: char) -> (TokenKind, usize) {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        if first.is_whitespace() {
            (TokenKind::Blank, rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()))
        } else if rest.starts_with("--") {
            (TokenKind::Blank, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (TokenKind::Blank, block_comment(rest))
        } else if first == ';' {
            (TokenKind::Semicolon, 1)
        } else if matches!(first, '\'' | '"') {
            (TokenKind::Other, quoted(rest, first, false))
        } else if matches!(first, 'e' | 'E') && rest[1..].starts_with('\'') {
            (TokenKind::Other, 1 + quoted(&rest[1..], '\'', true))
        } else if word(first) {
            // A `$` inside a name belongs to the name.
            (TokenKind::Word, rest.find(|c| !word(c) && c != '$').unwrap_or(rest.len()))
        } else if first == '$' {
            (TokenKind::Other, dollar_quoted(rest))
        } else {
            (TokenKind::Other, first.len_utf8())
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let rest = self.sql.get(self.at..)?;
        let (kind, length) = Self::next_length(rest, rest.chars().next()?);
        let start = self.at;
        self.at += length;
        Some(Token { kind, start, end: self.at })
    }
}

/// Length of `/* … */`, which nests.
fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Length of a quoted text from its opening quote; a doubled quote stands for itself.
fn quoted(rest: &str, quote: char, escapes: bool) -> usize {
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if escapes && character == '\\' {
            characters.next();
        } else if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    rest.len()
}

/// Length of `$$ … $$` or `$tag$ … $tag$`; of the dollar alone where it starts a parameter.
fn dollar_quoted(rest: &str) -> usize {
    let Some(name_length) = rest[1..].find(|c: char| !(c.is_alphanumeric() || c == '_')) else { return 1 };
    let (name, tail) = rest[1..].split_at(name_length);
    if !tail.starts_with('$') || name.starts_with(|c: char| c.is_ascii_digit()) {
        return 1;
    }
    let (tag, body) = rest.split_at(name_length + 2);
    body.find(tag).map_or(rest.len(), |at| at + 2 * tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_ends_a_statement_only_outside_of_quotes_and_comments() {
        for one in [
            "SELECT 1",
            "SELECT 1;",
            "SELECT 1 ; -- done; really",
            "/* a; /* b; */ c; */ SELECT ';' AS \"x;y\", E'it\\'s; ok', $$a;b$$, $tag$ $$;$$ $tag$, $p ;;",
            "SELECT $min_quantity",
            "SELECT 'it''s;'",
            "SELECT 1 AS é; ",
        ] {
            assert_eq!(statements(one).len(), 1, "{one}");
        }
        assert_eq!(statements("SELECT 1; SELECT 2 -- x"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(statements("SELECT $a; SELECT $b"), ["SELECT $a", "SELECT $b"]);
        assert_eq!(statements(" -- nothing\n;"), Vec::<&str>::new());
    }

    #[test]
    fn unfinished_quotes_reach_to_the_end_and_never_panic() {
        for sql in ["'", "\"", "/*", "$", "$$", "$a", "$a$", "e'", "e'\\", "E", "é$é$", "$é", "-", "/"] {
            let _ = statements(sql);
        }
    }

    #[test]
    fn only_statements_that_return_rows_are_queries() {
        for sql in [
            "SELECT 1",
            "(SELECT 1)",
            "with a as (select 1) from a",
            "FROM t",
            "VALUES (1)",
            "-- c\nSUMMARIZE t",
            "PIVOT t ON a",
        ] {
            assert!(query(sql, "query").is_ok(), "{sql}");
        }
        for sql in [
            "COPY t TO 'x'",
            "ATTACH 'x'",
            "INSERT INTO t VALUES (1)",
            "CREATE TABLE t(a INT)",
            "SET threads = 1",
            "CALL x()",
        ] {
            assert_eq!(query(sql, "query").unwrap_err().reason, "NotAQuery", "{sql}");
        }
        assert_eq!(query("SELECT 1; SELECT 2", "query").unwrap_err().reason, "TwoStatements");
        assert_eq!(query(" -- ", "query").unwrap_err().reason, "NotAQuery");
    }

    #[test]
    fn a_table_made_from_a_query_is_taken_apart() {
        let parts = |sql| table_from_query(sql).map(|parts| (parts.head, parts.name, parts.query));
        assert_eq!(
            parts("CREATE OR REPLACE TEMP TABLE a.\"b as\" AS -- c\n SELECT 1 AS x"),
            Some(("CREATE OR REPLACE TEMP TABLE a.\"b as\"", "a.\"b as\"", "SELECT 1 AS x"))
        );
        assert_eq!(
            parts("create table if not exists t as from x"),
            Some(("create table if not exists t", "t", "from x"))
        );
        for other in [
            "CREATE TABLE t (a INT)",
            "CREATE VIEW v AS SELECT 1",
            "SELECT 1 AS t",
            "CREATE TABLE t(a) AS SELECT 1",
            "CREATE TABLE",
            "CREATE TABLE t AS",
            "",
        ] {
            assert_eq!(parts(other), None, "{other}");
        }
    }

    #[test]
    fn setup_statements_stay_inside_the_session() {
        for sql in [
            "CREATE TEMP TABLE t AS SELECT 1",
            "CREATE OR REPLACE MACRO f(x) AS x",
            "SET VARIABLE a = 1",
            "INSERT INTO t VALUES (1)",
        ] {
            assert!(setup(sql, "setup").is_ok(), "{sql}");
        }
        for sql in [
            "CREATE SECRET (TYPE s3)",
            "create or replace temporary secret x (TYPE s3)",
            "DROP SECRET x",
            "SET threads = 1",
            "RESET threads",
            "PRAGMA x",
            "ATTACH 'x'",
            "DETACH x",
            "COPY t TO 'x'",
            "LOAD httpfs",
            "INSTALL httpfs",
            "EXPORT DATABASE 'x'",
            "CALL enable_logging()",
        ] {
            assert_eq!(setup(sql, "setup").unwrap_err().reason, "NotAllowed", "{sql}");
        }
    }
}
