//! Names in SQL, found by DuckDB's tokens alone: text that is being written cannot be parsed.

use pintail_protocol::ResultColumn;
use pintail_task_runner::{Token, TokenKind, Tokens};

use crate::lsp::knowledge::{Relation, Scope};

/// What is behind a relation and no other name of it.
const NO_ALIASES: [&str; 43] = [
    "AND",
    "ANTI",
    "ASOF",
    "CROSS",
    "ELSE",
    "END",
    "EXCEPT",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERSECT",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIMIT",
    "NATURAL",
    "NOT",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "PIVOT",
    "POSITIONAL",
    "QUALIFY",
    "RETURNING",
    "RIGHT",
    "SAMPLE",
    "SELECT",
    "SEMI",
    "SET",
    "TABLESAMPLE",
    "THEN",
    "UNION",
    "UNPIVOT",
    "USING",
    "VALUES",
    "WHERE",
    "WINDOW",
];

/// What may be written at a place.
#[derive(Debug, PartialEq, Eq)]
pub enum Context {
    /// In a comment or a text.
    Nothing,
    /// Behind `$`.
    Parameter,
    /// Behind these names and a dot.
    Member(Vec<String>),
    /// Behind FROM or JOIN.
    Relation,
    Any,
}

/// What a name means.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    Parameter(&'a str, &'a str),
    Database(&'a str),
    Relation(&'a Relation),
    /// Of each relation that has one of that name.
    Columns(Vec<(&'a Relation, &'a ResultColumn)>),
}

/// The words of a text, and what is between them; no blanks.
struct Words<'a> {
    sql: &'a str,
    tokens: Vec<Token>,
}

impl<'a> Words<'a> {
    fn new(sql: &'a str) -> Self {
        Self { sql, tokens: Tokens::new(sql).filter(|token| token.kind != TokenKind::Blank).collect() }
    }

    fn text(&self, index: usize) -> &'a str {
        self.tokens.get(index).map_or("", |token| &self.sql[token.start..token.end])
    }

    fn is(&self, index: usize, word: &str) -> bool {
        self.text(index).eq_ignore_ascii_case(word)
    }

    /// A name without its quotes.
    fn name(&self, index: usize) -> Option<String> {
        let token = self.tokens.get(index)?;
        let text = self.text(index);
        let quoted = text.strip_prefix('"').map(|text| text.strip_suffix('"').unwrap_or(text).replace("\"\"", "\""));
        quoted.or_else(|| (token.kind == TokenKind::Word).then(|| text.to_owned()))
    }

    /// The names with dots between them that end before a token.
    fn names_before(&self, index: usize) -> Vec<String> {
        let mut names = Vec::new();
        let mut end = index;
        while end >= 2
            && self.text(end - 1) == "."
            && let Some(name) = self.name(end - 2)
        {
            names.insert(0, name);
            end -= 2;
        }
        names
    }

    /// Whether a relation's names stand from a token on; how many tokens they are.
    fn relation_at(&self, index: usize, relation: &Relation) -> Option<usize> {
        let parts: Vec<&str> = relation.name.split('.').collect();
        for (position, part) in parts.iter().enumerate() {
            let name = self.name(index + 2 * position)?;
            let is_joined = position == 0 || self.text(index + 2 * position - 1) == ".";
            if !is_joined || !name.eq_ignore_ascii_case(part) {
                return None;
            }
        }
        Some(2 * parts.len() - 1)
    }
}

/// The relations that a text names, each by what it is called there.
fn mentioned<'a>(words: &Words<'_>, scope: &'a Scope) -> Vec<(String, &'a Relation)> {
    let mut found = Vec::new();
    for index in 0..words.tokens.len() {
        let length = |relation: &'a Relation| Some((relation, words.relation_at(index, relation)?));
        // `b` of `a.b` is another thing.
        if index > 0 && words.text(index - 1) == "." {
            continue;
        }
        let Some((relation, length)) = scope.relations.iter().filter_map(length).max_by_key(|(_, length)| *length)
        else {
            continue;
        };
        // `a.b` is a column, where `a` is a relation.
        if words.text(index + length) == "." {
            continue;
        }
        let behind = index + length + usize::from(words.is(index + length, "AS"));
        let alias = words.name(behind).filter(|name| !NO_ALIASES.iter().any(|word| name.eq_ignore_ascii_case(word)));
        let own = relation.name.rsplit('.').next().unwrap_or_default().to_owned();
        found.push((alias.unwrap_or(own), relation));
    }
    found
}

/// The columns of a name with these names before it.
fn called<'a>(names: &[String], mentioned: &[(String, &'a Relation)], scope: &'a Scope) -> Option<&'a Relation> {
    let full = names.join(".");
    let by_alias = mentioned.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(&full)).map(|(_, relation)| *relation);
    by_alias.or_else(|| scope.relations.iter().find(|relation| relation.name.eq_ignore_ascii_case(&full)))
}

