//! Published outputs as Artifacts.

use std::collections::BTreeMap;

use pintail_api as api;
use pintail_engine::RunOutcome;
use pintail_plan::OutputValue;

use crate::input::BoundSource;
use crate::run::Run;
use crate::scope::uri;
use crate::status::columns;

impl Run {
    /// The Artifacts that the run publishes: none unless it succeeded. `createdAt` is when the data was committed.
    #[must_use]
    pub fn artifacts(&self) -> Vec<api::Artifact> {
        if self.outcome != Some(RunOutcome::Succeeded) {
            return Vec::new();
        }
        let derived_from = self.inputs.iter().filter_map(|input| match &input.source {
            BoundSource::Artifact { name, .. } => Some(name.clone()),
            BoundSource::Scalar(_) | BoundSource::Table(_) => None,
        });
        let derived_from: Vec<String> = derived_from.collect();
        (0..self.plan.outputs.len()).filter_map(|index| self.artifact(index, &derived_from)).collect()
    }

    fn artifact(&self, index: usize, derived_from: &[String]) -> Option<api::Artifact> {
        let output = self.plan.outputs.get(index)?;
        let published = self.published(index)?;
        let OutputValue::Result(task, result) = &output.value else { return None };
        let report = self.report(*task)?;
        let table = self.results(task.0 as usize)?.tables.iter().find(|table| table.name == *result)?;
        let file = table.files.first()?;
        let mut artifact = api::Artifact::new(
            &published.name,
            api::ArtifactSpec {
                artifact: published.dataset.clone(),
                partition: published.partition.clone(),
                created_at: format!("{:.6}", report.ended_at),
                uri: uri(&self.context.store, &file.key),
                rows: i64::try_from(table.rows).unwrap_or(i64::MAX),
                bytes: i64::try_from(file.bytes).unwrap_or(i64::MAX),
                columns: columns(&table.columns),
                digest: file.digest.clone(),
                produced_by: Some(api::ProducedBy {
                    execution: self.context.name.clone(),
                    uid: self.context.uid.clone(),
                    output: output.name.clone(),
                    depth: self.context.started_by.as_ref().and_then(|started| started.depth),
                }),
                derived_from: derived_from.to_vec(),
                reclaim_policy: output.publish.as_ref().and_then(|publish| publish.reclaim_policy),
                keep_for: output.publish.as_ref().and_then(|publish| publish.keep_for.clone()),
            },
        );
        artifact.metadata.namespace = Some(self.context.namespace.clone());
        let ready = api::Condition {
            condition_type: api::ConditionType::Ready,
            status: api::ConditionStatus::True,
            reason: api::ConditionReason::Published,
            message: String::new(),
            last_transition_time: report.ended_at.to_string(),
            observed_generation: Some(1),
        };
        artifact.status =
            Some(api::ArtifactStatus { observed_generation: Some(1), conditions: vec![ready], dispatched: false });
        Some(artifact)
    }
}

/// The newest version of a dataset's partition: the greatest by time of creation, then by name. Without a partition
/// any will do.
#[must_use]
pub fn newest_artifact<'a>(
    artifacts: impl IntoIterator<Item = &'a api::Artifact>,
    dataset: &str,
    partition: Option<&BTreeMap<String, String>>,
) -> Option<&'a api::Artifact> {
    artifacts
        .into_iter()
        .filter(|artifact| artifact.spec.artifact == dataset)
        .filter(|artifact| partition.is_none_or(|wanted| artifact.spec.partition == *wanted))
        .max_by_key(|artifact| (artifact.spec.created_at.clone(), artifact.metadata.name.clone()))
}

/// The version of a dataset that a source names, or else the newest of its partition.
#[must_use]
pub fn version_of<'a>(
    artifacts: impl IntoIterator<Item = &'a api::Artifact>,
    dataset: &str,
    source: &api::TableSource,
) -> Option<&'a api::Artifact> {
    let wanted = |artifact: &&api::Artifact| source.version.is_none() || artifact.metadata.name == source.version;
    newest_artifact(artifacts.into_iter().filter(wanted), dataset, source.partition.as_ref())
}
