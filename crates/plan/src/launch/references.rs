//! What expressions of a LaunchPlan read: `trigger` in the inputs of a trigger, `artifact` in `where`.

use super::{TriggerOn, near};
use crate::Rule;
use crate::expression::{Kind, Reference, ScopeName};
use crate::problem::{FieldPath, Problem, listing};

const COMMON: [&str; 3] = ["plan", "name", "time"];
const INTERVAL: [&str; 2] = ["start", "end"];
const OBJECT: [&str; 6] = ["path", "name", "uri", "bytes", "version", "modifiedAt"];
const EVENT: [&str; 6] = ["id", "source", "type", "subject", "time", "data"];
const ARTIFACT: [&str; 6] = ["name", "partition", "rows", "bytes", "uri", "createdAt"];

/// What is wrong with a reference to a version in `where`.
pub fn artifact_problem(reference: &Reference, path: &FieldPath) -> Option<Problem> {
    if reference.scope != ScopeName::Artifact {
        return Some(not_here(reference, "`where` reads `artifact` only", path));
    }
    fields_problem("artifact", &reference.path, &ARTIFACT, &["partition"], path)
}

pub fn artifact_kind(path: &[&str]) -> Kind {
    match path {
        ["rows" | "bytes"] => Kind::Int,
        ["name" | "uri" | "createdAt"] => Kind::Text,
        _ => Kind::Any,
    }
}

/// What is wrong with a reference in the inputs of a trigger. `is_whole`: it is all that the field holds, so that it may be
/// a table.
pub fn trigger_problem(reference: &Reference, on: &TriggerOn, is_whole: bool, path: &FieldPath) -> Option<Problem> {
    if reference.scope != ScopeName::Trigger {
        return Some(not_here(reference, "the inputs of a trigger read `trigger` only", path));
    }
    let fields: Vec<&str> = reference.path.iter().map(String::as_str).collect();
    let unknown = |message: String, suggestion: Option<String>| {
        Some(Problem::new(Rule::UnknownReference, path.clone(), message).suggest(suggestion))
    };
    let table = |what: &str, fields: &str| {
        let message =
            format!("`{what}` is a table and no value; read its {fields}, or make it all that the field holds");
        Some(Problem::new(Rule::ExpressionType, path.clone(), message))
    };
    match (on, fields.as_slice()) {
        (_, [only]) if COMMON.contains(only) => None,
        (TriggerOn::Schedule { .. }, ["interval", rest @ ..]) => {
            fields_problem("trigger.interval", &own(rest), &INTERVAL, &[], path)
        }
        (TriggerOn::Artifacts { datasets, .. }, ["artifacts", dataset, rest @ ..]) => {
            let known = || datasets.iter().map(|known| known.name.as_str());
            match rest {
                _ if !known().any(|known| known == *dataset) => {
                    let message = format!("the trigger waits for {}, not for `{dataset}`", listing(known()));
                    unknown(message, near(dataset, known()))
                }
                [] if is_whole => None,
                [] => table(&reference.to_string(), "`.rows`, `.uri` or `.partition`"),
                rest => {
                    fields_problem(&format!("trigger.artifacts.{dataset}"), &own(rest), &ARTIFACT, &["partition"], path)
                }
            }
        }
        (TriggerOn::Object { .. }, ["object"]) if is_whole => None,
        (TriggerOn::Object { .. }, ["object"]) => table("trigger.object", "`.path` or `.uri`"),
        (TriggerOn::Object { .. }, ["object", rest @ ..]) => {
            fields_problem("trigger.object", &own(rest), &OBJECT, &[], path)
        }
        (TriggerOn::Event { .. }, ["event", rest @ ..]) => {
            fields_problem("trigger.event", &own(rest), &EVENT, &["data"], path)
        }
        (on, fields) => {
            let own = own_field(on);
            let known = COMMON.iter().copied().chain([own]);
            let message = format!("here `trigger` has {}, and no `{}`", listing(known.clone()), fields.join("."));
            unknown(message, fields.first().and_then(|field| near(field, known)))
        }
    }
}

pub fn trigger_kind(path: &[&str]) -> Kind {
    match path {
        ["plan" | "name" | "time"] | ["interval", _] => Kind::Text,
        ["artifacts", _, rest @ ..] => artifact_kind(rest),
        ["object", "bytes"] => Kind::Int,
        ["object", _] | ["event", "id" | "source" | "type" | "time"] => Kind::Text,
        _ => Kind::Any,
    }
}

fn own_field(on: &TriggerOn) -> &'static str {
    match on {
        TriggerOn::Schedule { .. } => "interval",
        TriggerOn::Artifacts { .. } => "artifacts",
        TriggerOn::Object { .. } => "object",
        TriggerOn::Event { .. } => "event",
    }
}

fn own(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| (*field).to_owned()).collect()
}

/// Of `of`: one of `known`, with further names behind it only where it is one of `deep`.
fn fields_problem(of: &str, fields: &[String], known: &[&str], deep: &[&str], path: &FieldPath) -> Option<Problem> {
    let first = fields.first().map(String::as_str).unwrap_or_default();
    let fits = known.contains(&first) && (fields.len() == 1 || deep.contains(&first));
    if fits {
        return None;
    }
    let message = format!("`{of}` has {}, and no `{}`", listing(known.iter().copied()), fields.join("."));
    let problem = Problem::new(Rule::UnknownReference, path.clone(), message);
    Some(problem.suggest(near(first, known.iter().copied())))
}

fn not_here(reference: &Reference, why: &str, path: &FieldPath) -> Problem {
    Problem::new(Rule::ScopeNotAllowed, path.clone(), format!("`{reference}` cannot be read here: {why}"))
}
