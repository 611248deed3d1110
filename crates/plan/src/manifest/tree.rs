//! A YAML document with the place of every key and value.

use serde_json::{Map, Number, Value as Json};

use crate::problem::{FieldPath, Segment};

/// Line and column from 1; the column counts characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub at: Position,
    pub value: NodeValue,
}

#[derive(Clone, Debug)]
pub(super) enum NodeValue {
    Null,
    /// With the text as it was written.
    Bool(bool, String),
    Number(Number, String),
    Text(String, Style),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Something that was reported; further checks pass it by. The text, where it was a scalar.
    Broken(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Quoted,
    /// `|`: every line of the text is a line of the file.
    Literal,
    /// `>`: lines are joined.
    Folded,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_at: Position,
    pub value: Node,
}

impl Node {
    /// JSON as a tree without places.
    pub fn from_json(json: &Json) -> Self {
        let value = match json {
            Json::Null => NodeValue::Null,
            Json::Bool(value) => NodeValue::Bool(*value, value.to_string()),
            Json::Number(number) => NodeValue::Number(number.clone(), number.to_string()),
            Json::String(text) => NodeValue::Text(text.clone(), Style::Quoted),
            Json::Array(items) => NodeValue::List(items.iter().map(Self::from_json).collect()),
            Json::Object(fields) => {
                let entry = |(key, value): (&String, &Json)| Entry {
                    key: key.clone(),
                    key_at: Position::default(),
                    value: Self::from_json(value),
                };
                NodeValue::Map(fields.iter().map(entry).collect())
            }
        };
        Self { at: Position::default(), value }
    }

    /// What a JSON parser would have read; broken values are text.
    pub fn to_json(&self) -> Json {
        match &self.value {
            NodeValue::Null => Json::Null,
            NodeValue::Bool(value, _) => Json::Bool(*value),
            NodeValue::Number(number, _) => Json::Number(number.clone()),
            NodeValue::Text(text, _) | NodeValue::Broken(text) => Json::String(text.clone()),
            NodeValue::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            NodeValue::Map(entries) => Json::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            NodeValue::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Text(text, _) => Some(text),
            _ => None,
        }
    }

    /// What it is, with its article, for a message.
    pub fn describe(&self) -> &'static str {
        match &self.value {
            NodeValue::Null => "nothing",
            NodeValue::Bool(..) => "true or false",
            NodeValue::Number(..) => "a number",
            NodeValue::Text(..) | NodeValue::Broken(_) => "text",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a mapping",
        }
    }

    /// Where the key of a field stands, if the field is there.
    pub fn locate_key(&self, path: &FieldPath) -> Option<Position> {
        let (Segment::Field(name), parents) = path.segments().split_last()? else { return None };
        let mut node = self;
        for segment in parents {
            node = match (segment, &node.value) {
                (Segment::Field(name), _) => node.get(name)?,
                (Segment::Index(index), NodeValue::List(items)) => items.get(*index)?,
                (Segment::Index(_), _) => return None,
            };
        }
        node.entry(name).map(|entry| entry.key_at)
    }

    /// The deepest field or item that begins before a place: its path, its value, and whether the place is in its key.
    pub fn at(&self, at: Position) -> (FieldPath, &Self, bool) {
        let (mut path, mut node) = (FieldPath::root(), self);
        loop {
            let next = match &node.value {
                NodeValue::Map(entries) => entries.iter().rfind(|entry| entry.key_at <= at).map(|entry| {
                    let key_end = entry.key_at.column + entry.key.chars().count();
                    let in_key = at.line == entry.key_at.line && at.column <= key_end;
                    (path.field(&entry.key), &entry.value, in_key)
                }),
                NodeValue::List(items) => {
                    let item = items.iter().enumerate().rfind(|(_, item)| item.at <= at);
                    item.map(|(index, item)| (path.index(index), item, false))
                }
                _ => None,
            };
            let Some((child_path, child, in_key)) = next else { return (path, node, false) };
            (path, node) = (child_path, child);
            if in_key {
                return (path, node, true);
            }
        }
    }

    /// Where a path leads: the value, or the nearest that is there on the way. Of a field that is there the value's
    /// place; of one that is missing the key of the mapping that lacks it.
    pub fn locate(&self, path: &FieldPath) -> (Position, Option<&Self>) {
        let mut node = self;
        let mut key_at = None;
        for segment in path.segments() {
            let next = match (segment, &node.value) {
                (Segment::Field(name), NodeValue::Map(_)) => {
                    node.entry(name).map(|entry| (&entry.value, Some(entry.key_at)))
                }
                (Segment::Index(index), NodeValue::List(items)) => items.get(*index).map(|item| (item, None)),
                _ => None,
            };
            let Some((child, at)) = next else { return (key_at.unwrap_or(node.at), None) };
            node = child;
            key_at = at;
        }
        match &node.value {
            // What has no value, and what begins on a line of its own, is shown by its key.
            NodeValue::Null | NodeValue::List(_) | NodeValue::Map(_) => (key_at.unwrap_or(node.at), Some(node)),
            _ => (node.at, Some(node)),
        }
    }
}
