//! What DuckDB says is wrong, as a finding for the author of the SQL.

use pintail_protocol::{CheckRule, ResultColumn};
use serde::Deserialize;

use super::Problem;
use super::names::{list, nearest, quoted, typed};
use crate::sql::{Token, TokenKind, Tokens};

/// DuckDB's error, with its place in a person's text.
#[derive(Clone, Debug, Default)]
pub(super) struct Fault {
    told: Box<Told>,
    /// Bytes of ours before the person's text.
    before: usize,
}

/// DuckDB's error as it tells it in JSON.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    exception_type: String,
    exception_message: String,
    /// Bytes into the statement.
    position: Option<String>,
    error_subtype: String,
    name: String,
    candidates: String,
    #[serde(rename = "type")]
    entry: String,
    call: String,
}

/// What a message may name.
#[derive(Default)]
pub(super) struct Around<'a> {
    /// The tables that the task sees, by name.
    pub tables: Vec<(&'a str, &'a [ResultColumn])>,
    /// The columns of its databases' tables.
    pub database_tables: Vec<(String, &'a [ResultColumn])>,
    /// Inputs and tasks of the workflow that the task does not use.
    pub unused: Vec<&'a str>,
    /// Databases that the task does not attach.
    pub unattached: Vec<&'a str>,
    /// Names of functions, where one is looked for.
    pub functions: Vec<String>,
}

impl Fault {
    pub fn of(error: &duckdb::Error) -> Self {
        let text = error.to_string();
        let parsed = text.find('{').and_then(|start| serde_json::from_str::<Told>(&text[start..]).ok());
        let told = parsed.unwrap_or_else(|| Told { exception_message: text, ..Told::default() });
        Self { told: Box::new(told), before: 0 }
    }

    /// The same fault of a statement that had so many bytes before the person's text.
    pub fn moved(mut self, before: usize) -> Self {
        self.before = before;
        self
    }

    /// The same fault of a part of a text, which has so many bytes before it.
    pub fn moved_back(mut self, bytes: usize) -> Self {
        let offset = self.offset().map(|offset| (offset + bytes).to_string());
        (self.told.position, self.before) = (offset, 0);
        self
    }

    pub fn offset(&self) -> Option<usize> {
        self.told.position.as_ref()?.parse::<usize>().ok()?.checked_sub(self.before)
    }

    pub fn is_syntax(&self) -> bool {
        self.told.exception_type == "Parser"
    }

    /// Whether it says something of a statement's text, and not of values that a run may have or of this session.
    pub fn is_about_text(&self) -> bool {
        matches!(
            self.told.exception_type.as_str(),
            "Parser"
                | "Syntax"
                | "Binder"
                | "Catalog"
                | "Not implemented"
                | "Permission"
                | "Dependency"
                | "Missing Extension"
        )
    }

    pub fn is_unknown_function(&self) -> bool {
        self.told.error_subtype == "MISSING_ENTRY" && self.told.entry.contains("Function")
    }

    pub fn is_unknown_column(&self) -> bool {
        let message = &self.told.exception_message;
        self.told.error_subtype == "COLUMN_NOT_FOUND"
            || message.contains("does not have a column named")
            || message.starts_with("Referenced column")
            || (message.starts_with("Column \"")
                && ["side of join", "list not found", "no matching entry"].iter().any(|part| message.contains(part)))
    }

    /// The types of `Cannot compare values of type … and type …`.
    pub fn compared(&self) -> Option<(&str, &str)> {
        let rest = self.told.exception_message.strip_prefix("Cannot compare values of type ")?;
        let (left, rest) = rest.split_once(" and ")?;
        let right = rest.strip_prefix("type ").unwrap_or(rest);
        Some((left, right.split([' ', ',']).next().unwrap_or(right)))
    }

    fn first_line(&self) -> &str {
        self.told.exception_message.lines().next().unwrap_or_default().trim()
    }

