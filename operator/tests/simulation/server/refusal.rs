//! Refusals, in the words and the shape of a real API server.

use serde_json::{Value, json};

use super::resource::Resource;

/// A `Status` of failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Value>,
}

fn details(resource: &Resource, name: &str, kind: &str) -> Value {
    let mut details = json!({ "name": name });
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    details["kind"] = json!(kind);
    details
}

impl Refusal {
    fn of(code: u16, reason: &'static str, message: String, resource: &Resource, name: &str) -> Self {
        Self { code, reason, message, details: Some(details(resource, name, resource.plural)) }
    }

    pub fn plain(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified_plural());
        Self::of(404, "NotFound", message, resource, name)
    }

    pub fn unknown_path() -> Self {
        Self::plain(404, "NotFound", "the server could not find the requested resource")
    }

    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified_plural());
        Self::of(409, "AlreadyExists", message, resource, name)
    }

    fn conflict_because(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified_plural());
        Self::of(409, "Conflict", message, resource, name)
    }

    /// Someone wrote it since it was read.
    pub fn conflict(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict_because(resource, name, why)
    }

    pub fn precondition(resource: &Resource, name: &str, wanted: &str, found: &str) -> Self {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
        Self::conflict_because(resource, name, &why)
    }

    /// `what` is `UID` or `ResourceVersion`.
    pub fn deletion_precondition(resource: &Resource, name: &str, what: &str, wanted: &str, found: &str) -> Self {
        let verb = if what == "UID" { "deleted and then recreated" } else { "modified" };
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: the {what} in the precondition ({wanted}) does not match the \
             {what} in record ({found}). The object might have been {verb}",
            resource.qualified_kind()
        );
        Self { code: 409, reason: "Conflict", message, details: Some(details(resource, name, resource.kind)) }
    }

    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", resource.qualified_plural());
        Self::of(403, "Forbidden", message, resource, name)
    }

    pub fn namespace_is_terminating(resource: &Resource, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut refusal = Self::forbidden(resource, name, &why);
        let causes = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        if let Some(details) = &mut refusal.details {
            details["causes"] = causes;
        }
        refusal
    }

    /// `why` is a sentence as in `Required value: …`, about a field.
    pub fn invalid(resource: &Resource, name: &str, field: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is invalid: {field}: {why}", resource.qualified_kind());
        let mut details = details(resource, name, resource.kind);
        let reason = if why.starts_with("Forbidden") { "FieldValueForbidden" } else { "FieldValueInvalid" };
        details["causes"] = json!([{ "reason": reason, "message": why, "field": field }]);
        Self { code: 422, reason: "Invalid", message, details: Some(details) }
    }

    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::plain(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// What the fault layer answers with.
    pub fn trouble(code: u16) -> Self {
        let (reason, message) = match code {
            403 => (
                "Forbidden",
                "pods is forbidden: exceeded quota: compute, requested: pods=1, used: pods=9, limited: pods=9",
            ),
            409 => {
                let message = "Operation cannot be fulfilled: the object has been modified; please apply your changes to \
                               the latest version and try again";
                ("Conflict", message)
            }
            429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
            503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
            504 => ("Timeout", "the server was unable to return a response in the time allotted"),
            _ => ("InternalError", "Internal error occurred: etcdserver: request timed out"),
        };
        Self::plain(code, reason, message)
    }

    pub fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        if let Some(details) = &self.details {
            body["details"] = details.clone();
        }
        body["code"] = json!(self.code);
        body
    }
}
