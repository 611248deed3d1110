//! From an HTTP request to a call, as the API server reads its paths.

use std::collections::BTreeMap;
use std::fmt;

use http::Method;
use serde_json::Value;

use super::objects::{Deletion, Key, Part};
use super::refusal::Refusal;
use super::resource::Resource;
use super::selector::Selector;

/// A request that was understood.
#[derive(Debug)]
pub struct Call {
    pub verb: Verb,
    pub resource: &'static Resource,
    /// `None`: all of them.
    pub namespace: Option<String>,
    pub selector: Selector,
    pub query: BTreeMap<String, String>,
    /// Only metadata is asked for.
    pub partial: bool,
}

#[derive(Debug)]
pub enum Verb {
    Get(String),
    List,
    Watch,
    Create(Value),
    Update(String, Part, Value),
    Patch(String, Part, Patch),
    Delete(String, Deletion),
    DeleteAll(Deletion),
}

#[derive(Debug)]
pub enum Patch {
    Merge(Value),
    Apply(Value),
}

impl Call {
    pub fn is_write(&self) -> bool {
        !matches!(self.verb, Verb::Get(_) | Verb::List | Verb::Watch)
    }

    pub fn key(&self, name: &str) -> Key {
        Key::new(self.resource, self.namespace.as_deref().unwrap_or_default(), name)
    }

    pub fn parse(parts: &http::request::Parts, body: &[u8]) -> Result<Self, Refusal> {
        let query: BTreeMap<String, String> =
            form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let path: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let place = Place::parse(&path)?;
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let json = || serde_json::from_slice::<Value>(body).map_err(|error| bad_request(&error));
        let verb = match (&parts.method, place.name) {
            (&Method::GET, Some(name)) => Verb::Get(name.to_owned()),
            (&Method::GET, None) if query.get("watch").is_some_and(|value| value == "true" || value == "1") => {
                Verb::Watch
            }
            (&Method::GET, None) => Verb::List,
            (&Method::POST, None) => Verb::Create(json()?),
            (&Method::PUT, Some(name)) => Verb::Update(name.to_owned(), place.part, json()?),
            (&Method::PATCH, Some(name)) => {
                Verb::Patch(name.to_owned(), place.part, patch(header("content-type"), json()?)?)
            }
            (&Method::DELETE, Some(name)) => Verb::Delete(name.to_owned(), deletion(body, &query)?),
            (&Method::DELETE, None) => Verb::DeleteAll(deletion(body, &query)?),
            _ => return Err(Refusal::plain(405, "MethodNotAllowed", "the server does not allow this method")),
        };
        let text = |name: &str| query.get(name).map(String::as_str);
        let selector = Selector::parse(text("labelSelector"), text("fieldSelector"))?;
        let partial = header("accept").contains("as=PartialObjectMetadata");
        Ok(Self { verb, resource: place.resource, namespace: place.namespace, selector, query, partial })
    }
}

/// For people who read the list of writes.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = |part: &Part| if *part == Part::Status { "/status" } else { "" };
        let plural = self.resource.plural;
        match &self.verb {
            Verb::Get(name) => write!(f, "get {plural}/{name}"),
            Verb::List => write!(f, "list {plural}"),
            Verb::Watch => write!(f, "watch {plural}"),
            Verb::Create(body) => {
                let name = body["metadata"]["name"].as_str().unwrap_or("?");
                write!(f, "create {plural}/{name}")
            }
            Verb::Update(name, part, _) => write!(f, "update {plural}/{name}{}", status(part)),
            Verb::Patch(name, part, _) => write!(f, "patch {plural}/{name}{}", status(part)),
            Verb::Delete(name, _) => write!(f, "delete {plural}/{name}"),
            Verb::DeleteAll(_) => write!(f, "delete {plural}"),
        }
    }
}

struct Place<'a> {
    resource: &'static Resource,
    namespace: Option<String>,
    name: Option<&'a str>,
    part: Part,
}

impl<'a> Place<'a> {
    fn parse(path: &[&'a str]) -> Result<Self, Refusal> {
        let (group, version, rest) = match path {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(Refusal::unknown_path()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && rest != ["status"] => {
                (Some((*namespace).to_owned()), rest)
            }
            rest => (None, rest),
        };
        let (plural, name, part) = match rest {
            [plural] => (*plural, None, Part::Main),
            [plural, name] => (*plural, Some(*name), Part::Main),
            [plural, name, "status"] => (*plural, Some(*name), Part::Status),
            _ => return Err(Refusal::unknown_path()),
        };
        let resource = Resource::find(group, version, plural).ok_or_else(Refusal::unknown_path)?;
        if part == Part::Status && !resource.has_status {
            return Err(Refusal::unknown_path());
        }
        Ok(Self { resource, namespace, name, part })
    }
}

fn bad_request(error: &dyn fmt::Display) -> Refusal {
    Refusal::plain(400, "BadRequest", error.to_string())
}

/// A strategic merge differs in lists with keys only, and nobody here patches those.
fn patch(content_type: &str, body: Value) -> Result<Patch, Refusal> {
    match content_type {
        "application/merge-patch+json" | "application/strategic-merge-patch+json" => Ok(Patch::Merge(body)),
        "application/apply-patch+yaml" => Ok(Patch::Apply(body)),
        other => Err(Refusal::plain(415, "UnsupportedMediaType", format!("no patch of type {other:?} in memory"))),
    }
}

fn deletion(body: &[u8], query: &BTreeMap<String, String>) -> Result<Deletion, Refusal> {
    let options: Value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(body).map_err(|error| bad_request(&error))?
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let number = |name: &str| query.get(name).and_then(|value| value.parse().ok());
    Ok(Deletion {
        uid: text(&options["preconditions"]["uid"]),
        resource_version: text(&options["preconditions"]["resourceVersion"]),
        grace_seconds: options["gracePeriodSeconds"].as_i64().or_else(|| number("gracePeriodSeconds")),
        propagation: text(&options["propagationPolicy"]).or_else(|| query.get("propagationPolicy").cloned()),
    })
}

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