    /// The finding, with its place in `sql`, which is the text that was bound.
    pub fn problem(&self, sql: &str, around: &Around<'_>) -> Problem {
        let offset = self.offset().filter(|offset| *offset <= sql.len()).unwrap_or_else(|| self.guess_place(sql));
        // Of some parts of a statement DuckDB gives the statement's beginning.
        let offset = if offset == 0 && self.is_unknown_column() { self.guess_place(sql) } else { offset };
        let problem = self.described(sql, offset, around);
        let offset = problem.offset.unwrap_or(offset);
        problem.at(offset)
    }

    fn described(&self, sql: &str, offset: usize, around: &Around<'_>) -> Problem {
        let message = self.told.exception_message.as_str();
        let plain = |rule| Problem::new(rule, lower_first(self.first_line()));
        if self.is_syntax() {
            return syntax(self.first_line(), sql, offset, around);
        }
        if self.is_unknown_column() {
            return self.unknown_column(around);
        }
        if let Some(database) = between(message, "because schema \"", "\" does not exist")
            .or_else(|| between(message, "Catalog \"", "\" does not exist"))
        {
            return unknown_database(database, self.table_name(), around);
        }
        if let Some(table) = between(message, "Referenced table \"", "\" not found") {
            return match aliased_column(sql, table, offset) {
                // In a sub-query DuckDB looks for the table once more outside.
                Some(name) => unknown_column(name, Some(table), &columns_of(around), &self.told.candidates),
                None => unknown_table(table, around),
            };
        }
        if let Some(extension) = between(message, "exists in the ", " extension") {
            let name = between(message, "name \"", "\"").unwrap_or_default();
            let text = format!("the function `{name}` is of the extension {extension}, which is not loaded");
            return Problem::new(CheckRule::UnknownFunction, text);
        }
        if self.told.error_subtype == "MISSING_ENTRY" {
            return self.missing_entry(around);
        }
        if self.told.error_subtype == "NO_MATCHING_FUNCTION"
            || message.starts_with("Could not choose a best candidate function")
            || message.contains("does not support the supplied arguments")
        {
            return self.argument_types(sql, offset);
        }
        if let Some((left, right)) = self.compared() {
            return compared(left, right, sql, offset);
        }
        if message.starts_with("Ambiguous reference") {
            let meant = message.split_once("(use: ").map(|(_, rest)| {
                rest.trim_end_matches(')')
                    .replace('"', "")
                    .split(" or ")
                    .map(quoted_path)
                    .collect::<Vec<_>>()
                    .join(" or ")
            });
            let name = between(message, "\"", "\"").unwrap_or("it");
            let problem =
                Problem::new(CheckRule::AmbiguousColumn, format!("`{name}` is a column of more than one table here"));
            return problem.suggest(meant);
        }
        if is_about_groups(message) {
            let name = between(message, "column \"", "\"").or_else(|| between(message, "column ", " must appear"));
            let meant = name.map(|name| format!("`GROUP BY ALL`, or `any_value({name})`"));
            return plain(CheckRule::Grouping).suggest(meant);
        }
        if self.told.exception_type == "Permission" {
            let text = "SQL of a task reads no files: bind them to an input as a table, and use that";
            return Problem::new(CheckRule::StatementNotAllowed, text);
        }
        if let Some(rest) = message.strip_prefix("Cannot mix values of type ") {
            return mixed(rest);
        }
        let there: Vec<String> = self.candidates_below().into_iter().map(|name| format!("`{name}`")).collect();
        let name = between(message, "\"", "\"").unwrap_or_default();
        let near = nearest(name, self.candidates_below()).map(quoted);
        let mut problem = plain(CheckRule::Invalid).suggest(near);
        if message.contains("Candidate Entries") {
            problem.message += &format!("; there are {}", list(there));
        }
        problem
    }

    fn table_name(&self) -> &str {
        between(&self.told.exception_message, "Table with name \"", "\"").unwrap_or_default()
    }

