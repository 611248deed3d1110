//! How the pods of a task are placed and marked.

use pintail_api as api;

use super::Compiler;
use super::task::Draft;
use crate::Rule;
use crate::problem::{FieldPath, excerpt};

/// Whose labels and annotations say which tool an object belongs to, or what a cluster does with it: set by a person on a
/// pod, they would make such a tool delete it, or the cluster mistake it.
const RESERVED_DOMAINS: [&str; 7] =
    ["kubernetes.io", "k8s.io", "pintail.dev", "argoproj.io", "fluxcd.io", "helm.sh", "openshift.io"];
/// The one annotation of Kubernetes that a person may set: whether an autoscaler may evict the pod.
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Annotations are not indexed, but every reader of the pod gets them.
const ANNOTATION_BYTES_MAX: usize = 16 << 10;

impl Compiler<'_> {
    /// What the task says, else what `defaults` say, field by field.
    pub(super) fn pod(&mut self, draft: &Draft) -> api::PodOptions {
        let defaults = self.workflow.spec.defaults.as_ref().and_then(|defaults| defaults.pod.as_ref());
        if let Some(defaults) = defaults.filter(|_| draft.index.0 == 0) {
            self.check_pod(defaults, &FieldPath::root().field("spec").field("defaults").field("pod"));
        }
        let Some(own) = &draft.task.pod else { return defaults.cloned().unwrap_or_default() };
        self.check_pod(own, &draft.path.field("pod"));
        let other = defaults.cloned().unwrap_or_default();
        let own = own.clone();
        let or = |own: std::collections::BTreeMap<_, _>, other| if own.is_empty() { other } else { own };
        api::PodOptions {
            node_selector: or(own.node_selector, other.node_selector),
            tolerations: if own.tolerations.is_empty() { other.tolerations } else { own.tolerations },
            service_account_name: own.service_account_name.or(other.service_account_name),
            labels: or(own.labels, other.labels),
            annotations: or(own.annotations, other.annotations),
            priority_class_name: own.priority_class_name.or(other.priority_class_name),
        }
    }

    fn check_pod(&mut self, given: &api::PodOptions, path: &FieldPath) {
        for (field, entries, may_be_reserved) in
            [("nodeSelector", &given.node_selector, true), ("labels", &given.labels, false)]
        {
            for (key, value) in entries {
                let path = path.field(field).field(key);
                self.check_pod_key(key, may_be_reserved, &path);
                if !is_label_value(value) {
                    let message = format!(
                        "`{}` is no value of a label: at most 63 letters, digits, `-`, `_` and `.`, a letter or digit \
                         first and last",
                        excerpt(value)
                    );
                    self.problem(Rule::PodOptions, &path, message);
                }
            }
        }
        for key in given.annotations.keys() {
            self.check_pod_key(key, key == SAFE_TO_EVICT, &path.field("annotations").field(key));
        }
        let bytes: usize = given.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > ANNOTATION_BYTES_MAX {
            let message = format!("annotations have {bytes} bytes, and {ANNOTATION_BYTES_MAX} are allowed");
            self.problem(Rule::PodOptions, &path.field("annotations"), message);
        }
        for (index, toleration) in given.tolerations.iter().enumerate() {
            self.check_toleration(toleration, &path.field("tolerations").index(index));
        }
    }

    fn check_pod_key(&mut self, key: &str, may_be_reserved: bool, path: &FieldPath) {
        if !is_qualified(key) {
            let message = format!("`{}` is no key: write for example `team` or `example.com/team`", excerpt(key));
            self.problem(Rule::PodOptions, path, message);
            return;
        }
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        let inside = |reserved: &&&str| domain == **reserved || domain.ends_with(&format!(".{reserved}"));
        if !may_be_reserved && let Some(reserved) = RESERVED_DOMAINS.iter().find(inside) {
            let message =
                format!("keys of `{reserved}` are not for pods of a task: another tool or Pintail reads them");
            self.problem(Rule::PodOptions, path, message);
        }
    }

    /// What an API server would refuse.
    fn check_toleration(&mut self, given: &api::Toleration, path: &FieldPath) {
        let exists = given.operator == Some(api::TolerationOperator::Exists);
        if exists && given.value.is_some() {
            self.problem(Rule::PodOptions, &path.field("value"), "`operator: Exists` takes any value, so give none");
        }
        if !exists && given.key.is_none() {
            self.problem(Rule::PodOptions, path, "a toleration without `key` needs `operator: Exists`");
        }
        if given.toleration_seconds.is_some() && given.effect != Some(api::TaintEffect::NoExecute) {
            let message = "`tolerationSeconds` goes with `effect: NoExecute`";
            self.problem(Rule::PodOptions, &path.field("tolerationSeconds"), message);
        }
    }
}

/// `[domain/]name`, as Kubernetes has it.
fn is_qualified(key: &str) -> bool {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let is_domain = |text: &str| {
        let is_part = |part: &str| {
            let alphanumeric =
                |char: Option<char>| char.is_some_and(|char| char.is_ascii_lowercase() || char.is_ascii_digit());
            alphanumeric(part.chars().next())
                && alphanumeric(part.chars().next_back())
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        text.len() <= 253 && text.split('.').all(is_part)
    };
    !name.is_empty() && is_label_value(name) && domain.is_none_or(is_domain)
}

fn is_label_value(text: &str) -> bool {
    let alphanumeric = |char: Option<char>| char.is_none_or(|char| char.is_ascii_alphanumeric());
    text.len() <= 63
        && alphanumeric(text.chars().next())
        && alphanumeric(text.chars().next_back())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{surroundings, workflow};
    use crate::Rule;

    fn broken(pod: serde_json::Value) -> Vec<String> {
        let spec = json!({ "tasks": [{ "name": "a", "duckdb": { "query": "SELECT 1" }, "pod": pod }] });
        let problems = crate::compile(&workflow(spec), &surroundings()).err().unwrap_or_default();
        assert!(problems.iter().all(|problem| problem.rule == Rule::PodOptions), "{problems:?}");
        problems.iter().map(|problem| problem.path.to_string()).collect()
    }

    #[test]
    fn a_task_marks_its_pods_with_keys_of_its_own() {
        let right = json!({
            "nodeSelector": { "kubernetes.io/arch": "arm64" },
            "labels": { "team": "sales", "example.com/cost-center": "42" },
            "annotations": { "cluster-autoscaler.kubernetes.io/safe-to-evict": "true", "sidecar.istio.io/inject": "no" },
            "tolerations": [{ "operator": "Exists" }, { "key": "a", "value": "b", "effect": "NoSchedule" }],
        });
        assert!(broken(right).is_empty());
        let wrong = json!({
            "labels": { "app.kubernetes.io/instance": "x", "a b": "c", "ok": "not ok" },
            "annotations": { "argocd.argoproj.io/tracking-id": "x" },
            "tolerations": [{ "operator": "Exists", "key": "a", "value": "b" }, { "value": "b" }],
        });
        assert_eq!(broken(wrong).len(), 6);
    }

    #[test]
    fn a_task_takes_from_the_defaults_what_it_does_not_say() {
        let spec = json!({
            "defaults": { "pod": { "nodeSelector": { "disk": "ssd" }, "priorityClassName": "low" } },
            "tasks": [{ "name": "a", "duckdb": { "query": "SELECT 1" }, "pod": { "priorityClassName": "high" } }],
        });
        let plan = crate::compile(&workflow(spec), &surroundings()).expect("a plan");
        let pod = &plan.tasks[0].pod;
        assert_eq!((pod.priority_class_name.as_deref(), pod.node_selector.len()), (Some("high"), 1));
    }
}
