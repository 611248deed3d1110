//! Objects as they come from the API server: any of them may be one that no build of ours can read.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Resource, ResourceExt};
use pintail_api as api;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::{Attempted, ReconcileError};

/// Reads an object as `K`.
///
/// # Errors
/// What is wrong with it, and where.
pub fn decode<K: DeserializeOwned>(object: &DynamicObject) -> Result<K, String> {
    let value = serde_json::to_value(object).map_err(|error| error.to_string())?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// The version of an object as a number: versions of one object can be compared.
pub fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The conditions that can be read.
pub fn conditions(object: &DynamicObject) -> Vec<api::Condition> {
    let listed = object.data.pointer("/status/conditions").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(|value| serde_json::from_value(value.clone()).ok()).collect()
}

/// Writes `status` where it differs from the object's, if the object is still the one that was read. Gives the object as
/// it is then, or none where nothing differs.
///
/// # Errors
/// [`ReconcileError::Conflict`] where the object was changed meanwhile.
pub async fn write_status(
    objects: &Api<DynamicObject>,
    object: &DynamicObject,
    status: &impl Serialize,
) -> Result<Option<DynamicObject>, ReconcileError> {
    let wanted = serde_json::to_value(status).map_err(|error| ReconcileError::Other(error.to_string()))?;
    let found = object.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let Some(difference) = difference(&found, &wanted) else { return Ok(None) };
    let name = object.name_any();
    let patch = json!({
        "metadata": { "uid": object.uid(), "resourceVersion": object.resource_version() },
        "status": difference,
    });
    let written = objects.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
    written.attempted(|| format!("write the status of {name}")).map(Some)
}

/// The merge patch (RFC 7386) from one value to another; none where they are equal.
fn difference(from: &Value, to: &Value) -> Option<Value> {
    if from == to {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return Some(to.clone()) };
    let mut patch = Map::new();
    for (name, value) in new {
        let change = old.get(name).map_or_else(|| Some(value.clone()), |old| difference(old, value));
        patch.extend(change.map(|change| (name.clone(), change)));
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

/// What a condition says, without its times.
pub struct Said<'a> {
    pub reason: api::ConditionReason,
    pub message: &'a str,
    pub generation: Option<i64>,
    pub now: Timestamp,
}

/// The three conditions of an object that is either right or not: `Ready`, `Reconciling`, `Stalled`.
pub fn ready_conditions(before: &[api::Condition], ready: bool, said: &Said) -> Vec<api::Condition> {
    use api::{ConditionStatus as Status, ConditionType as Type};
    let truth = |holds| if holds { Status::True } else { Status::False };
    let mut conditions = before.to_vec();
    for (kind, holds) in [(Type::Ready, ready), (Type::Reconciling, false), (Type::Stalled, !ready)] {
        api::set_condition(&mut conditions, condition(kind, truth(holds), said));
    }
    conditions
}

/// The same three of an object of which that is not known yet.
pub fn waiting_conditions(before: &[api::Condition], said: &Said) -> Vec<api::Condition> {
    use api::{ConditionStatus as Status, ConditionType as Type};
    let mut conditions = before.to_vec();
    for (kind, status) in
        [(Type::Ready, Status::Unknown), (Type::Reconciling, Status::True), (Type::Stalled, Status::False)]
    {
        api::set_condition(&mut conditions, condition(kind, status, said));
    }
    conditions
}

pub fn condition(condition_type: api::ConditionType, status: api::ConditionStatus, said: &Said) -> api::Condition {
    const MESSAGE_BYTES: usize = 8192;
    let end = said.message.floor_char_boundary(MESSAGE_BYTES);
    api::Condition {
        condition_type,
        status,
        reason: said.reason,
        message: said.message.get(..end).unwrap_or_default().to_owned(),
        last_transition_time: said.now.to_string(),
        observed_generation: said.generation,
    }
}

/// Says of an object that cannot be read that it cannot, and leaves all else of it alone.
pub async fn quarantine(
    objects: &Api<DynamicObject>,
    object: &DynamicObject,
    cause: &str,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let message = format!("the object cannot be read, and nothing is done for it: {cause}");
    let generation = object.meta().generation;
    let said = Said { reason: api::ConditionReason::Undecodable, message: &message, generation, now };
    let mut status = object.data.get("status").cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
    let conditions = ready_conditions(&conditions(object), false, &said);
    if let Some(status) = status.as_object_mut() {
        status.insert("conditions".to_owned(), json!(conditions));
        status.insert("observedGeneration".to_owned(), json!(generation));
    }
    match write_status(objects, object, &status).await {
        Ok(Some(_)) => tracing::warn!(message),
        Ok(None) => {}
        // So broken that the API server takes no condition for it either.
        Err(ReconcileError::Kubernetes { error: kube::Error::Api(answer), .. }) if answer.code == 422 => {
            tracing::warn!("{message}; nor can that be written: {}", answer.message);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_says_what_changed_and_what_went() {
        let from = json!({ "a": 1, "b": { "c": 2, "d": 3 }, "e": [1, 2], "f": 4 });
        let to = json!({ "a": 1, "b": { "c": 2, "d": 4 }, "e": [1], "g": 5 });
        assert_eq!(difference(&from, &to), Some(json!({ "b": { "d": 4 }, "e": [1], "g": 5, "f": null })));
        assert_eq!(difference(&from, &from), None);
    }
}
