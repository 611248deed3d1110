//! What must hold of every history, and what is compared between two.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kubelet::Process;
use crate::kubelet::script::Fate;
use crate::server::objects::{Change, ChangeKind};
use crate::world::{NAMESPACE, World, condition};

/// What must never happen and did.
pub fn violations(world: &World) -> Vec<String> {
    let log = world.server.log();
    let mut found: Vec<String> =
        world.bucket.second_commits().into_iter().map(|key| format!("a second commit: {key}")).collect();
    found.extend(backward_phases(&log));
    found.extend(repeated_attempts(&log, &world.kubelet.processes()));
    found.extend(overlaps(&world.kubelet.processes()));
    found
}

fn rank(state: &str) -> u32 {
    match state {
        "Waiting" => 0,
        "Running" => 1,
        _ => 2,
    }
}

/// Tasks never go back, results never change, and what is pinned stays.
fn backward_phases(log: &[Change]) -> Vec<String> {
    let mut found = Vec::new();
    for change in log.iter().filter(|change| change.key.plural == "executions") {
        let Some(before) = change.before.as_ref().filter(|_| change.kind == ChangeKind::Modified) else { continue };
        let name = &change.key.name;
        let (old, new) = (&before["status"], &change.object["status"]);
        for (field, before) in [("startTime", &old["startTime"]), ("completionTime", &old["completionTime"])] {
            if before.is_string() && *before != new[field] {
                found.push(format!("{name}: {field} changed from {before} to {}", new[field]));
            }
        }
        if old["resolved"]["revision"].is_string() && without_nulls(&old["resolved"]) != without_nulls(&new["resolved"])
        {
            found.push(format!("{name}: what was resolved changed from {} to {}", old["resolved"], new["resolved"]));
        }
        let verdict = |object: &Value| condition(object, "Succeeded").map(|condition| condition["status"].clone());
        if let Some(before) = verdict(before).filter(|status| status != "Unknown")
            && verdict(&change.object).as_ref() != Some(&before)
        {
            found.push(format!("{name}: it had succeeded ({before}), and then not"));
        }
        found.extend(backward_tasks(name, old, new));
    }
    found
}

/// A merge patch cannot say null.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, field)| !field.is_null());
            fields.map(|(name, field)| (name.clone(), without_nulls(field))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn backward_tasks(name: &str, old: &Value, new: &Value) -> Vec<String> {
    let tasks = |status: &Value| -> BTreeMap<String, Value> {
        let list = status["taskList"].as_array().cloned().unwrap_or_default();
        list.into_iter().map(|task| (task["name"].as_str().unwrap().to_owned(), task)).collect()
    };
    let (old, new) = (tasks(old), tasks(new));
    let mut found = Vec::new();
    for (task, before) in &old {
        let after = new.get(task).cloned().unwrap_or_default();
        let state = |task: &Value| task["state"].as_str().unwrap_or("?").to_owned();
        let ended = rank(&state(before)) == 2 && state(before) != state(&after);
        if rank(&state(&after)) < rank(&state(before)) || ended {
            found.push(format!("{name}: task {task} went from {} to {}", state(before), state(&after)));
        }
        // A cancelled task shows no attempt.
        if let (Some(before), Some(after)) = (before["attempt"].as_i64(), after["attempt"].as_i64())
            && after < before
        {
            found.push(format!("{name}: task {task} went from attempt {before} to {after}"));
        }
    }
    found
}

type Attempt = (String, String, u32);

fn attempt(process: &Process) -> Attempt {
    let identity = &process.identity;
    (identity.execution_uid.clone(), identity.task.clone(), identity.attempt)
}

/// A pod of an attempt is created again only where one was lost before its end was recorded.
fn repeated_attempts(log: &[Change], processes: &[Process]) -> Vec<String> {
    let mut created: BTreeMap<&str, u32> = BTreeMap::new();
    for change in log.iter().filter(|change| change.key.plural == "pods" && change.kind == ChangeKind::Added) {
        *created.entry(&change.key.name).or_default() += 1;
    }
    let by_others = |pod: &str| {
        let deleted = log.iter().filter(|change| change.key.name == pod && change.kind == ChangeKind::Deleted);
        deleted.filter(|change| !change.author.starts_with("operator")).count()
    };
    let lost = |pod: &str| {
        let uids: Vec<&str> = log
            .iter()
            .filter(|change| change.key.name == pod && change.kind == ChangeKind::Added)
            .filter_map(|change| change.object["metadata"]["uid"].as_str())
            .collect();
        let fates = processes.iter().filter(|process| uids.contains(&process.pod_uid.as_str()));
        fates.filter(|process| matches!(process.fate, Fate::Lost | Fate::LostAfterCommit | Fate::Deleted)).count()
    };
    let repeated = created.into_iter().filter(|(pod, count)| *count as usize > 1 + lost(pod).max(by_others(pod)));
    repeated.map(|(pod, count)| format!("pod {pod} was created {count} times")).collect()
}

/// Two processes of one attempt at the same time.
fn overlaps(processes: &[Process]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, one) in processes.iter().enumerate() {
        for other in &processes[index + 1..] {
            let apart = one.to.is_some_and(|to| to <= other.from) || other.to.is_some_and(|to| to <= one.from);
            if attempt(one) == attempt(other) && !apart {
                found.push(format!(
                    "two processes of {:?} at once: {} and {}",
                    attempt(one),
                    one.pod_uid,
                    other.pod_uid
                ));
            }
        }
    }
    found
}