/// What the name at a place means.
pub fn meaning<'a>(sql: &str, offset: usize, scope: &'a Scope) -> Option<Meaning<'a>> {
    let words = Words::new(sql);
    let touches = |token: &Token| token.start <= offset && offset <= token.end;
    let index =
        (0..words.tokens.len()).rfind(|index| touches(&words.tokens[*index]) && words.name(*index).is_some())?;
    let name = words.name(index)?;
    if index > 0 && words.text(index - 1) == "$" {
        let found = scope.parameters.iter().find(|(parameter, _)| *parameter == name);
        return found.map(|(name, data_type)| Meaning::Parameter(name, data_type));
    }
    let mut names = words.names_before(index);
    let mentioned = mentioned(&words, scope);
    let column_of = |relation: &'a Relation| {
        let column = relation.columns.iter().flatten().find(|column| column.name.eq_ignore_ascii_case(&name))?;
        Some((relation, column))
    };
    if let Some(relation) = called(&names, &mentioned, scope).filter(|_| !names.is_empty()) {
        return column_of(relation).map(|found| Meaning::Columns(vec![found]));
    }
    names.push(name.clone());
    if let Some(relation) = called(&names, &mentioned, scope) {
        return Some(Meaning::Relation(relation));
    }
    if let Some(database) = scope.databases.iter().find(|database| names.len() == 1 && **database == name) {
        return Some(Meaning::Database(database));
    }
    let mut relations: Vec<&Relation> = Vec::new();
    mentioned.iter().for_each(|(_, relation)| {
        if !relations.contains(relation) {
            relations.push(relation);
        }
    });
    let mut columns: Vec<_> = relations.into_iter().filter_map(column_of).collect();
    if columns.is_empty() {
        columns = scope.results.iter().filter_map(column_of).collect();
    }
    (!columns.is_empty()).then_some(Meaning::Columns(columns))
}

/// What may be written at a place.
pub fn context(sql: &str, offset: usize) -> Context {
    let before = sql.get(..offset).unwrap_or(sql);
    if let Some(last) = Tokens::new(before).last() {
        let text = &before[last.start..];
        let is_comment =
            (text.starts_with("--") && !text.ends_with('\n')) || (text.starts_with("/*") && !text.ends_with("*/"));
        let is_open = |quote: char| text.starts_with(quote) && (text.len() == 1 || !text.ends_with(quote));
        if is_comment || is_open('\'') || is_open('"') {
            return Context::Nothing;
        }
    }
    let words = Words::new(before);
    let in_word = words.tokens.last().is_some_and(|last| last.kind == TokenKind::Word && last.end == before.len());
    let end = words.tokens.len() - usize::from(in_word);
    let previous = end.checked_sub(1).map_or("", |index| words.text(index)).to_uppercase();
    match previous.as_str() {
        "$" => Context::Parameter,
        "." => Context::Member(words.names_before(end)),
        "FROM" | "JOIN" | "INTO" | "UPDATE" => Context::Relation,
        _ => Context::Any,
    }
}

/// What can be named behind `names` and a dot: columns of a relation, or the rest of the names of tables.
pub fn members<'a>(
    sql: &str,
    names: &[String],
    scope: &'a Scope,
) -> (Vec<&'a ResultColumn>, Vec<(String, &'a Relation)>) {
    let mentioned = mentioned(&Words::new(sql), scope);
    let prefix = names.join(".") + ".";
    let rest = |relation: &'a Relation| {
        let head = relation.name.get(..prefix.len()).filter(|head| head.eq_ignore_ascii_case(&prefix))?;
        Some((relation.name[head.len()..].to_owned(), relation))
    };
    let columns = called(names, &mentioned, scope).into_iter().flat_map(|relation| relation.columns.iter().flatten());
    (columns.collect(), scope.relations.iter().filter_map(rest).collect())
}

/// The names that a WITH gives to queries.
pub fn named_queries(sql: &str) -> Vec<String> {
    let words = Words::new(sql);
    let is_opened = |index: usize| match words.text(index) {
        "," => true,
        word => ["WITH", "RECURSIVE"].iter().any(|it| word.eq_ignore_ascii_case(it)),
    };
    let is_named = |index: &usize| is_opened(index - 1) && words.is(index + 1, "AS") && words.text(index + 2) == "(";
    (1..words.tokens.len()).filter(is_named).filter_map(|index| words.name(index)).collect()
}

