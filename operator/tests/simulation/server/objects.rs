//! What is stored, and the log of how it came about.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::resource::Resource;
use super::rules;
use super::selector::Selector;

/// Where an object is. The namespace is empty for what has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub plural: &'static str,
    pub group: &'static str,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(resource: &'static Resource, namespace: &str, name: &str) -> Self {
        let namespace = if resource.namespaced { namespace.to_owned() } else { String::new() };
        Self { plural: resource.plural, group: resource.group, namespace, name: name.to_owned() }
    }

    pub fn resource(&self) -> &'static Resource {
        let mut known = super::resource::RESOURCES.iter();
        known.find(|known| known.plural == self.plural && known.group == self.group).unwrap()
    }

    fn is_of(&self, resource: &Resource, namespace: Option<&str>) -> bool {
        self.plural == resource.plural
            && self.group == resource.group
            && namespace.is_none_or(|namespace| namespace == self.namespace)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One write that changed something.
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub at: Timestamp,
    /// Who wrote.
    pub author: Arc<str>,
    pub key: Key,
    pub kind: ChangeKind,
    pub object: Arc<Value>,
    pub before: Option<Arc<Value>>,
}

/// Which part of an object a write may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Main,
    Status,
}

/// `DeleteOptions`, as far as they matter.
#[derive(Clone, Debug, Default)]
pub struct Deletion {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub grace_seconds: Option<i64>,
    pub propagation: Option<String>,
}

#[derive(Debug, Default)]
pub struct Objects {
    objects: BTreeMap<Key, Arc<Value>>,
    pub log: Vec<Change>,
    pub version: u64,
    /// Versions up to this one are compacted away.
    pub compacted: u64,
    /// How many objects of this key there were: makes uids that are the same in every run.
    births: HashMap<Key, u64>,
    pub seed: u64,
    pub now: Timestamp,
    pub author: Arc<str>,
}

pub type Outcome = Result<Arc<Value>, Refusal>;

impl Objects {
    /// A fresh server is some way on already.
    pub fn new(seed: u64) -> Self {
        const FIRST_VERSION: u64 = 100;
        Self { seed, version: FIRST_VERSION, compacted: FIRST_VERSION / 2, ..Self::default() }
    }

