//! DuckDB's types: reading them, and whether a literal fits one.

#[cfg(test)]
mod tests;

use serde_json::Value as Json;

use crate::problem::nearest;

/// Types nest (`STRUCT(a STRUCT(…))`); the parser recurses, and deeper ones are not meant.
const NESTING_MAX: usize = 16;
const TYPE_BYTES_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Boolean,
    /// Signed or unsigned, with its number of bits.
    Integer {
        name: &'static str,
        bits: u32,
        signed: bool,
    },
    Float(&'static str),
    Decimal {
        width: u8,
        scale: u8,
    },
    Text,
    Date,
    Time,
    /// With or without a time zone, in one of several resolutions.
    Timestamp(&'static str),
    /// Written as text, and not looked into: `UUID`, `INTERVAL`, `BLOB`, …
    Opaque(&'static str),
    Json,
    Enum(Vec<String>),
    List(Box<Type>, Option<u32>),
    Struct(Vec<(String, Type)>),
    Map(Box<Type>, Box<Type>),
    Union(Vec<(String, Type)>),
}

/// DuckDB's names and their other names, each with the type.
const NAMES: &[(&str, Type)] = &[
    ("BIGINT", integer("BIGINT", 64, true)),
    ("INT8", integer("BIGINT", 64, true)),
    ("LONG", integer("BIGINT", 64, true)),
    ("BIT", Type::Opaque("BIT")),
    ("BITSTRING", Type::Opaque("BIT")),
    ("BLOB", Type::Opaque("BLOB")),
    ("BYTEA", Type::Opaque("BLOB")),
    ("BINARY", Type::Opaque("BLOB")),
    ("VARBINARY", Type::Opaque("BLOB")),
    ("BIGNUM", Type::Opaque("BIGNUM")),
    ("BOOLEAN", Type::Boolean),
    ("BOOL", Type::Boolean),
    ("LOGICAL", Type::Boolean),
    ("DATE", Type::Date),
    ("DOUBLE", Type::Float("DOUBLE")),
    ("FLOAT8", Type::Float("DOUBLE")),
    ("FLOAT", Type::Float("FLOAT")),
    ("FLOAT4", Type::Float("FLOAT")),
    ("REAL", Type::Float("FLOAT")),
    ("HUGEINT", integer("HUGEINT", 128, true)),
    ("INT128", integer("HUGEINT", 128, true)),
    ("INTEGER", integer("INTEGER", 32, true)),
    ("INT", integer("INTEGER", 32, true)),
    ("INT4", integer("INTEGER", 32, true)),
    ("SIGNED", integer("INTEGER", 32, true)),
    ("INTERVAL", Type::Opaque("INTERVAL")),
    ("JSON", Type::Json),
    ("SMALLINT", integer("SMALLINT", 16, true)),
    ("INT2", integer("SMALLINT", 16, true)),
    ("SHORT", integer("SMALLINT", 16, true)),
    ("TIME", Type::Time),
    ("TIMETZ", Type::Opaque("TIME WITH TIME ZONE")),
    ("TIMESTAMP", Type::Timestamp("TIMESTAMP")),
    ("DATETIME", Type::Timestamp("TIMESTAMP")),
    ("TIMESTAMP_US", Type::Timestamp("TIMESTAMP")),
    ("TIMESTAMP_S", Type::Timestamp("TIMESTAMP_S")),
    ("TIMESTAMP_MS", Type::Timestamp("TIMESTAMP_MS")),
    ("TIMESTAMP_NS", Type::Timestamp("TIMESTAMP_NS")),
    ("TIMESTAMPTZ", Type::Timestamp("TIMESTAMP WITH TIME ZONE")),
    ("TINYINT", integer("TINYINT", 8, true)),
    ("INT1", integer("TINYINT", 8, true)),
    ("UBIGINT", integer("UBIGINT", 64, false)),
    ("UHUGEINT", integer("UHUGEINT", 128, false)),
    ("UINTEGER", integer("UINTEGER", 32, false)),
    ("USMALLINT", integer("USMALLINT", 16, false)),
    ("UTINYINT", integer("UTINYINT", 8, false)),
    ("UUID", Type::Opaque("UUID")),
    ("GUID", Type::Opaque("UUID")),
    ("VARCHAR", Type::Text),
    ("CHAR", Type::Text),
    ("BPCHAR", Type::Text),
    ("NVARCHAR", Type::Text),
    ("STRING", Type::Text),
    ("TEXT", Type::Text),
];

/// Names of other systems, and what they are in DuckDB.
const FOREIGN: &[(&str, &str)] = &[
    ("INT16", "SMALLINT"),
    ("INT32", "INTEGER"),
    ("INT64", "BIGINT"),
    ("UINT8", "UTINYINT"),
    ("UINT16", "USMALLINT"),
    ("UINT32", "UINTEGER"),
    ("UINT64", "UBIGINT"),
    ("FLOAT32", "FLOAT"),
    ("FLOAT64", "DOUBLE"),
    ("NUMBER", "DOUBLE"),
    ("STR", "VARCHAR"),
    ("OBJECT", "JSON"),
    ("ARRAY", "VARCHAR[]"),
    ("LIST", "VARCHAR[]"),
    ("BYTES", "BLOB"),
    ("SERIAL", "INTEGER"),
];

const PARAMETRIC: [&str; 6] = ["DECIMAL", "NUMERIC", "STRUCT", "MAP", "ENUM", "UNION"];

const fn integer(name: &'static str, bits: u32, signed: bool) -> Type {
    Type::Integer { name, bits, signed }
}

/// Why text is no type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeError {
    pub message: String,
    pub suggestion: Option<String>,
}

impl Type {
    pub fn parse(text: &str) -> Result<Self, TypeError> {
        if text.len() > TYPE_BYTES_MAX {
            return Err(error(format!("the type has more than {TYPE_BYTES_MAX} bytes")));
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0 };
        let parsed = parser.whole_type(0)?;
        match parser.peek() {
            None => Ok(parsed),
            Some(token) => Err(error(format!("`{}` is left over behind the type", token.text()))),
        }
    }

    /// Whether a JSON value is one of the type. Types that JSON does not have are written as text.
    pub fn check(&self, value: &Json) -> Result<(), String> {
        let fits = match (self, value) {
            (_, Json::Null) | (Self::Json, _) => true,
            (Self::Boolean, Json::Bool(_)) | (Self::Float(_), Json::Number(_)) => true,
            (Self::Text | Self::Opaque(_), Json::String(_)) => true,
            (Self::Integer { bits, signed, .. }, Json::Number(number)) => fits_integer(number, *bits, *signed),
            (Self::Integer { bits: 128, .. }, Json::String(text)) => is_digits(text.strip_prefix('-').unwrap_or(text)),
            (Self::Decimal { width, scale }, Json::Number(number)) => fits_decimal(&number.to_string(), *width, *scale),
            (Self::Decimal { width, scale }, Json::String(text)) => fits_decimal(text, *width, *scale),
            (Self::Date, Json::String(text)) => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
            (Self::Time, Json::String(text)) => text.parse::<jiff::civil::Time>().is_ok(),
            (Self::Timestamp(_), Json::String(text)) => is_timestamp(text),
            (Self::Enum(values), Json::String(text)) => values.contains(text),
            (Self::List(item, length), Json::Array(values)) => {
                if length.is_some_and(|length| usize::try_from(length) != Ok(values.len())) {
                    return Err(format!("{self} takes exactly as many values, not {}", values.len()));
                }
                return values.iter().try_for_each(|value| item.check(value));
            }
            (Self::Struct(fields), Json::Object(object)) => return check_struct(fields, object),
            (Self::Map(_, item), Json::Object(object)) => {
                return object.values().try_for_each(|value| item.check(value));
            }
            (Self::Union(members), value) => members.iter().any(|(_, member)| member.check(value).is_ok()),
            _ => false,
        };
        if fits { Ok(()) } else { Err(format!("{} is no {self}{}", describe(value), self.example())) }
    }

    fn example(&self) -> String {
        let example = match self {
            Self::Date => "\"2024-01-31\"",
            Self::Time => "\"13:45:00\"",
            Self::Timestamp(_) => "\"2024-01-31T13:45:00Z\"",
            Self::Boolean => "true",
            Self::Enum(values) => return format!(", which is one of {}", values.join(", ")),
            Self::List(..) => "a list, `[…]`",
            Self::Struct(_) | Self::Map(..) => "a mapping, `{…}`",
            _ => return String::new(),
        };
        format!("; write for example {example}")
    }
}

fn check_struct(fields: &[(String, Type)], object: &serde_json::Map<String, Json>) -> Result<(), String> {
    if let Some(unknown) = object.keys().find(|key| !fields.iter().any(|(name, _)| name == *key)) {
        return Err(format!("the struct has no field `{unknown}`"));
    }
    fields.iter().try_for_each(|(name, field)| match object.get(name) {
        Some(value) => field.check(value),
        None => Err(format!("the struct's field `{name}` is missing")),
    })
}

fn describe(value: &Json) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => format!("`{value}`"),
        Json::Number(number) => format!("the number `{number}`"),
        Json::String(text) => format!("the text `{}`", crate::problem::excerpt(text)),
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "a mapping".to_owned(),
    }
}

