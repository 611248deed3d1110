//! From manifests or a stored Execution to a driver.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::{
    BoundInput, BoundSource, CommittedReport, Reusable, Run, RunContext, RunRecord, bound_from_resolved, version_of,
};
use pintail_plan::{InputValue, Plan};
use pintail_protocol::{Failure, TaskReport};
use pintail_storage::layout::DEFAULT_NAMESPACE;

use crate::failure::CommandFailure;
use crate::local::driver::{Driver, Watcher};
use crate::local::lock::RunLock;
use crate::local::process::RunnerProgram;
use crate::local::records::{Records, Revision, SOURCES_ANNOTATION, StoredExecution};
use crate::manifests::Manifests;

/// Attempts that run at once on this machine: DuckDB uses all processors in each, but waiting ones leave them free.
pub(super) fn max_running() -> usize {
    const AT_LEAST: usize = 4;
    std::thread::available_parallelism().map_or(AT_LEAST, NonZero::get).max(AT_LEAST)
}

/// A run that is about to be created.
pub struct NewRun<'a> {
    pub manifests: &'a Arc<Manifests>,
    pub workflow: &'a api::Workflow,
    pub plan: Plan,
    /// As in `Execution.metadata.name`.
    pub name: String,
    /// As in `Execution.spec.inputs`.
    pub given: BTreeMap<String, api::Binding>,
    pub inputs: Vec<BoundInput>,
    pub started_by: Option<api::StartedBy>,
    pub retry_of: Option<String>,
    pub reusable: Reusable,
}

impl NewRun<'_> {
    /// Creates the Execution with everything pinned, then drives it.
    pub async fn drive(self, records: &Records) -> Result<api::Execution, CommandFailure> {
        let revision = self.manifests.revision(self.workflow);
        records.keep_revision(&self.plan.revision, &revision).await?;
        let context = RunContext {
            namespace: DEFAULT_NAMESPACE.to_owned(),
            name: self.name.clone(),
            uid: uuid::Uuid::new_v4().to_string(),
            start_time: Timestamp::now(),
            started_by: self.started_by.clone(),
            store: records.store.location().clone(),
        };
        let mut execution = self.execution(&context);
        let mut plan = self.plan;
        plan.graph.max_running = max_running();
        let run = Run::new(plan, context, self.inputs, self.reusable).map_err(refused)?;
        execution.status = Some(run.status(&[], Timestamp::now()).map_err(CommandFailure::failed)?);
        let watcher = Watcher::of_terminal()?;
        let _lock = RunLock::take(records.store.location(), &self.name)?;
        let stored = records.create(execution).await?;
        RestoredRun { run, stored, manifests: Arc::clone(self.manifests) }.drive(records, watcher).await
    }

    fn execution(&self, context: &RunContext) -> api::Execution {
        let spec = api::ExecutionSpec {
            workflow_ref: api::ObjectRef { name: self.workflow.name_any() },
            inputs: self.given.clone(),
            trigger: self.started_by.clone(),
            retry_of: self.retry_of.clone().map(|execution| api::RetryOf { execution }),
            start_deadline: None,
            ttl_after_finished: None,
            suspend: None,
            cancel: None,
        };
        let mut execution = api::Execution::new(&self.name, spec);
        declare(&mut execution, &context.uid, context.start_time, self.manifests);
        execution
    }
}

/// What an API server would add to a new Execution, and where its manifests are.
pub fn declare(execution: &mut api::Execution, uid: &str, now: Timestamp, manifests: &Manifests) {
    let metadata = &mut execution.metadata;
    metadata.namespace = Some(DEFAULT_NAMESPACE.to_owned());
    metadata.uid = Some(uid.to_owned());
    metadata.generation = Some(1);
    metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    let sources = manifests.paths().join("\n");
    metadata.annotations.get_or_insert_default().insert(SOURCES_ANNOTATION.to_owned(), sources);
}

/// A stored run, rebuilt from what is recorded of it.
pub struct RestoredRun {
    pub run: Run,
    pub stored: StoredExecution,
    pub manifests: Arc<Manifests>,
}

impl RestoredRun {
    /// Reads everything that is recorded of a run. Connections come from its manifests as they are now.
    pub async fn read(records: &Records, stored: StoredExecution) -> Result<Self, CommandFailure> {
        let manifests = Arc::new(Manifests::read(&sources(&stored.execution))?);
        Self::with(records, stored, manifests).await
    }

    /// As [`RestoredRun::read`], with the connections of these manifests.
    pub async fn with(
        records: &Records,
        stored: StoredExecution,
        manifests: Arc<Manifests>,
    ) -> Result<Self, CommandFailure> {
        let name = stored.execution.name_any();
        let damaged =
            |what: &str| CommandFailure::failed(format!("the record of run {name:?} has no {what}: it is damaged"));
        let status = stored.execution.status.clone().ok_or_else(|| damaged("status"))?;
        let resolved = status.resolved.ok_or_else(|| damaged("resolved"))?;
        let Revision { workflow, config_maps } = records.revision(&resolved.revision).await?;
        let mut plan = manifests.compile(&workflow, config_maps)?;
        plan.graph.max_running = max_running();
        let inputs: Option<Vec<BoundInput>> = resolved.inputs.iter().map(bound_from_resolved).collect();
        let inputs = inputs.ok_or_else(|| damaged("readable inputs"))?;
        let record = status.state.as_deref().ok_or_else(|| damaged("state"))?;
        let mut record =
            RunRecord::decode(record).map_err(|error| CommandFailure::failed(format!("run {name:?}: {error}")))?;
        // While nobody drove the run, nobody waited.
        record.tasks.values_mut().for_each(|task| task.busy_since = None);
        let start_time = status.start_time.and_then(|time| time.parse().ok()).ok_or_else(|| damaged("start time"))?;
        let context = RunContext {
            namespace: DEFAULT_NAMESPACE.to_owned(),
            name: name.clone(),
            uid: stored.execution.metadata.uid.clone().ok_or_else(|| damaged("uid"))?,
            start_time,
            started_by: stored.execution.spec.trigger.clone(),
            store: records.store.location().clone(),
        };
        let reusable = match &stored.execution.spec.retry_of {
            Some(retry) => reusable(records, &retry.execution).await?,
            None => Reusable::new(),
        };
        let committed = committed_reports(records, &record).await?;
        let reports =
            committed.into_iter().map(|(task, result)| (task, result.report)).collect::<BTreeMap<String, TaskReport>>();
        let run = Run::restore(plan, context, inputs, reusable, record, reports).map_err(refused)?;
        Ok(Self { run, stored, manifests })
    }