/// What is left in the end, one entry a thing, without what may differ: times, and versions of objects.
pub async fn end_state(world: &World) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    let plurals = [
        "workflows",
        "connections",
        "executions",
        "artifacts",
        "controllerrevisions",
        "pods",
        "configmaps",
        "secrets",
        "persistentvolumeclaims",
    ];
    for plural in plurals {
        for object in world.list(plural) {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let mut object = (*object).clone();
            mask(&mut object);
            state.insert(format!("{plural}/{name}"), lines("", &object));
        }
    }
    for key in world.store.list(NAMESPACE).await.unwrap() {
        let content = if key.ends_with("/_commit") {
            let bytes = world.store.get(&key, 1 << 20).await.unwrap().unwrap();
            let mut record: Value = serde_json::from_slice(&bytes).unwrap();
            mask(&mut record);
            record.to_string()
        } else {
            String::new()
        };
        state.insert(format!("store/{key}"), content);
    }
    state
}

/// One line a leaf, with its path, in the order of the paths.
fn lines(path: &str, value: &Value) -> String {
    let mut inner: Vec<String> = match value {
        Value::Object(fields) => fields.iter().map(|(name, field)| lines(&format!("{path}.{name}"), field)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| lines(&format!("{path}[{index}]"), item)).collect()
        }
        leaf => vec![format!("{path} = {leaf}\n")],
    };
    inner.sort();
    inner.concat()
}

/// Fields that hold times, or digests over times.
const MASKED: [&str; 13] = [
    "resourceVersion",
    "creationTimestamp",
    "lastTransitionTime",
    "startTime",
    "completionTime",
    "duration",
    "createdAt",
    "lastHeartbeatTime",
    "deletionTimestamp",
    "startedAt",
    "finishedAt",
    "state",
    "revisionTime",
];

fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // Of a commit record: the report, in which times are.
            if fields.contains_key("pod_uid") {
                fields.insert("digest".to_owned(), json!("*"));
            }
            for (name, field) in fields {
                // Of a container the state is no text.
                let has_time = MASKED.contains(&name.as_str()) && !field.is_object();
                let has_digest =
                    name == "message" && field.as_str().is_some_and(|text| text.starts_with("{\"format\""));
                if has_time || has_digest {
                    *field = json!("*");
                } else {
                    mask(field);
                }
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(mask);
            // Conditions are a set.
            items.sort_by_key(|item| item["type"].as_str().map(str::to_owned));
        }
        _ => {}
    }
}

/// What differs between two end states, for people.
pub fn differences(expected: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, content) in expected {
        match found.get(name) {
            None => differences.push(format!("{name} is missing")),
            Some(other) if other != content => {
                let (old, new): (Vec<&str>, Vec<&str>) = (content.lines().collect(), other.lines().collect());
                let lines = |from: &[&str], than: &[&str]| -> Vec<String> {
                    from.iter().filter(|line| !than.contains(line)).map(|line| line.trim().to_owned()).collect()
                };
                differences.push(format!("{name}: {:?} became {:?}", lines(&old, &new), lines(&new, &old)));
            }
            Some(_) => {}
        }
    }
    let more = found.keys().filter(|name| !expected.contains_key(*name));
    differences.extend(more.map(|name| format!("{name} is there in addition")));
    differences
}