    /// `Candidate Entries: "a", "b"`
    fn candidates_below(&self) -> Vec<&str> {
        let rest = self.told.exception_message.split_once("\n\n").map_or("", |(_, rest)| rest);
        rest.split('"').skip(1).step_by(2).collect()
    }

    fn unknown_column(&self, around: &Around<'_>) -> Problem {
        let message = &self.told.exception_message;
        if message.contains("FROM clause is missing") {
            let text = format!("no column can be named here, and `{}` is none of the parameters", self.told.name);
            return Problem::new(CheckRule::UnknownColumn, text);
        }
        if message.contains("side of join") {
            let side = if message.contains("left side") { "left" } else { "right" };
            let name = between(message, "\"", "\"").unwrap_or_default();
            let text = format!("there is no column `{name}` on the {side} side of the join");
            return Problem::new(CheckRule::UnknownColumn, text);
        }
        let (name, table) = match between(message, "does not have a column named \"", "\"") {
            Some(name) => (name, between(message, "\"", "\"")),
            None if self.told.name.is_empty() => {
                let name =
                    between(message, "Referenced column ", " not found").or_else(|| between(message, "\"", "\""));
                (name.unwrap_or_default().trim_matches('"'), None)
            }
            None => (self.told.name.as_str(), None),
        };
        let bindings = message.split_once("Candidate bindings: ").map_or("", |(_, rest)| rest);
        let bindings: Vec<&str> = bindings.split('"').skip(1).step_by(2).collect();
        unknown_column(name, table, &columns_of(around), &format!("{},{}", self.told.candidates, bindings.join(",")))
    }

    fn missing_entry(&self, around: &Around<'_>) -> Problem {
        let name = self.told.name.as_str();
        match self.told.entry.as_str() {
            "Table" | "View" => unknown_table(name, around),
            "Type" => Problem::new(CheckRule::UnknownType, format!("DuckDB has no type `{name}`")).suggest(
                foreign_type(name)
                    .or_else(|| nearest(name, self.told.candidates.split(',')))
                    .map(|near| code(&near.to_uppercase())),
            ),
            entry => {
                let near = foreign_function(name)
                    .or_else(|| nearest(name, self.told.candidates.split(',')))
                    .or_else(|| nearest(name, around.functions.iter().map(String::as_str)))
                    .map(code);
                let is_function = entry.contains("Function") || entry.contains("Macro");
                let rule = if is_function { CheckRule::UnknownFunction } else { CheckRule::Invalid };
                let what = if is_function { "function" } else { entry };
                Problem::new(rule, format!("there is no {} `{name}`", what.to_lowercase())).suggest(near)
            }
        }
    }

    fn argument_types(&self, sql: &str, offset: usize) -> Problem {
        let call = match self.told.call.as_str() {
            "" => between(&self.told.exception_message, "function call \"", "\"")
                .or_else(|| between(&self.told.exception_message, "Macro ", " does not support"))
                .unwrap_or("this function"),
            call => call,
        };
        let call = call.replace("INTEGER_LITERAL", "INTEGER").replace("STRING_LITERAL", "VARCHAR");
        let (name, arguments) = call.split_once('(').unwrap_or((&call, ""));
        let arguments = arguments.trim_end_matches(')');
        let operator = match name {
            "~~" => "LIKE",
            "!~~" => "NOT LIKE",
            "~~*" => "ILIKE",
            name => name,
        };
        let is_operator =
            !operator.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_') || operator != name;
        let text = if is_operator {
            format!("`{operator}` does not take {}", arguments.replace(", ", " and "))
        } else {
            format!("`{name}` does not take ({arguments})")
        };
        let all = self.told.exception_message.lines().skip(1).filter_map(|line| line.strip_prefix('\t'));
        let takes: Vec<String> =
            all.filter(|line| line.contains('(')).map(|line| format!("`{}`", line.trim())).collect();
        let known = match takes.len() {
            0 => String::new(),
            1..=6 => format!("; there is {}", list(takes)),
            _ => String::new(),
        };
        let meant = cast_of_text(&self.told.exception_message, arguments, is_operator, sql, offset);
        Problem::new(CheckRule::ArgumentTypes, text + &known).suggest(meant)
    }

