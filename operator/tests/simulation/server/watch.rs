//! Watches: the log, seen through a selector.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::objects::{Change, ChangeKind};
use super::refusal::Refusal;
use super::request::Call;
use super::{Server, shown};
use crate::server::line::View;

/// How often one who allows bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

struct Watch {
    server: Server,
    call: Call,
    view: View,
    /// The version up to which everything was sent.
    sent: u64,
    pending: VecDeque<Value>,
    versions: tokio::sync::watch::Receiver<u64>,
    /// What ends this watch and no other.
    cuts: u64,
    ends: Instant,
    bookmark: Instant,
    failed: bool,
}

/// The lines of the answer. Ends when its time is over, or it is cut.
pub fn watch(server: Server, call: Call, view: View) -> Result<impl Stream<Item = Bytes>, Refusal> {
    let seconds = call.query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(1800);
    let now = Instant::now();
    let mut watch = Watch {
        versions: server.versions(),
        cuts: view.cuts(),
        ends: now + Duration::from_secs(seconds),
        bookmark: now + BOOKMARK_EVERY,
        sent: 0,
        pending: VecDeque::new(),
        failed: false,
        server,
        call,
        view,
    };
    watch.begin();
    Ok(futures::stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        let line = Bytes::from(format!("{event}\n"));
        Some((line, watch))
    }))
}

impl Watch {
    fn begin(&mut self) {
        let query = |name: &str| self.call.query.get(name).map(String::as_str).unwrap_or_default();
        let objects = self.server.objects();
        let asked: u64 = query("resourceVersion").parse().unwrap_or(0);
        let initial = query("sendInitialEvents") == "true";
        if asked > 0 && !initial {
            if asked < objects.compacted {
                let oldest = objects.compacted;
                drop(objects);
                self.fail(&Refusal::expired(asked, oldest));
                return;
            }
            drop(objects);
            self.sent = self.view.rewound(asked);
            return;
        }
        let version = self.view.stale().map_or(objects.version, |stale| stale.min(objects.version));
        let namespace = self.call.namespace.as_deref();
        let found = objects.list_at(version, self.call.resource, namespace, &self.call.selector);
        drop(objects);
        for object in found {
            self.pending.push_back(json!({ "type": "ADDED", "object": shown(&object, self.call.partial) }));
        }
        self.sent = version;
        if initial {
            let mut bookmark = self.bookmark_event();
            bookmark["object"]["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
            self.pending.push_back(bookmark);
        }
    }

    fn fail(&mut self, refusal: &Refusal) {
        self.pending.push_back(json!({ "type": "ERROR", "object": refusal.body() }));
        self.failed = true;
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if self.view.cuts() != self.cuts {
                return None;
            }
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.failed {
                return None;
            }
            self.versions.borrow_and_update();
            self.take_changes();
            if !self.pending.is_empty() {
                // Whoever watches learns of a write some time after it.
                tokio::time::sleep(self.view.delay()).await;
                continue;
            }
            let bookmarks = self.call.query.get("allowWatchBookmarks").is_some_and(|value| value == "true");
            tokio::select! {
                changed = self.versions.changed() => changed.ok()?,
                () = self.view.changed() => {}
                () = tokio::time::sleep_until(self.bookmark), if bookmarks => {
                    self.bookmark += BOOKMARK_EVERY;
                    return Some(self.bookmark_event());
                }
                () = tokio::time::sleep_until(self.ends) => return None,
            }
        }
    }

    fn bookmark_event(&self) -> Value {
        let metadata = json!({ "resourceVersion": self.sent.to_string(), "creationTimestamp": null });
        let resource = self.call.resource;
        let (kind, api_version) = (resource.kind, resource.api_version());
        let mut object = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
        // As a real server sends them: types with required fields have those, empty.
        if matches!(kind, "Pod") {
            object["spec"] = json!({ "containers": null });
            object["status"] = json!({});
        }
        if self.call.partial {
            object["kind"] = json!("PartialObjectMetadata");
            object["apiVersion"] = json!("meta.k8s.io/v1");
        }
        json!({ "type": "BOOKMARK", "object": object })
    }

    fn take_changes(&mut self) {
        if self.view.is_frozen() {
            return;
        }
        let objects = self.server.objects();
        if self.sent < objects.compacted && self.sent < objects.version {
            let refusal = Refusal::expired(self.sent, objects.compacted);
            drop(objects);
            self.fail(&refusal);
            return;
        }
        for change in objects.changes_after(self.sent) {
            let resource = self.call.resource;
            let of_interest = change.key.plural == resource.plural
                && change.key.group == resource.group
                && self.call.namespace.as_ref().is_none_or(|namespace| *namespace == change.key.namespace);
            if of_interest && let Some(event) = seen(change, &self.call) {
                self.pending.push_back(event);
            }
            self.sent = change.version;
        }
    }
}

/// An object that ceases to match is deleted for whoever watches, one that begins to is added.
fn seen(change: &Change, call: &Call) -> Option<Value> {
    let matched = change.before.as_ref().is_some_and(|before| call.selector.matches(before));
    let matches = change.kind != ChangeKind::Deleted && call.selector.matches(&change.object);
    let kind = match (matched, matches) {
        (false, false) => return None,
        (false, true) => "ADDED",
        (true, true) => "MODIFIED",
        (true, false) => "DELETED",
    };
    let mut object = shown(&change.object, call.partial);
    if kind == "DELETED"
        && change.kind != ChangeKind::Deleted
        && let Some(before) = &change.before
    {
        object = shown(before, call.partial);
        object["metadata"]["resourceVersion"] = change.object["metadata"]["resourceVersion"].clone();
    }
    Some(json!({ "type": kind, "object": object }))
}
