//! Label and field selectors.

use serde_json::Value;

use super::refusal::Refusal;

/// What a list or a watch is restricted to.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    /// Field path, whether it must be equal, value.
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

const FIELDS: [&str; 4] = ["metadata.name", "metadata.namespace", "status.phase", "spec.nodeName"];

impl Selector {
    pub fn parse(labels: Option<&str>, fields: Option<&str>) -> Result<Self, Refusal> {
        let labels = split(labels.unwrap_or_default()).into_iter().map(requirement).collect();
        let fields = split(fields.unwrap_or_default()).into_iter().map(field).collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.labels.iter().all(|requirement| requirement.holds(object))
            && self.fields.iter().all(|(path, equal, value)| {
                let found = path.split('.').try_fold(object, |value, part| value.get(part));
                (found.and_then(Value::as_str).unwrap_or_default() == value) == *equal
            })
    }
}

impl Requirement {
    fn holds(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"].get(key).and_then(Value::as_str);
        match self {
            Self::In(key, values) => label(key).is_some_and(|found| values.iter().any(|value| value == found)),
            Self::NotIn(key, values) => !label(key).is_some_and(|found| values.iter().any(|value| value == found)),
            Self::Exists(key) => label(key).is_some(),
            Self::Missing(key) => label(key).is_none(),
        }
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = text.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn requirement(text: &str) -> Requirement {
    let values = |list: &str| list.trim_matches(['(', ')']).split(',').map(|value| value.trim().to_owned()).collect();
    if let Some((key, list)) = text.split_once(" notin ") {
        return Requirement::NotIn(key.trim().to_owned(), values(list.trim()));
    }
    if let Some((key, list)) = text.split_once(" in ") {
        return Requirement::In(key.trim().to_owned(), values(list.trim()));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Requirement::NotIn(key.to_owned(), vec![value.to_owned()]);
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Requirement::In(key.to_owned(), vec![value.to_owned()]);
    }
    match text.strip_prefix('!') {
        Some(key) => Requirement::Missing(key.to_owned()),
        None => Requirement::Exists(text.to_owned()),
    }
}

fn field(text: &str) -> Result<(String, bool, String), Refusal> {
    let parts = text.split_once("!=").map(|(path, value)| (path, false, value));
    let parts = parts.or_else(|| text.split_once("==").map(|(path, value)| (path, true, value)));
    let parts = parts.or_else(|| text.split_once('=').map(|(path, value)| (path, true, value)));
    match parts {
        Some((path, equal, value)) if FIELDS.contains(&path) => Ok((path.to_owned(), equal, value.to_owned())),
        _ => Err(Refusal::plain(400, "BadRequest", format!("field label not supported: {text}"))),
    }
}