    /// Where the SQL speaks of what the message names, if DuckDB does not say; else where it begins.
    fn guess_place(&self, sql: &str) -> usize {
        let message = &self.told.exception_message;
        let visible: Vec<Token> = Tokens::new(sql).filter(|token| token.kind != TokenKind::Blank).collect();
        let text = |token: &Token| sql[token.start..token.end].trim_matches(['"', '\'']).to_lowercase();
        let first = visible.first().map_or(0, |token| token.start);
        let wanted: Vec<String> = if message.starts_with("Set operations") {
            ["union", "intersect", "except"].map(str::to_owned).to_vec()
        } else if message.contains("ASOF") {
            vec!["asof".to_owned()]
        } else {
            let word = between(message, "column ", " must appear").or_else(|| between(message, "\"", "\""));
            let operator = between(message, " in ", " operator").or_else(|| between(message, " in ", " clause"));
            operator
                .filter(|operator| !operator.contains(' '))
                .or(word)
                .map(|word| word.to_lowercase())
                .into_iter()
                .collect()
        };
        let place = visible.iter().find(|token| wanted.contains(&text(token)));
        place.map_or(first, |token| token.start)
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if letters.as_str().starts_with(|next: char| next.is_lowercase()) => {
            first.to_lowercase().collect::<String>() + letters.as_str()
        }
        _ => text.to_owned(),
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn quoted_path(path: &str) -> String {
    format!("`{}`", path.trim())
}

fn is_about_groups(message: &str) -> bool {
    ["GROUP BY clause", "aggregate", "window function", "HAVING", "GROUPING"].iter().any(|part| message.contains(part))
}

/// Words that SQL begins its parts with.
const KEYWORDS: [&str; 27] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "ORDER",
    "HAVING",
    "LIMIT",
    "JOIN",
    "WITH",
    "UNION",
    "QUALIFY",
    "LEFT",
    "INNER",
    "OUTER",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "BETWEEN",
    "DISTINCT",
    "PARTITION",
    "OVER",
    "USING",
    "VALUES",
    "EXCEPT",
    "INSERT",
    "CREATE",
];

fn syntax(message: &str, sql: &str, offset: usize, around: &Around<'_>) -> Problem {
    let is_name = |word: &str| {
        let mut tables = around.tables.iter();
        tables.any(|(name, columns)| name.eq_ignore_ascii_case(word) || super::names::find(columns, word).is_some())
    };
    let visible: Vec<Token> = Tokens::new(sql).filter(|token| token.kind != TokenKind::Blank).collect();
    let at = visible.iter().position(|token| token.start >= offset).unwrap_or(visible.len());
    // A slip shows at the word itself, or at the one after it.
    let slip = (at.saturating_sub(1)..=at).filter_map(|index| visible.get(index)).find_map(|token| {
        let word = sql[token.start..token.end].to_uppercase();
        if is_name(&word) {
            return None;
        }
        let near = nearest(&word, KEYWORDS).filter(|near| *near != word && token.kind == TokenKind::Word)?;
        Some((token.start, near))
    });
    let problem = Problem::new(CheckRule::Syntax, message.to_owned());
    match slip {
        Some((start, near)) => problem.suggest(Some(format!("`{near}`"))).at(start),
        None => {
            let comma = visible.get(at.wrapping_sub(1)).filter(|token| &sql[token.start..token.end] == ",");
            let meant = comma.filter(|_| !message.contains("end of input")).map(|_| "no `,` before it".to_owned());
            problem.suggest(meant)
        }
    }
}

fn columns_of<'a>(around: &'a Around<'_>) -> Vec<(&'a str, &'a [ResultColumn])> {
    let tables = around.tables.iter().map(|(name, columns)| (*name, *columns));
    tables.chain(around.database_tables.iter().map(|(name, columns)| (name.as_str(), *columns))).collect()
}