/// The relations whose columns can be named: those that the text mentions, else all.
pub fn relations<'a>(sql: &str, scope: &'a Scope) -> Vec<&'a Relation> {
    let words = Words::new(sql);
    let mut found: Vec<&Relation> = Vec::new();
    for (_, relation) in mentioned(&words, scope) {
        if !found.contains(&relation) {
            found.push(relation);
        }
    }
    if found.is_empty() { scope.relations.iter().collect() } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsp::knowledge::Origin;

    fn scope() -> Scope {
        let relation = |name: &str, columns: &[&str]| Relation {
            name: name.to_owned(),
            columns: Some(
                columns.iter().map(|it| ResultColumn { name: (*it).to_owned(), data_type: "X".to_owned() }).collect(),
            ),
            origin: Origin::Name(name.to_owned()),
        };
        Scope {
            relations: vec![relation("recent", &["Code", "Quantity"]), relation("lake.old", &["Code", "Año"])],
            parameters: vec![("least".to_owned(), "BIGINT".to_owned())],
            databases: vec!["lake".to_owned()],
            results: vec![relation("own", &["change"])],
        }
    }

    /// What the word before `|` means.
    fn told(sql: &str) -> String {
        let (scope, offset) = (scope(), sql.find('|').unwrap());
        match meaning(&sql.replacen('|', "", 1), offset, &scope) {
            None => "-".to_owned(),
            Some(Meaning::Parameter(name, data_type)) => format!("${name} {data_type}"),
            Some(Meaning::Database(name)) => name.to_owned(),
            Some(Meaning::Relation(relation)) => relation.name.clone(),
            Some(Meaning::Columns(columns)) => {
                let names = columns.iter().map(|(relation, column)| format!("{}.{}", relation.name, column.name));
                names.collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn a_name_means_what_duckdb_finds() {
        for (sql, expected) in [
            ("SELECT code| FROM recent", "recent.Code"),
            ("SELECT |Code FROM recent r JOIN lake.old AS o", "recent.Code lake.old.Code"),
            ("SELECT o.Co|de FROM recent r JOIN lake.old AS o", "lake.old.Code"),
            ("SELECT o|.Code FROM recent r JOIN lake.old AS o", "lake.old"),
            ("SELECT old.\"Año\"| FROM lake.old WHERE", "lake.old.Año"),
            ("SELECT lake.old.code| FROM lake.old", "lake.old.Code"),
            ("SELECT * FROM lake|.old", "lake"),
            ("SELECT * FROM \"lake\".o|ld", "lake.old"),
            ("SELECT * FROM recent| WHERE Quantity > (", "recent"),
            ("SELECT * FROM recent WHERE Quantity > $le|ast", "$least BIGINT"),
            ("SELECT a - b AS change| FROM recent", "own.change"),
            ("SELECT nothing| FROM recent", "-"),
            ("SELECT 'Code|' FROM recent", "-"),
        ] {
            assert_eq!(told(sql), expected, "{sql}");
        }
    }

    #[test]
    fn what_may_be_written_is_known_in_text_that_cannot_be_parsed() {
        let member = |names: &[&str]| Context::Member(names.iter().map(|name| (*name).to_owned()).collect());
        for (sql, expected) in [
            ("SELECT ", Context::Any),
            ("SELECT (a + ", Context::Any),
            ("SELECT * FROM", Context::Any),
            ("SELECT * FROM ", Context::Relation),
            ("SELECT * FROM a JOIN re", Context::Relation),
            ("SELECT r.", member(&["r"])),
            ("SELECT lake.\"old\".Co", member(&["lake", "old"])),
            ("WHERE a > $", Context::Parameter),
            ("WHERE a > $le", Context::Parameter),
            ("WHERE a = 'it", Context::Nothing),
            ("WHERE a = 'it'", Context::Any),
            ("SELECT 1 -- no", Context::Nothing),
            ("SELECT 1 -- no\n", Context::Any),
            ("SELECT /* no", Context::Nothing),
        ] {
            assert_eq!(context(sql, sql.len()), expected, "{sql}");
        }
    }

    #[test]
    fn a_with_names_queries() {
        let sql = "WITH RECURSIVE a AS (SELECT 1, b AS c), \"d e\" AS (SELECT 2) SELECT 1 AS x FROM (";
        assert_eq!(named_queries(sql), ["a", "d e"]);
        assert_eq!(named_queries("SELECT a AS b, c FROM d"), Vec::<String>::new());
    }

    #[test]
    fn members_are_columns_or_tables() {
        let scope = scope();
        let (columns, _) = members("SELECT o. FROM lake.old o", &["o".to_owned()], &scope);
        assert_eq!(columns.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["Code", "Año"]);
        let (columns, tables) = members("SELECT * FROM lake.", &["lake".to_owned()], &scope);
        assert!(columns.is_empty());
        assert_eq!(tables.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["old"]);
    }
}
