//! What DuckDB says is wrong, as a finding for the author of the SQL.

use pintail_protocol::{CheckRule, ResultColumn};
use serde::Deserialize;

use super::Problem;
use super::names::{list, nearest, quoted, typed};
use crate::sql::{Token, TokenKind, Tokens};

/// DuckDB's error as it tells it in JSON.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fault {
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
    /// Bytes of ours before the person's text.
    #[serde(skip)]
    before: usize,
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
}

impl Fault {
    pub fn of(error: &duckdb::Error) -> Self {
        let text = error.to_string();
        let parsed = text.find('{').and_then(|start| serde_json::from_str::<Self>(&text[start..]).ok());
        parsed.unwrap_or_else(|| Self { exception_message: text, ..Self::default() })
    }

    /// The same fault of a statement that had so many bytes before the person's text.
    pub fn moved(mut self, before: usize) -> Self {
        self.before = before;
        self
    }

    /// The same fault of a part of a text, which has so many bytes before it.
    pub fn moved_back(mut self, bytes: usize) -> Self {
        let offset = self.offset().map(|offset| (offset + bytes).to_string());
        (self.position, self.before) = (offset, 0);
        self
    }

    pub fn offset(&self) -> Option<usize> {
        self.position.as_ref()?.parse::<usize>().ok()?.checked_sub(self.before)
    }

    pub fn is_syntax(&self) -> bool {
        self.exception_type == "Parser"
    }

