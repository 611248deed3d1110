//! What the inputs of a run are bound to on the cluster.

use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::{BoundInput, BoundSource, bound_from_resolved, breaks_contract, version_of};
use pintail_plan::{Contract, InputKind, InputValue, Plan};

use crate::controllers::launch::versions::is_ready;

/// Why an input that takes a dataset gets no version of it.
#[derive(Debug, PartialEq, Eq)]
pub enum NoVersion {
    /// There is none yet.
    Yet(String),
    /// The one that was asked for is not as the input's contract says.
    BreaksContract(String),
}

/// Pins inputs: a dataset becomes its newest ready version that keeps the input's contract, or that of the run that is
/// retried.
///
/// # Errors
/// Where a dataset has no version.
pub fn pin(
    bound: Vec<(String, InputValue)>,
    plan: &Plan,
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
                    None => version((&name, contract_of(plan, &name)), dataset, &source, artifacts)?,
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

fn contract_of<'a>(plan: &'a Plan, input: &str) -> Option<&'a Contract> {
    match &plan.inputs.iter().find(|found| found.name == input)?.kind {
        InputKind::Table { contract } => contract.as_ref(),
        InputKind::Scalar(_) => None,
    }
}

fn version(
    (input, contract): (&str, Option<&Contract>),
    dataset: &str,
    source: &api::TableSource,
    artifacts: &[api::Artifact],
) -> Result<BoundSource, NoVersion> {
    let ready = || artifacts.iter().filter(|artifact| is_ready(artifact));
    let broken = |artifact: &api::Artifact| contract.and_then(|contract| breaks_contract(&artifact.spec, contract));
    if let Some(found) = version_of(ready().filter(|artifact| broken(artifact).is_none()), dataset, source) {
        return Ok(BoundSource::of_artifact(&found.name_any(), &found.spec));
    }
    let unfit = version_of(ready(), dataset, source).and_then(|found| Some((found.name_any(), broken(found)?)));
    Err(match (&source.version, unfit) {
        (Some(version), Some((_, how))) => NoVersion::BreaksContract(format!(
            "input `{input}` takes version {version} of dataset `{dataset}`, which breaks its contract: {how}"
        )),
        (Some(version), None) => NoVersion::Yet(format!(
            "input `{input}` takes version {version} of dataset `{dataset}`, which is gone or not ready"
        )),
        (None, Some((version, how))) => NoVersion::Yet(format!(
            "input `{input}` takes the newest version of dataset `{dataset}` that keeps its contract, and there is none: \
             of {version}, {how}"
        )),
        (None, None) => NoVersion::Yet(none_yet(input, dataset, source)),
    })
}

fn none_yet(input: &str, dataset: &str, source: &api::TableSource) -> String {
    let of = source.partition.as_ref().map_or_else(String::new, |partition| {
        let parts: Vec<String> = partition.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!(" of {}", parts.join(","))
    });
    format!(
        "input `{input}` takes the newest version{of} of dataset `{dataset}`, and there is none: run the workflow that \
         publishes it"
    )
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

    fn plan() -> Plan {
        let spec = json!({
            "inputs": [{ "name": "recent", "type": "table", "columns": [{ "name": "id", "type": "BIGINT" }] }],
            "tasks": [{ "name": "a", "uses": ["recent"], "duckdb": { "query": "SELECT * FROM recent" } }],
        });
        let workflow = api::Workflow::new("w", serde_json::from_value(spec).expect("a workflow"));
        pintail_plan::compile(&workflow, &Default::default()).expect("a plan")
    }

    fn pinned(artifacts: &[api::Artifact], retried: Option<&api::Execution>) -> Option<String> {
        match pin(bound(), &plan(), artifacts, retried).ok()?.pop()?.source {
            BoundSource::Artifact { name, .. } => Some(name),
            _ => None,
        }
    }

    #[test]
    fn a_dataset_is_pinned_to_its_newest_ready_version() {
        let versions =
            [artifact("a", "2026-01-01", true), artifact("b", "2026-01-02", true), artifact("c", "2026-01-03", false)];
        assert_eq!(pinned(&versions, None).as_deref(), Some("b"));
        assert!(pin(bound(), &plan(), &[], None).is_err());
    }

    #[test]
    fn a_version_that_breaks_the_contract_is_not_bound() {
        let columns = |mut artifact: api::Artifact, data_type: &str| {
            let column = json!([{ "name": "ID", "type": data_type }]);
            artifact.spec.columns = serde_json::from_value(column).expect("columns");
            artifact
        };
        let old = columns(artifact("a", "2026-01-01", true), "INTEGER");
        let new = columns(artifact("b", "2026-01-02", true), "VARCHAR");
        assert_eq!(pinned(&[old, new.clone()], None).as_deref(), Some("a"));
        let refused = |version: Option<&str>| {
            let mut bound = bound();
            if let [(_, InputValue::Table(source))] = bound.as_mut_slice() {
                source.version = version.map(str::to_owned);
            }
            pin(bound, &plan(), std::slice::from_ref(&new), None).expect_err("no version fits")
        };
        assert!(matches!(refused(None), NoVersion::Yet(why) if why.contains("of b, its column `id` is VARCHAR")));
        assert!(matches!(refused(Some("b")), NoVersion::BreaksContract(_)));
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