    /// Drives the run to its end. Whoever calls holds its [`RunLock`].
    pub async fn drive(self, records: &Records, watcher: Watcher) -> Result<api::Execution, CommandFailure> {
        let program = RunnerProgram::find(self.manifests.secrets().clone()).map_err(CommandFailure::failed)?;
        if watcher.interrupts.is_some() {
            watcher.progress.note(&format!("{}  {}", self.run.plan.workflow, self.run.context.name));
        }
        let connections = self.manifests.connections().clone();
        let (run, stored, records) = (self.run, self.stored, records.clone());
        Driver { run, stored, records, connections, program, watcher }.drive().await
    }
}

/// The manifests that a run was started from.
pub fn sources(execution: &api::Execution) -> Vec<std::path::PathBuf> {
    let sources = execution.annotations().get(SOURCES_ANNOTATION).map(String::as_str).unwrap_or_default();
    sources.lines().map(std::path::PathBuf::from).collect()
}

pub(super) fn refused(failure: Failure) -> CommandFailure {
    CommandFailure::failed(format!("{}: {}", failure.reason, failure.message))
}

/// The committed results of a run, for one that retries it.
pub async fn reusable(records: &Records, execution: &str) -> Result<Reusable, CommandFailure> {
    committed_of(records, &records.execution(execution).await?.execution).await
}

/// The committed results of a run, by task name.
pub async fn committed_of(records: &Records, execution: &api::Execution) -> Result<Reusable, CommandFailure> {
    let state = execution.status.as_ref().and_then(|status| status.state.as_deref()).unwrap_or_default();
    let record = RunRecord::decode(state)
        .map_err(|error| CommandFailure::failed(format!("run {:?}: {error}", execution.name_any())))?;
    committed_reports(records, &record).await
}

async fn committed_reports(records: &Records, record: &RunRecord) -> Result<Reusable, CommandFailure> {
    let mut reports = Reusable::new();
    for (task, recorded) in &record.tasks {
        let (Some(key), Some(digest)) = (&recorded.report, &recorded.digest) else { continue };
        let report = records.store.read_report(key, digest).await?;
        reports.insert(task.clone(), CommittedReport { key: key.clone(), digest: digest.clone(), report });
    }
    Ok(reports)
}

/// Pins what inputs are bound to: a dataset becomes its newest version, or that which is named.
pub async fn pin_inputs(
    records: &Records,
    bound: Vec<(String, InputValue)>,
) -> Result<Vec<BoundInput>, CommandFailure> {
    let artifacts = versions_for(records, &bound).await?;
    pinned(&artifacts, bound).map_err(CommandFailure::failed)
}

/// The versions that inputs may be bound to; none where no input takes one.
pub async fn versions_for(
    records: &Records,
    bound: &[(String, InputValue)],
) -> Result<Vec<api::Artifact>, CommandFailure> {
    let takes_one = |value: &InputValue| matches!(value, InputValue::Table(source) if source.artifact.is_some());
    if bound.iter().any(|(_, value)| takes_one(value)) { records.artifacts().await } else { Ok(Vec::new()) }
}

/// As [`pin_inputs`], with the versions at hand. An error says, for people, which is not there.
pub fn pinned(artifacts: &[api::Artifact], bound: Vec<(String, InputValue)>) -> Result<Vec<BoundInput>, String> {
    let source = |name: &str, value| match value {
        InputValue::Scalar(value) => Ok(BoundSource::Scalar(value)),
        InputValue::Table(source) => match &source.artifact {
            None => Ok(BoundSource::Table(Box::new(source))),
            Some(dataset) => version_of(artifacts, dataset, &source)
                .map(|found| BoundSource::of_artifact(&found.name_any(), &found.spec))
                .ok_or_else(|| no_version(name, dataset, &source)),
        },
    };
    bound.into_iter().map(|(name, value)| Ok(BoundInput { source: source(&name, value)?, name })).collect()
}

fn no_version(input: &str, dataset: &str, source: &api::TableSource) -> String {
    if let Some(version) = &source.version {
        return format!(
            "input {input:?} takes version {version} of dataset {dataset:?}, which this store does not have"
        );
    }
    let of = source.partition.as_ref().map_or_else(String::new, |partition| {
        let parts: Vec<String> = partition.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!(" of {}", parts.join(","))
    });
    format!(
        "input {input:?} takes the newest version{of} of dataset {dataset:?}, and this store has none: \
         run the workflow that publishes it first, or bind the input with --input {input}=FILE"
    )
}
