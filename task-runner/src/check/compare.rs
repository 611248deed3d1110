//! Text that is compared with a number: DuckDB binds `code = 5` for a text `code`, and fails at the first text that is no
//! number. It refuses `code < 5` at once, so each equality is tried as an order.

use super::Problem;
use super::bench::Bench;
use super::bind::{Scalar, bound};
use super::fault::{Fault, compared};
use super::names::is_number;
use crate::sql::{Token, TokenKind, Tokens, identifier, text};
use pintail_protocol::CheckRule;
use serde_json::Value;

/// Of one query. Each costs one more binding.
const TRIALS_MAX: usize = 40;
const LITERALS_MAX: usize = 12;

/// A comparison, and the text that has it as an order.
#[derive(Clone)]
struct Edit {
    at: usize,
    end: usize,
    with: String,
}

/// What would fail at run time, in a query that binds.
pub(super) fn check(bench: &Bench, query: &str, scalars: &[Scalar]) -> Vec<Problem> {
    let visible: Vec<Token> = Tokens::new(query).filter(|token| token.kind != TokenKind::Blank).collect();
    let words: Vec<&str> = visible.iter().map(|token| &query[token.start..token.end]).collect();
    let texts: Vec<_> = (0..words.len()).filter_map(|index| literal(&visible, &words, index)).collect();
    let mut edits = equalities(&visible, &words);
    // Texts in quotes are cast by themselves; those that cannot be are found below.
    edits.retain(|edit| !texts.iter().any(|(operator, ..)| visible[*operator].start == edit.at));
    edits.extend(memberships(&visible, &words, false));
    edits.extend(shared_columns(bench, query, &visible, &words));
    let mut all = edits.clone();
    all.extend(memberships(&visible, &words, true));
    all.extend(texts.iter().flat_map(|text| typed_text(&visible, &words, text)));
    edits.sort_by_key(|edit| edit.at);
    all.sort_by_key(|edit| edit.at);
    let mut found = Vec::new();
    // Most queries hold nothing to be looked at one by one.
    if all.is_empty() || trial(bench, query, &all, scalars).is_none() {
        return found;
    }
    for edit in edits.iter().take(TRIALS_MAX) {
        let Some(fault) = trial(bench, query, std::slice::from_ref(edit), scalars) else { continue };
        let Some((left, right)) = fault.compared() else { continue };
        if (left == "VARCHAR" && is_number(right)) || (is_number(left) && right == "VARCHAR") {
            let mut problem = compared(left, right, query, edit.at).at(edit.at);
            // The column of a USING has no side to cast.
            problem.suggestion.take_if(|_| edit.with.starts_with("ON "));
            found.push(problem);
        }
    }
    found.extend(literals(bench, query, &visible, &words, &texts, scalars));
    found
}

/// `quantity = 'abc'` as `quantity < 'abc'::VARCHAR`.
fn typed_text(visible: &[Token], words: &[&str], (operator, end, at): &(usize, usize, usize)) -> [Edit; 2] {
    let text = &visible[*at];
    [
        Edit { at: visible[*operator].start, end: visible[*end].end, with: "<".to_owned() },
        Edit { at: text.start, end: text.end, with: format!("{}::VARCHAR", words[*at]) },
    ]
}

fn trial(bench: &Bench, query: &str, edits: &[Edit], scalars: &[Scalar]) -> Option<Fault> {
    bound(bench, &edited(query, edits), scalars).err()
}

fn edited(query: &str, edits: &[Edit]) -> String {
    let mut result = String::new();
    let mut at = 0;
    for edit in edits {
        if edit.at >= at {
            result.push_str(&query[at..edit.at]);
            result.push_str(&edit.with);
            at = edit.end;
        }
    }
    result + &query[at..]
}

/// Length in tokens of the operator of an equality that begins here. DuckDB's lexer takes `<>` as one.
fn equality(visible: &[Token], words: &[&str], index: usize) -> Option<usize> {
    let joined = |offset: usize| {
        let (this, next) = (visible.get(index + offset)?, visible.get(index + offset + 1)?);
        (this.end == next.start).then(|| words[index + offset + 1])
    };
    let touches_before =
        |word: &str| index > 0 && visible[index - 1].end == visible[index].start && words[index - 1] == word;
    match (words[index], joined(0)) {
        ("=", _) if [":", "<", ">", "!", "="].iter().any(|word| touches_before(word)) => None,
        ("=", Some(">")) => None,
        ("=" | "!", Some("=")) | ("<", Some(">")) => Some(2),
        ("=", _) => Some(1),
        _ => None,
    }
}

fn equalities(visible: &[Token], words: &[&str]) -> Vec<Edit> {
    let edit = |index: usize| {
        let length = equality(visible, words, index)?;
        Some(Edit { at: visible[index].start, end: visible[index + length - 1].end, with: "<".to_owned() })
    };
    (0..words.len()).filter_map(edit).collect()
}

