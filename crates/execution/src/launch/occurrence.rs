//! What happened, and the run that it starts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pintail_api as api;
use pintail_engine::Tick;
use pintail_plan::expression::Scope;
use pintail_plan::{PlannedLaunch, PlannedTrigger, inputs_of};
use pintail_protocol::Happened;
use serde_json::{Map, Value, json};

use super::DEPTH_MAX;
use crate::name::{occurrence_name, occurrence_run};

/// Folder of the markers of runs that no trigger started, in place of a trigger's name.
pub const MARKERS_AT: &str = "by-hand";

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Occurrence {
    /// Names it among all of its trigger.
    pub key: String,
    pub time: Timestamp,
    pub depth: i32,
    /// `trigger` in expressions, beside what every trigger has.
    detail: (&'static str, Value),
}

/// A time came.
#[must_use]
pub fn of_tick(tick: &Tick) -> Occurrence {
    let interval = json!({ "start": tick.interval_start.to_string(), "end": tick.interval_end.to_string() });
    Occurrence { key: tick.at.to_string(), time: tick.at, depth: 0, detail: ("interval", interval) }
}

/// Versions were published: one of each dataset that the trigger waits for.
#[must_use]
pub fn of_versions(versions: &[&api::Artifact]) -> Occurrence {
    let name = |artifact: &api::Artifact| artifact.metadata.name.clone().unwrap_or_default();
    let mut names: Vec<String> = versions.iter().map(|artifact| name(artifact)).collect();
    names.sort();
    let time = versions.iter().filter_map(|artifact| artifact.spec.created_at.parse().ok()).max();
    let made = versions.iter().filter_map(|artifact| artifact.spec.produced_by.as_ref());
    let depth = made.map(|made| made.depth.unwrap_or(0)).max().unwrap_or(0);
    let scopes = versions.iter().map(|artifact| (artifact.spec.artifact.clone(), scope_of_version(artifact)));
    Occurrence {
        key: names.join(","),
        time: time.unwrap_or(Timestamp::UNIX_EPOCH),
        depth: depth.saturating_add(1),
        detail: ("artifacts", Value::Object(scopes.collect())),
    }
}

/// What expressions see of a version.
pub(super) fn scope_of_version(artifact: &api::Artifact) -> Value {
    let spec = &artifact.spec;
    json!({
        "name": artifact.metadata.name, "partition": spec.partition, "rows": spec.rows, "bytes": spec.bytes,
        "uri": spec.uri, "createdAt": spec.created_at,
    })
}

/// An object arrived, or an event was received.
#[must_use]
pub fn of_happened(happened: &Happened) -> Occurrence {
    match happened {
        Happened::Object(object) => {
            let name = object.path.rsplit('/').next().unwrap_or_default();
            let detail = json!({
                "path": object.path, "name": name, "uri": object.uri, "bytes": object.bytes,
                "version": object.version, "modifiedAt": object.modified_at.to_string(),
            });
            Occurrence {
                key: format!("{}@{}", object.path, object.version),
                time: object.modified_at,
                depth: 0,
                detail: ("object", detail),
            }
        }
        Happened::Event(event) => {
            let detail = json!({
                "id": event.id, "source": event.source, "type": event.event_type, "subject": event.subject,
                "time": event.time.to_string(), "data": event.data,
            });
            Occurrence {
                key: format!("{}#{}", event.source, event.id),
                time: event.time,
                depth: 0,
                detail: ("event", detail),
            }
        }
    }
}

/// A person asked for a run; `nonce` tells it from others.
#[must_use]
pub fn by_hand(nonce: &str, now: Timestamp) -> Occurrence {
    Occurrence { key: nonce.to_owned(), time: now, depth: 0, detail: ("", Value::Null) }
}

/// The Execution of an occurrence: the same name and spec whoever makes it.
///
/// # Errors
/// Why the occurrence can start none, for people.
pub fn started_run(
    launch: &PlannedLaunch,
    trigger: Option<&PlannedTrigger>,
    occurrence: &Occurrence,
    namespace: &str,
) -> Result<api::Execution, String> {
    if occurrence.depth > DEPTH_MAX {
        return Err(format!(
            "{DEPTH_MAX} runs started each other before this one: plans start each other in a circle; break it at one place"
        ));
    }
    let inputs = inputs_of(launch, trigger, &scope(launch, trigger, occurrence)).map_err(|error| error.to_string())?;
    let name = trigger.map(|trigger| trigger.name.as_str());
    let spec = api::ExecutionSpec {
        workflow_ref: api::ObjectRef { name: launch.workflow.clone() },
        inputs,
        trigger: Some(api::StartedBy {
            plan: launch.name.clone(),
            name: name.map(str::to_owned),
            occurrence: cut(&occurrence.key),
            time: occurrence.time.to_string(),
            depth: (occurrence.depth > 0).then_some(occurrence.depth),
        }),
        retry_of: None,
        start_deadline: None,
        ttl_after_finished: None,
        suspend: None,
        cancel: None,
    };
    let mut execution = api::Execution::new(&occurrence_name(&launch.name, name, &cut(&occurrence.key)), spec);
    execution.metadata.namespace = Some(namespace.to_owned());
    let annotations = BTreeMap::from([("pintail.dev/launch-plan".to_owned(), launch.name.clone())]);
    execution.metadata.annotations = Some(annotations);
    Ok(execution)
}

/// The name of the marker of an occurrence below its trigger.
#[must_use]
pub fn marker_name(started: &api::StartedBy) -> String {
    let name = occurrence_name(&started.plan, started.name.as_deref(), &started.occurrence);
    name.rsplit('-').next().unwrap_or(&name).to_owned()
}

/// The Execution that a marker of a plan speaks of.
#[must_use]
pub fn run_of_marker(plan: &str, marker: &str) -> String {
    occurrence_run(plan, marker)
}

/// A key that is longer than its field is told by its beginning and its digest.
fn cut(key: &str) -> String {
    const BYTES_MAX: usize = 2048;
    if key.len() <= BYTES_MAX {
        return key.to_owned();
    }
    let head = key.floor_char_boundary(1024);
    format!("{}…{}", key.get(..head).unwrap_or_default(), crate::name::label_digest(&[key]))
}

fn scope(launch: &PlannedLaunch, trigger: Option<&PlannedTrigger>, occurrence: &Occurrence) -> Scope {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    set("plan", json!(launch.name));
    set("name", json!(trigger.map(|trigger| &trigger.name)));
    set("time", json!(occurrence.time.to_string()));
    set(occurrence.detail.0, occurrence.detail.1.clone());
    Scope { trigger: Value::Object(fields), ..Scope::default() }
}
