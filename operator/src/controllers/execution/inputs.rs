//! What the inputs of a run are bound to on the cluster.

use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::{BoundInput, BoundSource, bound_from_resolved, version_of};
use pintail_plan::InputValue;

/// A dataset of which there is no version yet.
#[derive(Debug, PartialEq, Eq)]
pub struct NoVersion(pub String);

/// Pins inputs: a dataset becomes its newest ready version, or that of the run that is retried.
///
/// # Errors
/// Where a dataset has no version.
pub fn pin(
    bound: Vec<(String, InputValue)>,
    artifacts: &[api::Artifact],
    retried: Option<&api::Execution>,
) -> Result<Vec<BoundInput>, NoVersion> {
    let resolved = retried.and_then(|execution| execution.status.as_ref()?.resolved.as_ref());
    let before = resolved.map(|resolved| resolved.inputs.as_slice()).unwrap_or_default();
    let pin = |(name, value): (String, InputValue)| {
        let source = match value {
            InputValue::Scalar(value) => BoundSource::Scalar(value),
            InputValue::Table(source) => match &source.artifact {
                None => BoundSource::Table(Box::new(source)),
                Some(dataset) => match kept(&name, dataset, before, artifacts) {
                    Some(kept) => kept,
                    None => version(&name, dataset, &source, artifacts)?,
                },
            },
        };
        Ok(BoundInput { name, source })
    };
    bound.into_iter().map(pin).collect()
}

/// The version that the retried run read, if it is one of the dataset that the input is bound to now.
fn kept(input: &str, dataset: &str, before: &[api::ResolvedInput], artifacts: &[api::Artifact]) -> Option<BoundSource> {
    let resolved = before.iter().find(|resolved| resolved.name == input)?;
    let name = resolved.artifact.as_deref()?;
    let artifact = artifacts.iter().find(|artifact| artifact.name_any() == name)?;
    (artifact.spec.artifact == dataset).then(|| bound_from_resolved(resolved).map(|bound| bound.source))?
}

fn version(
    input: &str,
    dataset: &str,
    source: &api::TableSource,
    artifacts: &[api::Artifact],
) -> Result<BoundSource, NoVersion> {
    let ready = artifacts.iter().filter(|artifact| is_ready(artifact));
    let found = version_of(ready, dataset, source).ok_or_else(|| {
        if let Some(version) = &source.version {
            return NoVersion(format!(
                "input `{input}` takes version {version} of dataset `{dataset}`, which is gone or not ready"
            ));
        }
        let of = source.partition.as_ref().map_or_else(String::new, |partition| {
            let parts: Vec<String> = partition.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!(" of {}", parts.join(","))
        });
        NoVersion(format!(
            "input `{input}` takes the newest version{of} of dataset `{dataset}`, and there is none: run the workflow \
             that publishes it"
        ))
    })?;
    Ok(BoundSource::of_artifact(&found.name_any(), &found.spec))
}

fn is_ready(artifact: &api::Artifact) -> bool {
    let conditions = artifact.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    artifact.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| {
            condition.condition_type == api::ConditionType::Ready && condition.status == api::ConditionStatus::True
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn artifact(name: &str, created_at: &str, ready: bool) -> api::Artifact {
        let status = if ready { "True" } else { "False" };
        serde_json::from_value(json!({
            "apiVersion": api::API_VERSION, "kind": "Artifact", "metadata": { "name": name },
            "spec": { "artifact": "sales", "createdAt": created_at, "uri": format!("s3://b/{name}"), "rows": 1, "bytes": 1,
                      "columns": [], "digest": "blake3:00" },
            "status": { "conditions": [{ "type": "Ready", "status": status, "reason": "Published",
                                         "lastTransitionTime": "2026-01-01T00:00:00Z" }] },
        }))
        .expect("an artifact")
    }

    fn bound() -> Vec<(String, InputValue)> {
        let source = api::TableSource { artifact: Some("sales".to_owned()), ..Default::default() };
        vec![("recent".to_owned(), InputValue::Table(source))]
    }

    fn pinned(artifacts: &[api::Artifact], retried: Option<&api::Execution>) -> Option<String> {
        match pin(bound(), artifacts, retried).ok()?.pop()?.source {
            BoundSource::Artifact { name, .. } => Some(name),
            _ => None,
        }
    }

    #[test]
    fn a_dataset_is_pinned_to_its_newest_ready_version() {
        let versions =
            [artifact("a", "2026-01-01", true), artifact("b", "2026-01-02", true), artifact("c", "2026-01-03", false)];
        assert_eq!(pinned(&versions, None).as_deref(), Some("b"));
        assert!(pin(bound(), &[], None).is_err());
    }

    #[test]
    fn a_retry_reads_what_the_run_before_read() {
        let versions = [artifact("a", "2026-01-01", true), artifact("b", "2026-01-02", true)];
        let retried: api::Execution = serde_json::from_value(json!({
            "apiVersion": api::API_VERSION, "kind": "Execution", "metadata": { "name": "before" },
            "spec": { "workflowRef": { "name": "w" } },
            "status": { "resolved": { "revision": "w-1", "inputs": [
                { "name": "recent", "artifact": "a", "uri": "s3://b/a", "digest": "blake3:00", "bytes": 1 }] } },
        }))
        .expect("an execution");
        assert_eq!(pinned(&versions, Some(&retried)).as_deref(), Some("a"));
    }
}
