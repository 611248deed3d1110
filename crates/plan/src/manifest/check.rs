//! A tree against its schema: every problem, and the nearest object that has none, so that later checks go on.

use pintail_api as api;
use serde_json::{Map, Value as Json};

use super::schema::{self, Schema, Shape};
use super::tree::{Entry, Node, NodeValue, Position};
use super::yaml::Found;
use crate::Rule;
use crate::problem::{FieldPath, MAX_PROBLEMS, Problem, excerpt, listing, nearest};

/// Checks JSON that comes without places, such as an input's binding.
pub(crate) fn read_table_source(value: &Json, path: &FieldPath) -> Result<api::TableSource, Vec<Problem>> {
    let mut check = Check::default();
    let mended = check.value(schema::table_source(), &Node::from_json(value), &Place::Start(path));
    if !check.found.is_empty() {
        return Err(check.found.into_iter().map(|(_, problem)| problem).collect());
    }
    serde_json::from_value(mended).map_err(|error| vec![Problem::new(Rule::WrongType, path.clone(), error.to_string())])
}

/// A path that is put together only where a problem needs it.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Start(&'a FieldPath),
    Field(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl<'a> Place<'a> {
    fn field(&'a self, name: &'a str) -> Self {
        Self::Field(self, name)
    }

    fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }

    fn to_path(self) -> FieldPath {
        match self {
            Self::Start(path) => path.clone(),
            Self::Field(parent, name) => parent.to_path().field(name),
            Self::Index(parent, index) => parent.to_path().index(index),
        }
    }
}

#[derive(Default)]
pub(super) struct Check {
    pub found: Vec<Found>,
    /// Where the mended object is not what was written: problems that other checks find there are echoes.
    pub mended: Vec<FieldPath>,
}

impl Check {
    /// Reports every problem, and gives the value with each mended.
    pub fn value(&mut self, schema: &Schema, node: &Node, path: &Place) -> Json {
        match (&schema.shape, &node.value) {
            (Shape::Any, _) => {
                self.mark_broken(node, path);
                node.to_json()
            }
            (_, NodeValue::Broken(text)) => self.broken(schema, text, path),
            (_, NodeValue::Null) => {
                let message = format!("{} has no value; give it one, or remove it", last_name(path));
                self.report(Rule::MissingField, node.at, path, message, None);
                self.placeholder(&schema.shape, path)
            }
            (Shape::Text { .. }, NodeValue::Text(text, _)) => self.text(schema, text, node, path),
            (Shape::Text { words, .. }, NodeValue::Bool(_, text) | NodeValue::Number(_, text)) if words.is_empty() => {
                let message =
                    format!("{} is text, and `{text}` without quotes is {}", last_name(path), node.describe());
                self.report(Rule::UnquotedText, node.at, path, message, Some(format!("`\"{text}\"`")));
                Json::from(text.as_str())
            }
            (Shape::Integer { min, max }, NodeValue::Number(number, text)) => match number.as_i64() {
                Some(value) => {
                    self.range(value, *min, *max, node, path);
                    Json::from(value.clamp(*min, *max))
                }
                None => {
                    let message = format!("{} is a whole number, and `{text}` is not", last_name(path));
                    self.report(Rule::WrongType, node.at, path, message, None);
                    self.placeholder(&schema.shape, path)
                }
            },
            (Shape::Number, NodeValue::Number(..)) | (Shape::Boolean, NodeValue::Bool(..)) => node.to_json(),
            (Shape::List { .. }, NodeValue::List(items)) => self.list(schema, items, node, path),
            (Shape::Object { values: Some(_), .. }, NodeValue::Map(entries)) => self.map(schema, entries, node, path),
            (Shape::Object { .. }, NodeValue::Map(entries)) => self.object(schema, entries, node, path),
            _ => self.wrong_type(schema, node, path),
        }
    }

    fn report(&mut self, rule: Rule, at: Position, path: &Place, message: String, suggestion: Option<String>) {
        if self.found.len() < MAX_PROBLEMS {
            self.found.push((at, Problem::new(rule, path.to_path(), message).suggest(suggestion)));
        }
        if self.mended.len() < MAX_PROBLEMS {
            self.mended.push(path.to_path());
        }
    }

    /// Values that were reported already, below one that may be anything.
    fn mark_broken(&mut self, node: &Node, path: &Place) {
        match &node.value {
            NodeValue::Broken(_) => self.mended.push(path.to_path()),
            NodeValue::List(items) => {
                items.iter().enumerate().for_each(|(index, item)| self.mark_broken(item, &path.index(index)));
            }
            NodeValue::Map(entries) => {
                entries.iter().for_each(|entry| self.mark_broken(&entry.value, &path.field(&entry.key)));
            }
            _ => {}
        }
    }

