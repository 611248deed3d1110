//! A Kubernetes API server in memory, as a tower service.
//!
//! ```text
//! kube::Client ─ Line (faults, delays, a view of its own) ─ Call ─> Objects ─ log ─> watches, checks
//!                                                                     ^
//!                                      Manager (owners, namespaces) ──┘
//! ```
//!
//! What differs from a real one: lists come whole whatever their `limit`; CRDs neither give defaults nor run rules but those
//! in [`rules`]; a strategic merge patch is a merge patch; server-side apply keeps no managers. All that is here does the
//! same as a real one: `behaviours` runs one table against both.

pub mod line;
pub mod manager;
pub mod objects;
pub mod refusal;
pub mod request;
pub mod resource;
mod rules;
mod selector;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::SimulatedClock;
use objects::{Change, Deletion, Key, Objects, Outcome};
use refusal::Refusal;
use request::{Call, Patch, Verb, merge};

/// The server. Clones are the same one.
#[derive(Clone)]
pub struct Server {
    objects: Arc<Mutex<Objects>>,
    version: Arc<tokio::sync::watch::Sender<u64>>,
    pub clock: SimulatedClock,
}

impl Server {
    pub fn new(seed: u64, clock: SimulatedClock) -> Self {
        let objects = Objects::new(seed);
        let (version, _) = tokio::sync::watch::channel(objects.version);
        Self { objects: Arc::new(Mutex::new(objects)), version: Arc::new(version), clock }
    }

    pub fn seed(&self) -> u64 {
        self.objects().seed
    }

    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap()
    }

    /// Does something to the objects in the name of `author`, and wakes whoever watches.
    pub fn apply<T>(&self, author: &str, action: impl FnOnce(&mut Objects) -> T) -> T {
        let mut objects = self.objects();
        objects.now = self.clock.timestamp();
        objects.author = author.into();
        let result = action(&mut objects);
        let version = objects.version;
        drop(objects);
        self.version.send_if_modified(|known| std::mem::replace(known, version) != version);
        result
    }

    /// Everything that changed so far.
    pub fn log(&self) -> Vec<Change> {
        self.objects().log.clone()
    }

    /// Woken by each change.
    pub fn versions(&self) -> tokio::sync::watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Forgets how everything came about: older watches get 410.
    pub fn compact(&self) {
        let mut objects = self.objects();
        objects.compacted = objects.version;
    }

    /// A call that is neither a list nor a watch; gives the code of the answer and its body.
    fn answer(&self, author: &str, call: &Call) -> Result<(u16, Value), Refusal> {
        let dry = call.query.get("dryRun").is_some_and(|value| value == "All");
        let named = |name: &str| call.key(name);
        let (code, object) = match &call.verb {
            Verb::Get(name) => (200, self.objects().get(&named(name))?),
            Verb::Create(body) => {
                let namespace = call.namespace.as_deref().unwrap_or_default();
                let create = |objects: &mut Objects| objects.create(call.resource, namespace, body.clone(), dry);
                (201, self.apply(author, create)?)
            }
            Verb::Update(name, part, body) => {
                (200, self.apply(author, |objects| objects.update(&named(name), body.clone(), *part, dry))?)
            }
            Verb::Patch(name, part, patch) => {
                return self.apply(author, |objects| {
                    let (code, object) = patched(objects, call, &named(name), *part, patch, dry)?;
                    Ok((code, shown(&object, call.partial)))
                });
            }
            Verb::Delete(name, options) => return self.delete(author, call, &named(name), options),
            Verb::DeleteAll(options) => {
                let namespace = call.namespace.as_deref();
                let found = self.objects().list(call.resource, namespace, &call.selector);
                for object in &found {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
                    let key = Key::new(call.resource, namespace, name);
                    let _ = self.apply(author, |objects| objects.delete(&key, options));
                }
                return Ok((200, self.list_body(call, &found, self.objects().version)));
            }
            Verb::List | Verb::Watch => return Err(Refusal::unknown_path()),
        };
        Ok((code, shown(&object, call.partial)))
    }

    fn delete(&self, author: &str, call: &Call, key: &Key, options: &Deletion) -> Result<(u16, Value), Refusal> {
        let (object, gone) = self.apply(author, |objects| objects.delete(key, options))?;
        if !gone || call.resource.kind == "Pod" {
            return Ok((200, (*object).clone()));
        }
        let mut details = json!({ "name": key.name, "kind": key.plural, "uid": object["metadata"]["uid"] });
        if !key.group.is_empty() {
            details["group"] = json!(key.group);
        }
        let body =
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details });
        Ok((200, body))
    }

    /// `stale`: a version that the view of whoever asks has not got beyond.
    fn list(&self, call: &Call, stale: Option<u64>) -> Result<Value, Refusal> {
        let objects = self.objects();
        let asked = call.query.get("resourceVersion").map(String::as_str).unwrap_or_default();
        let asked: Option<u64> = if asked.is_empty() { None } else { Some(asked.parse().unwrap_or(0)) };
        if let Some(future) = asked.filter(|asked| *asked > objects.version) {
            let message = format!("Too large resource version: {future}, current: {}", objects.version);
            return Err(Refusal::plain(504, "Timeout", message));
        }
        let namespace = call.namespace.as_deref();
        // Only who says that any version will do can be given an old one.
        if let (Some(0), Some(version)) = (asked, stale.filter(|version| *version < objects.version)) {
            let found = objects.list_at(version, call.resource, namespace, &call.selector);
            return Ok(self.list_body(call, &found, version));
        }
        let found = objects.list(call.resource, namespace, &call.selector);
        Ok(self.list_body(call, &found, objects.version))
    }

    fn list_body(&self, call: &Call, found: &[Arc<Value>], version: u64) -> Value {
        let items: Vec<Value> = found.iter().map(|object| shown(object, call.partial)).collect();
        let (kind, api_version) = if call.partial {
            ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
        } else {
            (format!("{}List", call.resource.kind), call.resource.api_version())
        };
        let metadata = json!({ "resourceVersion": version.to_string() });
        json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items })
    }

    pub fn now(&self) -> Timestamp {
        self.clock.timestamp()
    }
}

/// An object as it is sent.
fn shown(object: &Value, partial: bool) -> Value {
    if partial {
        let metadata = &object["metadata"];
        return json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata });
    }
    object.clone()
}

fn patched(
    objects: &mut Objects,
    call: &Call,
    key: &Key,
    part: objects::Part,
    patch: &Patch,
    dry: bool,
) -> Result<(u16, Arc<Value>), Refusal> {
    let change = match patch {
        Patch::Merge(change) => change,
        Patch::Apply(wanted) if objects.get(key).is_err() && part == objects::Part::Main => {
            let namespace = call.namespace.as_deref().unwrap_or_default();
            return Ok((201, objects.create(call.resource, namespace, wanted.clone(), dry)?));
        }
        Patch::Apply(change) => change,
    };
    let old = objects.get(key)?;
    let uid = &change["metadata"]["uid"];
    if uid.is_string() && *uid != old["metadata"]["uid"] {
        let why = format!("Invalid value: {uid}: field is immutable");
        return Err(Refusal::invalid(call.resource, &key.name, "metadata.uid", &why));
    }
    let mut body = (*old).clone();
    merge(&mut body, change);
    let outcome: Outcome = objects.update(key, body, part, dry);
    Ok((200, outcome?))
}