/// `table` is that which the SQL names before the column; `further` are names that DuckDB offers.
fn unknown_column(name: &str, table: Option<&str>, all: &[(&str, &[ResultColumn])], further: &str) -> Problem {
    let is_meant = |other: &str| table.is_some_and(|table| table.eq_ignore_ascii_case(other));
    let own: Vec<_> = all.iter().copied().filter(|(name, _)| is_meant(name)).collect();
    let searched = if own.is_empty() { all } else { &own };
    let columns: Vec<ResultColumn> = searched.iter().flat_map(|(_, columns)| columns.iter().cloned()).collect();
    let near = nearest(name, columns.iter().map(|column| column.name.as_str()))
        .or_else(|| nearest(name, further.split(',').map(str::trim)))
        .filter(|near| *near != name);
    let what = match table {
        Some(table) => format!("`{table}` has no column `{name}`"),
        None => format!("there is no column `{name}`"),
    };
    let known = if columns.is_empty() { String::new() } else { format!("; there are {}", typed(&columns)) };
    Problem::new(CheckRule::UnknownColumn, what + &known).suggest(near.map(quoted))
}

/// The column of `table.column` at `offset`, where the SQL has given a table that name elsewhere.
fn aliased_column<'a>(sql: &'a str, table: &str, offset: usize) -> Option<&'a str> {
    let visible: Vec<Token> = Tokens::new(sql).filter(|token| token.kind != TokenKind::Blank).collect();
    let text = |index: usize| visible.get(index).map_or("", |token| &sql[token.start..token.end]);
    let is_alias = |index: usize| text(index).eq_ignore_ascii_case(table) && text(index + 1) != ".";
    if !(1..visible.len()).any(|index| is_alias(index) && text(index - 1) != ".") {
        return None;
    }
    let at = visible.iter().position(|token| token.start == offset)?;
    (text(at + 1) == ".").then(|| text(at + 2)).filter(|name| !name.is_empty())
}

/// `VARCHAR and INTEGER_LITERAL in COALESCE operator - an explicit cast is required`
fn mixed(rest: &str) -> Problem {
    let rest = rest.replace("INTEGER_LITERAL", "INTEGER").replace("STRING_LITERAL", "VARCHAR");
    let (types, place) = rest.split_once(" in ").unwrap_or((&rest, ""));
    let place = place.split(" - ").next().unwrap_or_default();
    let is_comparison = place.ends_with("clause");
    let rule = if is_comparison { CheckRule::ComparedTypes } else { CheckRule::ArgumentTypes };
    let place = place.trim_end_matches(" operator").trim_end_matches(" clause");
    Problem::new(rule, format!("{types} do not go together in {place}; cast one of them"))
}

fn unknown_table(name: &str, around: &Around<'_>) -> Problem {
    let problem = |message: String| Problem::new(CheckRule::UnknownTable, message);
    if around.unused.iter().any(|unused| unused.eq_ignore_ascii_case(name)) {
        let message = format!("the task does not use `{name}`");
        return problem(message).suggest(Some(format!("`uses: [{}]`", name.to_lowercase())));
    }
    let own: Vec<&str> = around.tables.iter().map(|(name, _)| *name).collect();
    let of_databases = around.database_tables.iter().map(|(name, _)| name.as_str());
    let near = nearest(name, own.iter().copied().chain(of_databases.clone()))
        .or_else(|| of_databases.clone().find(|table| table.rsplit('.').next() == Some(name)))
        .map(|near| format!("`{near}`"));
    let near = near.or_else(|| {
        let unused = nearest(name, around.unused.iter().copied());
        unused.map(|near| format!("`{near}`, with `uses: [{near}]`"))
    });
    let all: Vec<String> = own.into_iter().chain(of_databases).map(|name| format!("`{name}`")).collect();
    let known = if all.is_empty() { "the task has no tables".to_owned() } else { format!("there are {}", list(all)) };
    problem(format!("there is no table `{name}`; {known}")).suggest(near)
}