fn fits_integer(number: &serde_json::Number, bits: u32, signed: bool) -> bool {
    let value = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let Some(value) = value else { return false };
    match (signed, bits) {
        (_, 128) => signed || value >= 0,
        (true, bits) => value >= -(1 << (bits - 1)) && value < 1 << (bits - 1),
        (false, bits) => value >= 0 && value < 1 << bits,
    }
}

fn fits_decimal(text: &str, width: u8, scale: u8) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let whole_digits = whole.trim_start_matches('0').len();
    let fraction_digits = fraction.trim_end_matches('0').len();
    is_digits(whole)
        && is_digits(fraction)
        && whole_digits <= usize::from(width - scale)
        && fraction_digits <= usize::from(scale)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_timestamp(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok() || text.parse::<jiff::civil::DateTime>().is_ok()
}

/// As DuckDB writes it.
impl std::fmt::Display for Type {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members = |members: &[(String, Type)]| {
            let members: Vec<String> =
                members.iter().map(|(name, member)| format!("{} {member}", identifier(name))).collect();
            members.join(", ")
        };
        match self {
            Self::Boolean => formatter.write_str("BOOLEAN"),
            Self::Integer { name, .. } | Self::Float(name) | Self::Timestamp(name) | Self::Opaque(name) => {
                formatter.write_str(name)
            }
            Self::Decimal { width, scale } => write!(formatter, "DECIMAL({width},{scale})"),
            Self::Text => formatter.write_str("VARCHAR"),
            Self::Date => formatter.write_str("DATE"),
            Self::Time => formatter.write_str("TIME"),
            Self::Json => formatter.write_str("JSON"),
            Self::Enum(values) => {
                let values: Vec<String> =
                    values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
                write!(formatter, "ENUM({})", values.join(", "))
            }
            Self::List(item, None) => write!(formatter, "{item}[]"),
            Self::List(item, Some(length)) => write!(formatter, "{item}[{length}]"),
            Self::Struct(fields) => write!(formatter, "STRUCT({})", members(fields)),
            Self::Map(key, value) => write!(formatter, "MAP({key}, {value})"),
            Self::Union(fields) => write!(formatter, "UNION({})", members(fields)),
        }
    }
}