    pub fn get(&self, key: &Key) -> Outcome {
        self.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(key.resource(), &key.name))
    }

    pub fn all(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    pub fn list(&self, resource: &Resource, namespace: Option<&str>, selector: &Selector) -> Vec<Arc<Value>> {
        let found = self.objects.iter().filter(|(key, _)| key.is_of(resource, namespace));
        found.map(|(_, object)| object).filter(|object| selector.matches(object)).cloned().collect()
    }

    /// As [`Objects::list`], as it was at an earlier version.
    pub fn list_at(
        &self,
        version: u64,
        resource: &Resource,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Vec<Arc<Value>> {
        let mut objects: BTreeMap<&Key, &Arc<Value>> =
            self.objects.iter().filter(|(key, _)| key.is_of(resource, namespace)).collect();
        for change in self.log.iter().rev().take_while(|change| change.version > version) {
            if change.key.is_of(resource, namespace) {
                match &change.before {
                    Some(before) => objects.insert(&change.key, before),
                    None => objects.remove(&change.key),
                };
            }
        }
        objects.into_values().filter(|object| selector.matches(object)).cloned().collect()
    }

    pub fn changes_after(&self, version: u64) -> &[Change] {
        let start = self.log.partition_point(|change| change.version <= version);
        self.log.get(start..).unwrap_or_default()
    }

    pub fn create(&mut self, resource: &'static Resource, namespace: &str, mut body: Value, dry: bool) -> Outcome {
        let name = self.name(&body)?;
        let named = body["metadata"]["namespace"].as_str();
        if resource.namespaced && named.is_some_and(|named| named != namespace) {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Refusal::plain(400, "BadRequest", message));
        }
        let key = Key::new(resource, namespace, &name);
        self.check_namespace(&key)?;
        if self.objects.contains_key(&key) {
            return Err(Refusal::already_exists(resource, &name));
        }
        if body["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()) {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::plain(500, "InternalError", message));
        }
        rules::on_create(self, &key, &mut body)?;
        body["apiVersion"] = json!(resource.api_version());
        body["kind"] = json!(resource.kind);
        let metadata = &mut body["metadata"];
        metadata["name"] = json!(name);
        if resource.namespaced {
            metadata["namespace"] = json!(namespace);
        }
        metadata["uid"] = json!(self.uid(&key));
        metadata["creationTimestamp"] = json!(format!("{:.0}", self.now));
        if rules::counts_generations(resource) {
            metadata["generation"] = json!(1);
        }
        if dry {
            return Ok(Arc::new(body));
        }
        *self.births.entry(key.clone()).or_default() += 1;
        Ok(self.record(key, ChangeKind::Added, body))
    }

    fn name(&self, body: &Value) -> Result<String, Refusal> {
        let metadata = &body["metadata"];
        if let Some(name) = metadata["name"].as_str().filter(|name| !name.is_empty()) {
            return Ok(name.to_owned());
        }
        match metadata["generateName"].as_str().filter(|name| !name.is_empty()) {
            Some(prefix) => Ok(format!("{prefix}{:05x}", digest(&(self.seed, self.version, prefix)) & 0xf_ffff)),
            None => {
                let message = "name or generateName is required";
                Err(Refusal::plain(422, "Invalid", message))
            }
        }
    }

    fn check_namespace(&self, key: &Key) -> Result<(), Refusal> {
        if !key.resource().namespaced {
            return Ok(());
        }
        let namespaces = Resource::named("namespaces");
        let namespace = self.get(&Key::new(namespaces, "", &key.namespace))?;
        if namespace["metadata"]["deletionTimestamp"].is_string() {
            return Err(Refusal::namespace_is_terminating(key.resource(), &key.name, &key.namespace));
        }
        Ok(())
    }

    /// Replaces an object, or its status.
    pub fn update(&mut self, key: &Key, body: Value, part: Part, dry: bool) -> Outcome {
        let resource = key.resource();
        let old = self.get(key)?;
        let given = |field: &str| body["metadata"][field].as_str().filter(|text| !text.is_empty());
        let found = |field: &str| old["metadata"][field].as_str().unwrap_or_default();
        if let Some(uid) = given("uid").filter(|uid| *uid != found("uid")) {
            return Err(Refusal::precondition(resource, &key.name, uid, found("uid")));
        }
        match given("resourceVersion") {
            Some(version) if version != found("resourceVersion") => return Err(Refusal::conflict(resource, &key.name)),
            None if resource.is_custom() || resource.kind == "Lease" => {
                let why = "Invalid value: 0: must be specified for an update";
                return Err(Refusal::invalid(resource, &key.name, "metadata.resourceVersion", why));
            }
            _ => {}
        }
        let new = rules::merged(resource, &old, body, part)?;
        self.replace(key, &old, new, dry)
    }

    /// Changes an object whatever was there, as parts of the server itself do.
    pub fn modify(&mut self, key: &Key, change: impl FnOnce(&mut Value)) -> Outcome {
        let old = self.get(key)?;
        let mut new = (*old).clone();
        change(&mut new);
        self.replace(key, &old, new, false)
    }

    fn replace(&mut self, key: &Key, old: &Value, mut new: Value, dry: bool) -> Outcome {
        rules::on_update(key, old, &mut new)?;
        if new == *old || dry {
            return Ok(Arc::new(new));
        }
        let deleting = new["metadata"]["deletionTimestamp"].is_string();
        if deleting && !has_finalizers(&new) && !is_graceful(&new) {
            return Ok(self.remove(key, new));
        }
        Ok(self.record(key.clone(), ChangeKind::Modified, new))
    }

    /// Gives the object, and whether it is gone already.
    pub fn delete(&mut self, key: &Key, options: &Deletion) -> Result<(Arc<Value>, bool), Refusal> {
        let old = self.get(key)?;
        let metadata = &old["metadata"];
        for (what, field, wanted) in
            [("UID", "uid", &options.uid), ("ResourceVersion", "resourceVersion", &options.resource_version)]
        {
            let found = metadata[field].as_str().unwrap_or_default();
            if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
                return Err(Refusal::deletion_precondition(key.resource(), &key.name, what, wanted, found));
            }
        }
        let mut new = (*old).clone();
        match options.propagation.as_deref() {
            Some("Foreground") => add_finalizer(&mut new, "foregroundDeletion"),
            Some("Orphan") => add_finalizer(&mut new, "orphan"),
            _ => {}
        }
        let grace = rules::grace_seconds(key.resource(), &old, options.grace_seconds);
        let metadata = &mut new["metadata"];
        if key.resource().kind == "Namespace" {
            add_finalizer(&mut new, "kubernetes");
            new["status"]["phase"] = json!("Terminating");
            new["metadata"]["deletionTimestamp"] = json!(format!("{:.0}", self.now));
        } else if !metadata["deletionTimestamp"].is_string() {
            metadata["deletionTimestamp"] = json!(format!("{:.0}", self.now));
            metadata["deletionGracePeriodSeconds"] = json!(grace);
            if rules::counts_generations(key.resource()) {
                let generation = metadata["generation"].as_i64().unwrap_or(0);
                metadata["generation"] = json!(generation + 1);
            }
        } else if metadata["deletionGracePeriodSeconds"].as_i64().is_some_and(|before| grace < before) {
            metadata["deletionGracePeriodSeconds"] = json!(grace);
        }
        if has_finalizers(&new) || is_graceful(&new) {
            if new == *old {
                return Ok((old, false));
            }
            return Ok((self.record(key.clone(), ChangeKind::Modified, new), false));
        }
        Ok((self.remove(key, (*old).clone()), true))
    }

    fn remove(&mut self, key: &Key, object: Value) -> Arc<Value> {
        self.record(key.clone(), ChangeKind::Deleted, object)
    }

    fn record(&mut self, key: Key, kind: ChangeKind, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        let before = match kind {
            ChangeKind::Deleted => self.objects.remove(&key),
            _ => self.objects.insert(key.clone(), Arc::clone(&object)),
        };
        let (version, at, author) = (self.version, self.now, Arc::clone(&self.author));
        self.log.push(Change { version, at, author, key, kind, object: Arc::clone(&object), before });
        object
    }

    fn uid(&self, key: &Key) -> String {
        let birth = self.births.get(key).copied().unwrap_or(0);
        let (high, low) = (digest(&(self.seed, key, birth, 1)), digest(&(self.seed, key, birth, 2)));
        let part = |value: u64, shift: u32, bits: u32| (value >> shift) & ((1 << bits) - 1);
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            part(high, 32, 32),
            part(high, 16, 16),
            part(high, 4, 12),
            part(low, 48, 12),
            part(low, 0, 48)
        )
    }
}

/// The same in every process.
pub fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

pub fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

/// Whether its end is left to the kubelet.
fn is_graceful(object: &Value) -> bool {
    object["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds > 0)
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let finalizers = &mut object["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(known) if known.iter().any(|name| name == finalizer) => {}
        Some(known) => known.push(json!(finalizer)),
        None => *finalizers = json!([finalizer]),
    }
}
