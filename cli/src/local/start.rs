//! From manifests or a stored Execution to a driver.

use std::collections::BTreeMap;
use std::num::NonZero;

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
use crate::interrupt::interrupts;
use crate::local::driver::Driver;
use crate::local::lock::RunLock;
use crate::local::process::RunnerProgram;
use crate::local::records::{Records, Revision, SOURCES_ANNOTATION, StoredExecution};
use crate::manifests::Manifests;
use crate::progress::Progress;

/// Attempts that run at once on this machine: DuckDB uses all processors in each, but waiting ones leave them free.
fn max_running() -> usize {
    const AT_LEAST: usize = 4;
    std::thread::available_parallelism().map_or(AT_LEAST, NonZero::get).max(AT_LEAST)
}

/// A run that is about to be created.
pub struct NewRun<'a> {
    pub manifests: &'a Manifests,
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
        let program = RunnerProgram::find(self.manifests.secrets().clone()).map_err(CommandFailure::failed)?;
        let interrupts = interrupts()?;
        let stored = records.create(execution).await?;
        let _lock = RunLock::take(records.store.location(), &self.name)?;
        let progress = Progress::default();
        progress.note(&format!("{}  {}", self.workflow.name_any(), self.name));
        let connections = self.manifests.connections().clone();
        Driver { run, stored, records: records.clone(), connections, program, progress, interrupts }.drive().await
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
        execution.metadata.namespace = Some(context.namespace.clone());
        execution.metadata.uid = Some(context.uid.clone());
        execution.metadata.generation = Some(1);
        execution.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(context.start_time));
        let sources = self.manifests.paths().join("\n");
        execution.metadata.annotations = Some(BTreeMap::from([(SOURCES_ANNOTATION.to_owned(), sources)]));
        execution
    }
}

/// A stored run, rebuilt from what is recorded of it.
pub struct RestoredRun {
    pub run: Run,
    pub stored: StoredExecution,
    pub manifests: Manifests,
}

impl RestoredRun {
    /// Reads everything that is recorded of a run. Connections come from its manifests as they are now.
    pub async fn read(records: &Records, stored: StoredExecution) -> Result<Self, CommandFailure> {
        let name = stored.execution.name_any();
        let damaged =
            |what: &str| CommandFailure::failed(format!("the record of run {name:?} has no {what}: it is damaged"));
        let status = stored.execution.status.clone().ok_or_else(|| damaged("status"))?;
        let resolved = status.resolved.ok_or_else(|| damaged("resolved"))?;
        let manifests = Manifests::read(&sources(&stored.execution))?;
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

    /// Goes on with the run.
    pub async fn drive(self, records: &Records) -> Result<api::Execution, CommandFailure> {
        let _lock = RunLock::take(records.store.location(), &self.run.context.name)?;
        let program = RunnerProgram::find(self.manifests.secrets().clone()).map_err(CommandFailure::failed)?;
        let progress = Progress::default();
        progress.note(&format!("{}  {}", self.run.plan.workflow, self.run.context.name));
        let interrupts = interrupts()?;
        let connections = self.manifests.connections().clone();
        let (run, stored, records) = (self.run, self.stored, records.clone());
        Driver { run, stored, records, connections, program, progress, interrupts }.drive().await
    }
}

/// The manifests that a run was started from.
pub fn sources(execution: &api::Execution) -> Vec<std::path::PathBuf> {
    let sources = execution.annotations().get(SOURCES_ANNOTATION).map(String::as_str).unwrap_or_default();
    sources.lines().map(std::path::PathBuf::from).collect()
}

fn refused(failure: Failure) -> CommandFailure {
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

/// Pins what inputs are bound to: a dataset becomes its newest version.
pub async fn pin_inputs(
    records: &Records,
    bound: Vec<(String, InputValue)>,
) -> Result<Vec<BoundInput>, CommandFailure> {
    let mut inputs = Vec::new();
    for (name, value) in bound {
        let source = match value {
            InputValue::Scalar(value) => BoundSource::Scalar(value),
            InputValue::Table(source) => match &source.artifact {
                None => BoundSource::Table(Box::new(source)),
                Some(dataset) => {
                    let artifacts = records.artifacts().await?;
                    let found = version_of(&artifacts, dataset, &source);
                    let found = found.ok_or_else(|| no_version(&name, dataset, &source))?;
                    BoundSource::of_artifact(&found.name_any(), &found.spec)
                }
            },
        };
        inputs.push(BoundInput { name, source });
    }
    Ok(inputs)
}

fn no_version(input: &str, dataset: &str, source: &api::TableSource) -> CommandFailure {
    if let Some(version) = &source.version {
        return CommandFailure::failed(format!(
            "input {input:?} takes version {version} of dataset {dataset:?}, which this store does not have"
        ));
    }
    let of = source.partition.as_ref().map_or_else(String::new, |partition| {
        let parts: Vec<String> = partition.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!(" of {}", parts.join(","))
    });
    CommandFailure::failed(format!(
        "input {input:?} takes the newest version{of} of dataset {dataset:?}, and this store has none: \
         run the workflow that publishes it first, or bind the input with --input {input}=FILE"
    ))
}