fn identifier(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if plain && name.starts_with(|char: char| char.is_ascii_lowercase()) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Literal(String),
    Symbol(char),
}

impl Token {
    fn text(&self) -> String {
        match self {
            Self::Word(text) | Self::Quoted(text) | Self::Literal(text) => text.clone(),
            Self::Symbol(symbol) => symbol.to_string(),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, TypeError> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            ' ' | '\n' | '\r' | '\t' => {}
            '(' | ')' | '[' | ']' | ',' => tokens.push(Token::Symbol(char)),
            '\'' | '"' => {
                let mut content = String::new();
                loop {
                    match chars.next() {
                        Some(next) if next == char && chars.peek() == Some(&char) => content.extend(chars.next()),
                        Some(next) if next == char => break,
                        Some(next) => content.push(next),
                        None => return Err(error("a quote is not closed".to_owned())),
                    }
                }
                tokens.push(if char == '"' { Token::Quoted(content) } else { Token::Literal(content) });
            }
            _ if char.is_ascii_alphanumeric() || char == '_' => {
                let mut word = char.to_string();
                while let Some(next) = chars.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            _ => return Err(error(format!("`{}` cannot stand in a type", char.escape_default()))),
        }
    }
    Ok(tokens)
}

fn error(message: String) -> TypeError {
    TypeError { message, suggestion: None }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn symbol(&mut self, symbol: char) -> Result<(), TypeError> {
        match self.next() {
            Some(Token::Symbol(found)) if found == symbol => Ok(()),
            Some(found) => Err(error(format!("`{symbol}` is expected where `{}` stands", found.text()))),
            None => Err(error(format!("`{symbol}` is missing at the end of the type"))),
        }
    }

    fn take(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    fn whole_type(&mut self, depth: usize) -> Result<Type, TypeError> {
        if depth > NESTING_MAX {
            return Err(error(format!("the type is nested more than {NESTING_MAX} deep")));
        }
        let mut parsed = match self.next() {
            Some(Token::Word(word)) => self.named(&word, depth)?,
            Some(token) => return Err(error(format!("`{}` is no name of a type", token.text()))),
            None => return Err(error("a type is missing".to_owned())),
        };
        let mut dimensions = 0;
        while self.take('[') {
            dimensions += 1;
            if depth + dimensions > NESTING_MAX {
                return Err(error(format!("the type is nested more than {NESTING_MAX} deep")));
            }
            let length = match self.peek() {
                Some(Token::Word(_)) => Some(self.number(1, 100_000)?),
                _ => None,
            };
            self.symbol(']')?;
            parsed = Type::List(Box::new(parsed), length);
        }
        Ok(parsed)
    }

    fn named(&mut self, word: &str, depth: usize) -> Result<Type, TypeError> {
        let name = word.to_ascii_uppercase();
        match name.as_str() {
            "DECIMAL" | "NUMERIC" | "DEC" => return self.decimal(),
            "STRUCT" | "ROW" => return Ok(Type::Struct(self.members(depth)?)),
            "UNION" => return Ok(Type::Union(self.members(depth)?)),
            "MAP" => {
                self.symbol('(')?;
                let key = self.whole_type(depth + 1)?;
                self.symbol(',')?;
                let value = self.whole_type(depth + 1)?;
                self.symbol(')')?;
                return Ok(Type::Map(Box::new(key), Box::new(value)));
            }
            "ENUM" => return self.enumeration(),
            _ => {}
        }
        let Some((_, found)) = NAMES.iter().find(|(known, _)| *known == name) else { return Err(unknown(&name)) };
        if *found == Type::Text && self.take('(') {
            self.number(1, u32::MAX)?;
            self.symbol(')')?;
        }
        Ok(self.words_after(&name, found.clone()))
    }

    /// `DOUBLE PRECISION`, `TIMESTAMP WITH TIME ZONE`.
    fn words_after(&mut self, name: &str, found: Type) -> Type {
        let rest: Vec<String> = self.tokens[self.at.min(self.tokens.len())..]
            .iter()
            .map_while(|token| if let Token::Word(word) = token { Some(word.to_ascii_uppercase()) } else { None })
            .collect();
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let (words, parsed) = match (name, rest.as_slice()) {
            ("DOUBLE", ["PRECISION", ..]) => (1, found),
            ("TIMESTAMP", ["WITH", "TIME", "ZONE", ..]) => (3, Type::Timestamp("TIMESTAMP WITH TIME ZONE")),
            ("TIME", ["WITH", "TIME", "ZONE", ..]) => (3, Type::Opaque("TIME WITH TIME ZONE")),
            ("TIMESTAMP" | "TIME", ["WITHOUT", "TIME", "ZONE", ..]) => (3, found),
            _ => (0, found),
        };
        self.at += words;
        parsed
    }

    fn decimal(&mut self) -> Result<Type, TypeError> {
        if !self.take('(') {
            return Ok(Type::Decimal { width: 18, scale: 3 });
        }
        let width = self.number(1, 38)?;
        let scale = if self.take(',') { self.number(0, 38)? } else { 0 };
        self.symbol(')')?;
        if scale > width {
            return Err(error(format!("DECIMAL({width},{scale}) has more digits behind the point than it has digits")));
        }
        Ok(Type::Decimal { width: u8::try_from(width).unwrap_or(38), scale: u8::try_from(scale).unwrap_or(0) })
    }

    fn number(&mut self, min: u32, max: u32) -> Result<u32, TypeError> {
        let token = self.next().map(|token| token.text()).unwrap_or_default();
        match token.parse::<u32>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(error(format!("a number from {min} to {max} is expected where `{token}` stands"))),
        }
    }

    fn members(&mut self, depth: usize) -> Result<Vec<(String, Type)>, TypeError> {
        self.symbol('(')?;
        let mut members: Vec<(String, Type)> = Vec::new();
        loop {
            let name = match self.next() {
                Some(Token::Word(name) | Token::Quoted(name)) => name,
                Some(token) => return Err(error(format!("`{}` is no name of a field", token.text()))),
                None => return Err(error("a field's name is missing at the end of the type".to_owned())),
            };
            if members.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                return Err(error(format!("the field `{name}` stands twice")));
            }
            members.push((name, self.whole_type(depth + 1)?));
            if !self.take(',') {
                break;
            }
        }
        self.symbol(')')?;
        Ok(members)
    }

    fn enumeration(&mut self) -> Result<Type, TypeError> {
        self.symbol('(')?;
        let mut values = Vec::new();
        loop {
            match self.next() {
                Some(Token::Literal(value)) => values.push(value),
                _ => return Err(error("ENUM lists texts in quotes, `ENUM('a', 'b')`".to_owned())),
            }
            if !self.take(',') {
                break;
            }
        }
        self.symbol(')')?;
        Ok(Type::Enum(values))
    }
}

fn unknown(name: &str) -> TypeError {
    let foreign = FOREIGN.iter().find(|(known, _)| *known == name).map(|(_, meant)| *meant);
    let near = || nearest(name, NAMES.iter().map(|(known, _)| *known).chain(PARAMETRIC));
    let suggestion = foreign.or_else(near).map(|meant| format!("`{meant}`"));
    TypeError { message: format!("DuckDB has no type `{name}`"), suggestion }
}
