//! What a cluster refuses, in words that help.

use kube::Resource;
use kube::core::Status;

use crate::failure::{Code, CommandFailure};

/// Which cluster, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// None in a pod.
    pub context: Option<String>,
    pub namespace: String,
    /// Address of the API server.
    pub server: String,
}

/// What was asked of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// As in RBAC: `get`, `list`, `create`, ….
    pub verb: &'static str,
    /// `executions.pintail.dev`, `pods`.
    pub resource: &'static str,
    pub name: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// Of objects of a kind.
    pub fn of<K: Resource<DynamicType = ()>>(verb: &'static str, name: Option<&'a str>) -> Self {
        let resource = match K::plural(&()).as_ref() {
            "workflows" => "workflows.pintail.dev",
            "executions" => "executions.pintail.dev",
            "artifacts" => "artifacts.pintail.dev",
            "pods" => "pods",
            _ => "objects",
        };
        Self { verb, resource, name }
    }

    /// Of the log of a pod.
    pub fn log(pod: &'a str) -> Self {
        Self { verb: "get", resource: "pods/log", name: Some(pod) }
    }
}

impl Location {
    /// In a sentence: `in namespace "data" of context "prod"`.
    pub fn within(&self) -> String {
        format!("in namespace {:?} of {}", self.namespace, self.cluster())
    }

    fn cluster(&self) -> String {
        match &self.context {
            Some(context) => format!("context {context:?}"),
            None => format!("the cluster at {}", self.server),
        }
    }

    /// A cluster that does not answer.
    pub fn unreachable(&self, cause: &str) -> CommandFailure {
        let of = self.context.as_ref().map_or_else(String::new, |context| format!(" of context {context:?}"));
        CommandFailure {
            code: Code::Unreachable,
            message: format!("cannot reach the cluster{of} at {}: {cause}", self.server),
        }
    }

    /// An error of the client, for a person.
    pub fn explain(&self, asked: &Asked<'_>, error: &kube::Error) -> CommandFailure {
        match error {
            kube::Error::Api(status) => self.refused(asked, status),
            kube::Error::SerdeError(cause) => CommandFailure::failed(format!(
                "cannot read {} {}: {cause}; its cluster has another version of Pintail than this one, {}",
                asked.resource,
                self.object(asked),
                env!("CARGO_PKG_VERSION"),
            )),
            kube::Error::Auth(cause) => CommandFailure::failed(format!(
                "cannot log in to the cluster at {} ({}): {cause}",
                self.server,
                self.cluster()
            )),
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                self.unreachable(&root_cause(error))
            }
            other => CommandFailure::failed(format!(
                "cannot {} {} {}: {other}",
                asked.verb,
                asked.resource,
                self.object(asked)
            )),
        }
    }

    fn refused(&self, asked: &Asked<'_>, status: &Status) -> CommandFailure {
        let Asked { verb, resource, .. } = asked;
        let details = status.details.as_ref();
        if status.code == 401 {
            return CommandFailure::failed(format!(
                "the cluster at {} does not accept the credentials of {}: log in again",
                self.server,
                self.cluster()
            ));
        }
        if status.is_forbidden() && is_for_want_of_rights(status) {
            return CommandFailure::failed(format!(
                "not allowed to {verb} {resource} {}: ask for the right to {verb} {resource} there",
                self.within()
            ));
        }
        // What is no kind of the server at all is told in plain text.
        if status.is_not_found() || status.code == 404 {
            return match details.filter(|details| !details.name.is_empty()) {
                Some(details) if details.kind == "namespaces" => {
                    CommandFailure::failed(format!("there is no namespace {:?} in {}", details.name, self.cluster()))
                }
                Some(_) => CommandFailure::failed(format!("there is no {resource} {}", self.object(asked))),
                None => CommandFailure::failed(format!(
                    "{} has no {resource}: Pintail is not installed there; install its chart first, with \
                     `helm install pintail charts/pintail`",
                    self.cluster()
                )),
            };
        }
        let at = self.object(asked);
        CommandFailure::failed(format!("cannot {verb} {resource} {at}: {}", status.message))
    }

    fn object(&self, asked: &Asked<'_>) -> String {
        match asked.name {
            Some(name) => format!("{name:?} {}", self.within()),
            None => self.within(),
        }
    }
}

/// Whether it is an object that is not there, rather than its kind.
pub fn is_missing(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.is_not_found() && status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

/// A quota, an admission policy and a namespace that is being deleted also answer 403, and say more.
fn is_for_want_of_rights(status: &Status) -> bool {
    status.message.contains(" cannot ")
}

/// The last of a chain of causes: `Connection refused`, `certificate has expired`.
fn root_cause(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;

    use super::*;

    fn location() -> Location {
        Location {
            context: Some("prod".to_owned()),
            namespace: "data".to_owned(),
            server: "https://10.0.0.1:6443".to_owned(),
        }
    }

    fn asked() -> Asked<'static> {
        Asked { verb: "get", resource: "executions.pintail.dev", name: Some("x") }
    }

    fn refused(message: &str, reason: &str, code: u16, details: Option<(&str, &str)>) -> CommandFailure {
        let mut status = Status::failure(message, reason).with_code(code);
        if let Some((kind, name)) = details {
            status = status.with_details(StatusDetails {
                name: name.to_owned(),
                group: String::new(),
                kind: kind.to_owned(),
                uid: String::new(),
                causes: Vec::new(),
                retry_after_seconds: 0,
            });
        }
        location().explain(&asked(), &kube::Error::Api(status.boxed()))
    }

    #[test]
    fn a_missing_right_is_named_by_verb_and_resource() {
        let message = r#"executions.pintail.dev "x" is forbidden: User "ann" cannot get resource "executions""#;
        let failure = refused(message, "Forbidden", 403, Some(("executions", "x")));
        insta::assert_snapshot!(failure.message, @r#"not allowed to get executions.pintail.dev in namespace "data" of context "prod": ask for the right to get executions.pintail.dev there"#);
        assert_eq!(failure.code, Code::Failed);
    }

    #[test]
    fn a_quota_is_told_as_the_server_tells_it() {
        let message = r#"pods "x" is forbidden: exceeded quota: compute, requested: pods=1"#;
        let failure = refused(message, "Forbidden", 403, Some(("pods", "x")));
        assert!(failure.message.contains("exceeded quota"), "{}", failure.message);
    }

    #[test]
    fn a_kind_an_object_and_a_namespace_that_are_not_there_are_told_apart() {
        let kind = refused("404 page not found", "Failed to parse error data", 404, None).message;
        let object = refused("not found", "NotFound", 404, Some(("executions", "x"))).message;
        let namespace = refused("not found", "NotFound", 404, Some(("namespaces", "data"))).message;
        insta::assert_snapshot!(kind, @r#"context "prod" has no executions.pintail.dev: Pintail is not installed there; install its chart first, with `helm install pintail charts/pintail`"#);
        insta::assert_snapshot!(object, @r#"there is no executions.pintail.dev "x" in namespace "data" of context "prod""#);
        insta::assert_snapshot!(namespace, @r#"there is no namespace "data" in context "prod""#);
    }

    #[test]
    fn a_server_that_is_not_there_is_named_with_its_address() {
        let cause = std::io::Error::other("Connection refused");
        let failure = location().explain(&asked(), &kube::Error::Service(Box::new(cause)));
        assert_eq!(failure.code, Code::Unreachable);
        insta::assert_snapshot!(failure.message, @r#"cannot reach the cluster of context "prod" at https://10.0.0.1:6443: Connection refused"#);
    }
}