fn unknown_database(database: &str, table: &str, around: &Around<'_>) -> Problem {
    if around.unattached.contains(&database) {
        let message = format!("the task does not read the connection `{database}`");
        return Problem::new(CheckRule::UndeclaredDatabase, message).suggest(Some(format!("`reads: [{database}]`")));
    }
    let shown = if table.is_empty() { database } else { table };
    let known: Vec<&str> = around
        .database_tables
        .iter()
        .filter_map(|(name, _)| name.split('.').next())
        .chain(around.unattached.iter().copied())
        .collect();
    let near = nearest(database, known).map(|near| format!("`{near}`"));
    Problem::new(CheckRule::UnknownTable, format!("there is no table `{shown}`: no database `{database}` is attached"))
        .suggest(near)
}

/// `code = 5` of a text and a number.
pub(super) fn compared(left: &str, right: &str, sql: &str, offset: usize) -> Problem {
    let shown = |data_type: &str| data_type.replace("INTEGER_LITERAL", "INTEGER").replace("STRING_LITERAL", "VARCHAR");
    let (left, right) = (shown(left), shown(right));
    let message = format!("{left} is compared with {right}, which fails for text that is no {right}");
    let is_text = |data_type: &str| data_type == "VARCHAR";
    let (text, other, operand) = match (is_text(&left), is_text(&right)) {
        (true, false) => (&left, &right, operand_before(sql, offset)),
        (false, true) => (&right, &left, operand_after(sql, offset)),
        _ => {
            let message = format!("{left} cannot be compared with {right}");
            return Problem::new(CheckRule::ComparedTypes, message);
        }
    };
    let message = if is_text(&left) {
        message
    } else {
        format!("{left} is compared with {text}, which fails for text that is no {left}")
    };
    let operand = operand.unwrap_or("…");
    Problem::new(CheckRule::ComparedTypes, message).suggest(Some(format!("`TRY_CAST({operand} AS {other})`")))
}

fn operand_before(sql: &str, offset: usize) -> Option<&str> {
    let visible: Vec<Token> = Tokens::new(sql).filter(|token| token.kind != TokenKind::Blank).collect();
    let end = visible.iter().rposition(|token| token.end <= offset)?;
    let mut start = end;
    while start >= 2 && &sql[visible[start - 1].start..visible[start - 1].end] == "." {
        start -= 2;
    }
    name_at(sql, &visible[start], &visible[end])
}

fn operand_after(sql: &str, offset: usize) -> Option<&str> {
    let visible: Vec<Token> = Tokens::new(sql).filter(|token| token.kind != TokenKind::Blank).collect();
    let is_name = |token: &Token| token.kind == TokenKind::Word || sql[token.start..].starts_with('"');
    let is_operator = |token: &Token| "=<>!+-*/%|~^&".contains(&sql[token.start..token.end]);
    let start = visible.iter().position(|token| token.start >= offset && !is_operator(token))?;
    if !is_name(&visible[start]) {
        return None;
    }
    let mut end = start;
    while visible.get(end + 1).is_some_and(|token| &sql[token.start..token.end] == ".") && end + 2 < visible.len() {
        end += 2;
    }
    name_at(sql, &visible[start], &visible[end])
}

fn name_at<'a>(sql: &'a str, first: &Token, last: &Token) -> Option<&'a str> {
    let is_name = |token: &Token| token.kind == TokenKind::Word || sql[token.start..].starts_with('"');
    (is_name(first) && is_name(last)).then(|| &sql[first.start..last.end])
}