    /// Whether it says something of a statement's text, and not of values that a run may have or of this session.
    pub fn is_about_text(&self) -> bool {
        matches!(
            self.exception_type.as_str(),
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

    pub fn is_unknown_column(&self) -> bool {
        self.error_subtype == "COLUMN_NOT_FOUND" || self.exception_message.contains("does not have a column named")
    }

    /// The types of `Cannot compare values of type … and type …`.
    pub fn compared(&self) -> Option<(&str, &str)> {
        let rest = self.exception_message.strip_prefix("Cannot compare values of type ")?;
        let (left, rest) = rest.split_once(" and ")?;
        let right = rest.strip_prefix("type ").unwrap_or(rest);
        Some((left, right.split([' ', ',']).next().unwrap_or(right)))
    }

    fn first_line(&self) -> &str {
        self.exception_message.lines().next().unwrap_or_default().trim()
    }

    /// The finding, with its place in `sql`, which is the text that was bound.
    pub fn problem(&self, sql: &str, around: &Around<'_>) -> Problem {
        let offset = self.offset().filter(|offset| *offset <= sql.len()).unwrap_or_else(|| self.guess_place(sql));
        let problem = self.described(sql, offset, around);
        let offset = problem.offset.unwrap_or(offset);
        problem.at(offset)
    }

    fn described(&self, sql: &str, offset: usize, around: &Around<'_>) -> Problem {
        let message = self.exception_message.as_str();
        let plain = |rule| Problem::new(rule, lower_first(self.first_line()));
        if self.is_syntax() {
            return syntax(self.first_line(), sql, offset);
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
            return unknown_table(table, around);
        }
        if self.error_subtype == "MISSING_ENTRY" {
            return self.missing_entry(around);
        }
        if self.error_subtype == "NO_MATCHING_FUNCTION"
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
            let name = between(message, "column \"", "\"");
            let meant = name.map(|name| format!("`GROUP BY ALL`, or `any_value({name})`"));
            return plain(CheckRule::Grouping).suggest(meant);
        }
        if self.exception_type == "Permission" {
            let text = "SQL of a task reads no files: bind them to an input as a table, and use that";
            return Problem::new(CheckRule::StatementNotAllowed, text);
        }
        if message.contains("Cannot mix values of type") {
            return plain(CheckRule::ArgumentTypes);
        }
        plain(CheckRule::Invalid).suggest(self.found_candidate())
    }

    fn table_name(&self) -> &str {
        between(&self.exception_message, "Table with name \"", "\"").unwrap_or_default()
    }

    /// `Candidate Entries: "a"`, `Did you mean: "day"`.
    fn found_candidate(&self) -> Option<String> {
        let (_, rest) = self.exception_message.split_once("\n\n")?;
        between(rest, "\"", "\"").map(quoted)
    }

    fn unknown_column(&self, around: &Around<'_>) -> Problem {
        let message = &self.exception_message;
        let (name, table) = match between(message, "does not have a column named \"", "\"") {
            Some(name) => (name, between(message, "\"", "\"")),
            None => (self.name.as_str(), None),
        };
        let tables = around.tables.iter().map(|(name, columns)| (*name, *columns));
        let all: Vec<(&str, &[ResultColumn])> =
            tables.chain(around.database_tables.iter().map(|(name, columns)| (name.as_str(), *columns))).collect();
        let own: Vec<_> = all
            .iter()
            .copied()
            .filter(|(name, _)| table.is_some_and(|table| table.eq_ignore_ascii_case(name)))
            .collect();
        let searched = if own.is_empty() { &all } else { &own };
        let columns: Vec<ResultColumn> = searched.iter().flat_map(|(_, columns)| columns.iter().cloned()).collect();
        let near = nearest(name, columns.iter().map(|column| column.name.as_str()))
            .or_else(|| nearest(name, self.candidates.split(',')))
            .or_else(|| {
                let (_, rest) = message.split_once("Candidate bindings: ")?;
                nearest(name, rest.split('"').skip(1).step_by(2))
            });
        let what = match table {
            Some(table) => format!("`{table}` has no column `{name}`"),
            None => format!("there is no column `{name}`"),
        };
        let known = if columns.is_empty() { String::new() } else { format!("; there are {}", typed(&columns)) };
        Problem::new(CheckRule::UnknownColumn, what + &known).suggest(near.map(quoted))
    }

    fn missing_entry(&self, around: &Around<'_>) -> Problem {
        let name = self.name.as_str();
        match self.entry.as_str() {
            "Table" | "View" => unknown_table(name, around),
            "Type" => Problem::new(CheckRule::UnknownType, format!("DuckDB has no type `{name}`"))
                .suggest(foreign_type(name).or_else(|| nearest(name, self.candidates.split(','))).map(code)),
            entry => {
                let near = foreign_function(name).or_else(|| nearest(name, self.candidates.split(','))).map(code);
                let is_function = entry.contains("Function") || entry.contains("Macro");
                let rule = if is_function { CheckRule::UnknownFunction } else { CheckRule::Invalid };
                let what = if is_function { "function" } else { entry };
                Problem::new(rule, format!("there is no {} `{name}`", what.to_lowercase())).suggest(near)
            }
        }
    }

    fn argument_types(&self, sql: &str, offset: usize) -> Problem {
        let call = match self.call.as_str() {
            "" => between(&self.exception_message, "function call \"", "\"")
                .or_else(|| between(&self.exception_message, "Macro ", " does not support"))
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
        let all = self.exception_message.lines().skip(1).filter_map(|line| line.strip_prefix('\t'));
        let takes: Vec<String> =
            all.filter(|line| line.contains('(')).map(|line| format!("`{}`", line.trim())).collect();
        let known = match takes.len() {
            0 => String::new(),
            1..=6 => format!("; there is {}", list(takes)),
            _ => String::new(),
        };
        let meant = cast_of_text(&self.exception_message, arguments, is_operator, sql, offset);
        Problem::new(CheckRule::ArgumentTypes, text + &known).suggest(meant)
    }

    /// Where the SQL speaks of what the message names, if DuckDB does not say; else where it begins.
    fn guess_place(&self, sql: &str) -> usize {
        let message = &self.exception_message;
        let visible: Vec<Token> = Tokens::new(sql).filter(|token| token.kind != TokenKind::Blank).collect();
        let text = |token: &Token| sql[token.start..token.end].trim_matches('"').to_lowercase();
        let first = visible.first().map_or(0, |token| token.start);
        let wanted: Vec<String> = if message.starts_with("Set operations") {
            ["union", "intersect", "except"].map(str::to_owned).to_vec()
        } else if message.contains("Multiple ASOF") || message.contains("ASOF") {
            vec!["asof".to_owned()]
        } else {
            let word = between(message, "column ", " must appear").or_else(|| between(message, "\"", "\""));
            let operator = between(message, " in ", " operator").or_else(|| between(message, " in ", " clause"));
            operator.or(word).map(|word| word.to_lowercase()).into_iter().collect()
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

fn syntax(message: &str, sql: &str, offset: usize) -> Problem {
    let visible: Vec<Token> = Tokens::new(sql).filter(|token| token.kind != TokenKind::Blank).collect();
    let at = visible.iter().position(|token| token.start >= offset).unwrap_or(visible.len());
    // A slip shows at the word itself, or at the one after it.
    let slip = (at.saturating_sub(1)..=at).rev().filter_map(|index| visible.get(index)).find_map(|token| {
        let word = sql[token.start..token.end].to_uppercase();
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
    let start = visible.iter().position(|token| token.start > offset && is_name(token))?;
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
    let text = types.iter().position(|data_type| *data_type == "VARCHAR");
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
        let operand = operand_after(sql, offset + 1)?;
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
    const NAMES: [(&str, &str); 14] = [
        ("nvl", "coalesce"),
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
