//! Events, one a transition: its name is a digest of the transition, so that repeating it does no harm.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use pintail_execution::label_digest;

use crate::Context;

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// One word, listed in `docs/reference/conditions.md`.
    pub reason: &'static str,
    /// What the operator was about.
    pub action: &'static str,
    pub warning: bool,
    pub note: String,
    /// What tells this transition from others with the same reason: a task and attempt, a generation.
    pub key: String,
}

/// Records what happened. Events are for people: one that cannot be written is only logged.
pub async fn record(context: &Context, object: &DynamicObject, happened: &Happened) {
    const NOTE_BYTES: usize = 1000;
    let namespace = object.namespace().unwrap_or_default();
    let uid = object.uid().unwrap_or_default();
    let types = object.types.clone().unwrap_or_default();
    let digest = label_digest(&[&uid, happened.reason, &happened.key]);
    let end = happened.note.floor_char_boundary(NOTE_BYTES);
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{digest}", object.name_any())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some(happened.action.to_owned()),
        event_time: Some(MicroTime(context.clock.now())),
        note: Some(happened.note.get(..end).unwrap_or_default().to_owned()),
        reason: Some(happened.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(types.api_version),
            kind: Some(types.kind),
            name: Some(object.name_any()),
            namespace: Some(namespace.clone()),
            uid: Some(uid),
            resource_version: object.resource_version(),
            field_path: None,
        }),
        reporting_controller: Some("pintail.dev/operator".to_owned()),
        reporting_instance: Some("pintail-operator".to_owned()),
        type_: Some(if happened.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    };
    let created =
        Api::<Event>::namespaced(context.client.clone(), &namespace).create(&PostParams::default(), &event).await;
    match created {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => tracing::debug!(reason = happened.reason, "an event was not recorded: {error}"),
    }
}