    /// A scalar that was reported already: as text where text is meant.
    fn broken(&mut self, schema: &Schema, text: &str, path: &Place) -> Json {
        self.mended.push(path.to_path());
        match &schema.shape {
            Shape::Text { words, .. } if words.is_empty() => Json::from(text),
            shape => self.placeholder(shape, path),
        }
    }

    fn text(&mut self, schema: &Schema, text: &str, node: &Node, path: &Place) -> Json {
        let Shape::Text { length_min, length_max, words } = &schema.shape else { return Json::Null };
        if !words.is_empty() {
            if words.iter().any(|word| word == text) {
                return Json::from(text);
            }
            let near = nearest(text, words.iter().map(String::as_str));
            let known = listing(words.iter().map(String::as_str));
            let message = format!("`{}` is none of {known}", excerpt(text));
            self.report(Rule::UnknownValue, node.at, path, message, near.map(|near| format!("`{near}`")));
            return near.or(words.first().map(String::as_str)).map_or(Json::Null, Json::from);
        }
        let length = text.chars().count() as u64;
        if length < *length_min && length == 0 {
            let message = format!("{} is empty", last_name(path));
            self.report(Rule::OutOfRange, node.at, path, message, None);
        } else if length < *length_min {
            let message = format!("{} has {length} characters, and needs {length_min}", last_name(path));
            self.report(Rule::OutOfRange, node.at, path, message, None);
        } else if length > *length_max {
            let message = format!("{} has {length} characters, and {length_max} are allowed", last_name(path));
            self.report(Rule::OutOfRange, node.at, path, message, None);
        }
        Json::from(text)
    }

    fn range(&mut self, value: i64, min: i64, max: i64, node: &Node, path: &Place) {
        if value < min || value > max {
            let message = match (min, max) {
                (_, i64::MAX) => format!("{} is at least {min}, not {value}", last_name(path)),
                _ => format!("{} is from {min} to {max}, not {value}", last_name(path)),
            };
            self.report(Rule::OutOfRange, node.at, path, message, None);
        }
    }

    fn count(&mut self, count: usize, (min, max): (u64, u64), node: &Node, path: &Place) {
        let count = count as u64;
        if count < min {
            let entries = if min == 1 { "one entry".to_owned() } else { format!("{min} entries") };
            let message = format!("{} has {count} entries, and needs at least {entries}", last_name(path));
            self.report(Rule::OutOfRange, node.at, path, message, None);
        } else if count > max {
            let message = format!("{} has {count} entries, and {max} are allowed", last_name(path));
            self.report(Rule::OutOfRange, node.at, path, message, None);
        }
    }

    fn list(&mut self, schema: &Schema, items: &[Node], node: &Node, path: &Place) -> Json {
        let Shape::List { item, length_min, length_max } = &schema.shape else { return Json::Null };
        self.count(items.len(), (*length_min, *length_max), node, path);
        let values = items.iter().enumerate().map(|(index, node)| self.value(item, node, &path.index(index)));
        Json::Array(values.collect())
    }

    fn map(&mut self, schema: &Schema, entries: &[Entry], node: &Node, path: &Place) -> Json {
        let Shape::Object { values: Some(values), length_min, length_max, .. } = &schema.shape else {
            return Json::Null;
        };
        self.count(entries.len(), (*length_min, *length_max), node, path);
        let fields =
            entries.iter().map(|entry| (entry.key.clone(), self.value(values, &entry.value, &path.field(&entry.key))));
        Json::Object(fields.collect())
    }

    fn object(&mut self, schema: &Schema, entries: &[Entry], node: &Node, path: &Place) -> Json {
        let Shape::Object { fields, required, .. } = &schema.shape else { return Json::Null };
        let mut object = Map::new();
        for Entry { key, key_at, value } in entries {
            let path = path.field(key);
            if let Some(field) = fields.get(key) {
                let value = match (&value.value, required.contains(key)) {
                    (NodeValue::Null, false) => {
                        let message = format!("`{key}` has no value; give it one, or remove it");
                        self.report(Rule::MissingField, *key_at, &path, message, None);
                        least(&field.shape)
                    }
                    _ => self.value(field, value, &path),
                };
                object.insert(key.clone(), value);
                continue;
            }
            let unused =
                || fields.keys().map(String::as_str).filter(|name| !entries.iter().any(|entry| entry.key == *name));
            let near = nearest(key, unused());
            let message = format!("there is no field `{}` in {}", excerpt(key), place(&path));
            self.report(Rule::UnknownField, *key_at, &path, message, near.map(|near| format!("`{near}`")));
            // Further checks take it for what it was meant to be.
            if let Some((near, field)) = near.and_then(|near| fields.get_key_value(near)) {
                let value = self.value(field, value, &path);
                object.entry(near.clone()).or_insert(value);
            }
        }
        for name in required {
            if object.contains_key(name) {
                continue;
            }
            let message = format!("the field `{name}` is missing");
            self.report(Rule::MissingField, node.at, &path.field(name), message, None);
            if let Some(field) = fields.get(name) {
                let value = self.placeholder(&field.shape, &path.field(name));
                object.insert(name.clone(), value);
            }
        }
        let object = Json::Object(object);
        for rule in schema.rules.iter().filter(|rule| !rule.holds(&object)) {
            self.report(Rule::SchemaRule, node.at, path, rule.message.clone(), None);
        }
        object
    }