/// Where one argument is text and the function takes numbers or times: the cast.
fn cast_of_text(message: &str, arguments: &str, is_operator: bool, sql: &str, offset: usize) -> Option<String> {
    let types: Vec<&str> = arguments.split(", ").collect();
    let is_literal = |position| {
        !is_operator && nth_argument(sql, offset, position).is_some_and(|argument| argument.starts_with('\''))
    };
    let text = (0..types.len()).find(|position| types[*position] == "VARCHAR" && !is_literal(*position));
    let takes =
        |data_type: &str| message.contains(&format!("({data_type}")) || message.contains(&format!(", {data_type}"));
    if is_operator && message.contains("~~") {
        let operand = operand_before(sql, offset)?;
        return Some(format!("`CAST({operand} AS VARCHAR)`"));
    }
    let with = types.iter().find(|data_type| data_type.starts_with("DATE") || data_type.starts_with("TIMESTAMP"));
    let wanted = match with {
        Some(time) => time,
        None if takes("DOUBLE") => "DOUBLE",
        None if takes("TIMESTAMP") => "TIMESTAMP",
        None if takes("VARCHAR") && text.is_none() => "VARCHAR",
        None => return None,
    };
    if wanted == "VARCHAR" {
        let operand = if is_operator { operand_after(sql, offset)? } else { nth_argument(sql, offset, 0)? };
        return Some(format!("`CAST({operand} AS VARCHAR)`"));
    }
    let operand = match (is_operator, text?) {
        (true, 0) => operand_before(sql, offset)?,
        (true, _) => operand_after(sql, offset)?,
        (false, position) => nth_argument(sql, offset, position)?,
    };
    Some(format!("`TRY_CAST({operand} AS {wanted})`"))
}

/// The text of an argument of the call at `offset`.
fn nth_argument(sql: &str, offset: usize, position: usize) -> Option<&str> {
    let open = offset + sql.get(offset..)?.find('(')?;
    let (mut depth, mut index, mut start) = (0_usize, 0, open + 1);
    for token in Tokens::new(&sql[open..]) {
        let (from, to) = (open + token.start, open + token.end);
        match &sql[from..to] {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth > 1 => depth -= 1,
            ")" => return (index == position).then(|| sql[start..from].trim()),
            "," if depth == 1 => {
                if index == position {
                    return Some(sql[start..from].trim());
                }
                (index, start) = (index + 1, to);
            }
            _ => {}
        }
    }
    None
}

/// What other databases call DuckDB's functions.
fn foreign_function(name: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 16] = [
        ("nvl", "coalesce"),
        ("isnull", "coalesce"),
        ("average", "avg"),
        ("getdate", "current_timestamp"),
        ("sysdate", "current_timestamp"),
        ("len_text", "length"),
        ("to_char", "strftime"),
        ("to_date", "strptime"),
        ("date_format", "strftime"),
        ("safe_cast", "TRY_CAST"),
        ("charindex", "instr"),
        ("group_concat_distinct", "string_agg"),
        ("array_size", "len"),
        ("stddev_sample", "stddev_samp"),
        ("timestamp_trunc", "date_trunc"),
        ("countif", "count_if"),
    ];
    let lower = name.to_lowercase();
    NAMES.iter().find(|(foreign, _)| *foreign == lower).map(|(_, own)| *own)
}

fn foreign_type(name: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 7] = [
        ("int64", "BIGINT"),
        ("float64", "DOUBLE"),
        ("number", "DECIMAL(38,0)"),
        ("varchar2", "VARCHAR"),
        ("bool_", "BOOLEAN"),
        ("datetime2", "TIMESTAMP"),
        ("money", "DECIMAL(18,2)"),
    ];
    let lower = name.to_lowercase();
    NAMES.iter().find(|(foreign, _)| *foreign == lower).map(|(_, own)| *own)
}
