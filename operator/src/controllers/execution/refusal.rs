//! What the API server's answer to a new pod means. Pure.

use kube::core::Status;
use pintail_api::ConditionReason;
use pintail_protocol::{Failure, FailureClass};

use super::facts::{Waiting, failure};
use crate::controllers::error::ReconcileError;

/// Whether the API server will never take the object as it is: it is invalid or too large.
pub fn is_never_taken(error: &ReconcileError) -> bool {
    let ReconcileError::Kubernetes { error: kube::Error::Api(status), .. } = error else { return false };
    // etcd's own limit comes as an internal error.
    matches!(status.code, 400 | 413 | 422) || status.message.contains("request is too large")
}

#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// There is a pod of that name.
    Exists,
    /// It may be taken later.
    Wait(Waiting),
    /// It will never be taken as it is.
    Fail(Failure),
    /// The request failed, and says nothing of the pod.
    TryAgain,
}

pub fn refusal(status: &Status) -> Refusal {
    let message = status.message.as_str();
    let lower = message.to_lowercase();
    let wait = |reason| Refusal::Wait(Waiting { reason, message: message.to_owned() });
    match status.code {
        409 if status.reason == "AlreadyExists" => Refusal::Exists,
        403 if lower.contains("exceeded quota") => wait(ConditionReason::QuotaExceeded),
        403 if lower.contains("serviceaccount") && lower.contains("not found") => {
            wait(ConditionReason::ServiceAccountMissing)
        }
        // The namespace is on its way out, and this Execution with it.
        403 if lower.contains("being terminated") => Refusal::TryAgain,
        // The installation lacks a right: nothing is wrong with the pod.
        403 if lower.contains("cannot create resource") => Refusal::TryAgain,
        400 | 403 | 406 | 413 | 415 | 422 => Refusal::Fail(failure(
            FailureClass::Permanent,
            "PodRejected",
            format!("the cluster does not take the pod: {message}"),
        )),
        _ => Refusal::TryAgain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_or_too_large_object_is_never_taken() {
        let answered = |code, message: &str| ReconcileError::Kubernetes {
            action: "write".to_owned(),
            error: kube::Error::Api(Box::new(Status::failure(message, "").with_code(code))),
        };
        assert!(is_never_taken(&answered(422, "status.taskList[0].message: Too long")));
        assert!(is_never_taken(&answered(413, "limit is 3145728")));
        assert!(is_never_taken(&answered(500, "etcdserver: request is too large")));
        assert!(!is_never_taken(&answered(500, "etcdserver: request timed out")));
        assert!(!is_never_taken(&ReconcileError::Conflict));
    }

    #[test]
    fn a_refused_pod_waits_or_fails_by_what_the_server_says() {
        let answer = |code, reason: &str, message: &str| refusal(&Status::failure(message, reason).with_code(code));
        let waits = |refusal| match refusal {
            Refusal::Wait(waiting) => Some(waiting.reason),
            _ => None,
        };
        let quota = "pods \"a\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2";
        let account = "pods \"a\" is forbidden: error looking up service account data/pintail-runner: serviceaccount \"pintail-runner\" not found";
        assert_eq!(waits(answer(403, "Forbidden", quota)), Some(ConditionReason::QuotaExceeded));
        assert_eq!(waits(answer(403, "Forbidden", account)), Some(ConditionReason::ServiceAccountMissing));
        assert_eq!(answer(409, "AlreadyExists", "pods \"a\" already exists"), Refusal::Exists);
        for (code, message) in [
            (403, "pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\""),
            (422, "Pod \"a\" is invalid: spec.containers[0].image: Required value"),
            (400, "admission webhook \"deny.example.com\" denied the request: no"),
        ] {
            assert!(
                matches!(answer(code, "Invalid", message), Refusal::Fail(failure) if failure.message.contains(message))
            );
        }
        for (code, message) in [
            (500, "etcdserver: request timed out"),
            (429, "too many requests"),
            (409, "Operation cannot be fulfilled on resourcequotas"),
            (403, "pods is forbidden: User \"x\" cannot create resource \"pods\" in API group \"\""),
            (
                403,
                "pods \"a\" is forbidden: unable to create new content in namespace x because it is being terminated",
            ),
        ] {
            assert_eq!(answer(code, "Conflict", message), Refusal::TryAgain, "{message}");
        }
    }
}