    fn wrong_type(&mut self, schema: &Schema, node: &Node, path: &Place) -> Json {
        let name = last_name(path);
        let needs = describe(&schema.shape);
        let mut message = format!("{name} is {needs}, not {}", node.describe());
        let mut suggestion = None;
        let mended = match (&schema.shape, &node.value) {
            (Shape::List { item, .. }, NodeValue::Text(text, _)) if matches!(item.shape, Shape::Text { .. }) => {
                suggestion = Some(format!("`[{}]`", excerpt(text)));
                Some(Json::Array(vec![Json::from(text.as_str())]))
            }
            (Shape::List { item, .. }, NodeValue::Map(_)) if matches!(item.shape, Shape::Object { .. }) => {
                message = format!("{name} is a list, and this is one mapping: begin each entry with `- `");
                None
            }
            (Shape::Integer { .. } | Shape::Number, NodeValue::Text(text, _)) if text.parse::<i64>().is_ok() => {
                suggestion = Some(format!("`{text}` without quotes"));
                text.parse::<i64>().ok().map(Json::from)
            }
            (Shape::Boolean, NodeValue::Text(text, _)) if matches!(text.as_str(), "true" | "false") => {
                suggestion = Some(format!("`{text}` without quotes"));
                Some(Json::from(text == "true"))
            }
            (Shape::Text { words, .. }, _) if !words.is_empty() => {
                message = format!("{name} is one of {}", listing(words.iter().map(String::as_str)));
                None
            }
            _ => None,
        };
        self.report(Rule::WrongType, node.at, path, message, suggestion);
        mended.unwrap_or_else(|| self.placeholder(&schema.shape, path))
    }

    /// Stands in the place of a value that is wrong.
    fn placeholder(&mut self, shape: &Shape, path: &Place) -> Json {
        if self.mended.len() < MAX_PROBLEMS {
            self.mended.push(path.to_path());
        }
        least(shape)
    }
}

/// The least value that a schema takes.
pub(super) fn least(shape: &Shape) -> Json {
    match shape {
        Shape::Any => Json::Null,
        Shape::Text { words, .. } => Json::from(words.first().cloned().unwrap_or_default()),
        Shape::Integer { min, max, .. } => Json::from(0_i64.clamp(*min, *max)),
        Shape::Number => Json::from(0),
        Shape::Boolean => Json::from(false),
        Shape::List { .. } => Json::Array(Vec::new()),
        Shape::Object { fields, required, .. } => {
            let value =
                |name: &String| (name.clone(), fields.get(name).map_or(Json::Null, |field| least(&field.shape)));
            Json::Object(required.iter().map(value).collect())
        }
    }
}

fn describe(shape: &Shape) -> &'static str {
    match shape {
        Shape::Any => "anything",
        Shape::Text { .. } => "text",
        Shape::Integer { .. } => "a whole number",
        Shape::Number => "a number",
        Shape::Boolean => "true or false",
        Shape::List { .. } => "a list",
        Shape::Object { .. } => "a mapping",
    }
}

/// The field that a message speaks of.
fn last_name(path: &Place) -> String {
    match path.to_path().segments() {
        [.., crate::Segment::Field(name)] => format!("`{}`", excerpt(name)),
        [.., crate::Segment::Field(name), crate::Segment::Index(_)] => format!("an entry of `{}`", excerpt(name)),
        _ => "the document".to_owned(),
    }
}

/// What an unknown field stands in.
fn place(path: &Place) -> String {
    match path.to_path().segments() {
        [.., crate::Segment::Field(name), crate::Segment::Index(_), _] => format!("an entry of `{}`", excerpt(name)),
        [.., crate::Segment::Field(name), _] => format!("`{}`", excerpt(name)),
        _ => "the document".to_owned(),
    }
}