/// `a IN (1, 2)` as `a < greatest(1, 2)`, `a IN (SELECT …)` as `a < (SELECT …)`.
fn memberships(visible: &[Token], words: &[&str], of_texts: bool) -> Vec<Edit> {
    let is = |index: usize, word: &str| words.get(index).is_some_and(|it| it.eq_ignore_ascii_case(word));
    let edit = |index: usize| {
        if !is(index, "IN") || !is(index + 1, "(") {
            return None;
        }
        let first = if index > 0 && is(index - 1, "NOT") { index - 1 } else { index };
        let is_query = ["SELECT", "WITH", "FROM", "VALUES"].iter().any(|word| is(index + 2, word));
        if of_texts == (is_query || !listed(words, index + 1).any(|index| words[index].starts_with('\''))) {
            return None;
        }
        let with = if is_query { "<" } else { "< greatest" };
        Some(Edit { at: visible[first].start, end: visible[index].end, with: with.to_owned() })
    };
    (0..words.len()).filter_map(edit).collect()
}

/// The tokens between the bracket at `open` and the one that closes it.
fn listed(words: &[&str], open: usize) -> impl Iterator<Item = usize> {
    let mut depth = 0_usize;
    let end = (open..words.len()).find(|index| {
        match words[*index] {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    open + 1..end.unwrap_or(open + 1)
}

/// `JOIN b USING (id)` as `JOIN b ON (a.id < b.id)`.
fn shared_columns(bench: &Bench, query: &str, visible: &[Token], words: &[&str]) -> Vec<Edit> {
    let using: Vec<usize> = (0..words.len())
        .filter(|index| words[*index].eq_ignore_ascii_case("USING") && words.get(index + 1) == Some(&"("))
        .collect();
    if using.is_empty() {
        return Vec::new();
    }
    let Some(tree) = tree(bench, query) else { return Vec::new() };
    let mut joins = Vec::new();
    collect_joins(&tree, &mut joins);
    let mut edits: Vec<Edit> = Vec::new();
    for (columns, left, right) in joins {
        let same = |index: &usize| {
            let named: Vec<&str> = words[index + 2..].iter().copied().take_while(|word| *word != ")").collect();
            let named: Vec<&str> = named.split(|word| *word == ",").filter_map(|part| part.first().copied()).collect();
            named.len() == columns.len()
                && named.iter().zip(&columns).all(|(a, b)| a.trim_matches('"').eq_ignore_ascii_case(b))
        };
        let taken = |index: &usize| edits.iter().any(|edit| edit.at == visible[*index].start);
        let Some(index) = using.iter().copied().find(|index| same(index) && !taken(index)) else { continue };
        let Some(length) = words[index..].iter().position(|word| *word == ")") else { continue };
        let terms: Vec<String> = columns
            .iter()
            .map(|column| format!("{0}.{2} < {1}.{2}", identifier(&left), identifier(&right), identifier(column)))
            .collect();
        let with = format!("ON ({})", terms.join(" AND "));
        edits.push(Edit { at: visible[index].start, end: visible[index + length].end, with });
    }
    edits
}

/// DuckDB's syntax tree of a query; `None` for the few that it cannot write down.
pub(super) fn tree(bench: &Bench, query: &str) -> Option<Value> {
    let json: String = bench.value("SELECT json_serialize_sql(?::VARCHAR)::VARCHAR", query)?;
    let tree: Value = serde_json::from_str(&json).ok()?;
    (tree["error"] == Value::Bool(false)).then_some(tree)
}

/// Whether a query takes whatever columns there are.
pub(super) fn has_star(tree: &Value) -> bool {
    match tree {
        Value::Object(fields) => {
            fields.get("class").is_some_and(|class| class == "STAR") || fields.values().any(has_star)
        }
        Value::Array(items) => items.iter().any(has_star),
        _ => false,
    }
}

/// Columns, and the names of the tables at either side.
type Join = (Vec<String>, String, String);

fn collect_joins(tree: &Value, found: &mut Vec<Join>) {
    match tree {
        Value::Object(fields) => {
            let columns = fields.get("using_columns").and_then(Value::as_array);
            let columns: Vec<String> =
                columns.into_iter().flatten().filter_map(|column| column.as_str().map(str::to_owned)).collect();
            if !columns.is_empty()
                && let (Some(left), Some(right)) = (leaf(fields.get("left")), leaf(fields.get("right")))
            {
                found.push((columns, left, right));
            }
            fields.values().for_each(|value| collect_joins(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_joins(item, found)),
        _ => {}
    }
}

/// The name of a table in FROM; of a join, that of its first.
fn leaf(table: Option<&Value>) -> Option<String> {
    let table = table?;
    if table["type"] == "JOIN" {
        return leaf(table.get("left"));
    }
    let name = |field: &str| table[field].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    name("alias").or_else(|| name("table_name"))
}

/// `quantity = 'abc'`: the other side's type is told by comparing it with a list, which goes with nothing.
fn literals(
    bench: &Bench,
    query: &str,
    visible: &[Token],
    words: &[&str],
    texts: &[(usize, usize, usize)],
    scalars: &[Scalar],
) -> Vec<Problem> {
    let mut found = Vec::new();
    let comparisons = texts.iter().copied().map(|(operator, end, at)| {
        let token = &visible[at];
        let mut edits = vec![
            Edit { at: visible[operator].start, end: visible[end].end, with: "<".to_owned() },
            Edit { at: token.start, end: token.end, with: "[]".to_owned() },
        ];
        edits.sort_by_key(|edit| edit.at);
        (edits, at)
    });
    for (edits, at) in comparisons.chain(listed_texts(visible, words)).take(LITERALS_MAX) {
        let token = &visible[at];
        let Some(fault) = trial(bench, query, &edits, scalars) else { continue };
        let Some((left, right)) = fault.compared() else { continue };
        let data_type = if left.ends_with("[]") { right } else { left };
        let is_parsed = is_number(data_type)
            || matches!(data_type, "DATE" | "TIME" | "BOOLEAN" | "UUID")
            || data_type.starts_with("TIMESTAMP");
        let value = words[at].trim_matches('\'').replace("''", "'");
        let fits = format!("SELECT TRY_CAST({} AS {data_type}) IS NOT NULL WHERE ? = ''", text(&value));
        if is_parsed && bench.value::<bool>(&fits, "") == Some(false) {
            let message = format!("{} is no {data_type}, which it is compared with", words[at]);
            found.push(Problem::new(CheckRule::ComparedTypes, message).at(token.start));
        }
    }
    found
}

/// The texts of each `a IN ('x', 'y')`, as `a < []`.
fn listed_texts(visible: &[Token], words: &[&str]) -> Vec<(Vec<Edit>, usize)> {
    let is = |index: usize, word: &str| words.get(index).is_some_and(|it| it.eq_ignore_ascii_case(word));
    let mut found = Vec::new();
    for index in (0..words.len()).filter(|index| is(*index, "IN") && is(index + 1, "(")) {
        let first = if index > 0 && is(index - 1, "NOT") { index - 1 } else { index };
        let list: Vec<usize> = listed(words, index + 1).collect();
        let Some(close) = list.last().map(|last| last + 1).filter(|close| *close < visible.len()) else { continue };
        let alone = |at: &usize| {
            words[*at].starts_with('\'') && matches!(words[at - 1], "(" | ",") && matches!(words[at + 1], ")" | ",")
        };
        for at in list.into_iter().filter(alone) {
            let edit = Edit { at: visible[first].start, end: visible[close].end, with: "< []".to_owned() };
            found.push((vec![edit], at));
        }
    }
    found
}

/// A comparison with a text in quotes that is not cast: first and last token of its operator, and the text.
fn literal(visible: &[Token], words: &[&str], index: usize) -> Option<(usize, usize, usize)> {
    let is_text = |index: usize| words.get(index).is_some_and(|word| word.len() > 1 && word.starts_with('\''));
    let joins_next = |index: usize| visible.get(index + 1).is_some_and(|next| visible[index].end == next.start);
    let starts = |word: &str| matches!(word, "=" | "<" | ">" | "!");
    if !starts(words[index]) || (index > 0 && starts(words[index - 1]) && joins_next(index - 1)) {
        return None;
    }
    if index > 0 && words[index - 1] == ":" || words[index] == "=" && words.get(index + 1) == Some(&">") {
        return None;
    }
    let end = if joins_next(index) && matches!(words[index + 1], "=" | ">") { index + 1 } else { index };
    if words[index] == "!" && end == index {
        return None;
    }
    let is_plain = |next: usize| !matches!(words.get(next), Some(&(":" | "|" | "[" | "." | "+" | "-")));
    if is_text(end + 1) && is_plain(end + 2) {
        return Some((index, end, end + 1));
    }
    let before = index.checked_sub(1)?;
    let is_operand = before == 0 || !matches!(words[before - 1], "|" | "+" | "-" | ":");
    let is_typed = before > 0 && visible[before - 1].kind == TokenKind::Word && is_type(words[before - 1]);
    (is_text(before) && is_operand && !is_typed).then_some((index, end, before))
}

/// `DATE '2024-01-01'`
fn is_type(word: &str) -> bool {
    ["DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL"].iter().any(|name| word.eq_ignore_ascii_case(name))
}
