//! LaunchPlans of this machine: their records, and the runs that they started.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::launch::{MARKERS_AT, PlanRun, marker_name};
use pintail_storage::layout::{self, DEFAULT_NAMESPACE};
use pintail_storage::{Marker, PutOnce, StoreError, Update, Version};

use crate::failure::CommandFailure;
use crate::local::lock::RunLock;
use crate::local::records::{OBJECT_BYTES, Records, decode, encode};

/// A LaunchPlan and the version that it was read or written at.
#[derive(Debug)]
pub struct StoredPlan {
    pub plan: api::LaunchPlan,
    version: Version,
}

impl StoredPlan {
    pub fn status(&self) -> api::LaunchPlanStatus {
        self.plan.status.clone().unwrap_or_default()
    }

    pub fn created_at(&self) -> Timestamp {
        self.plan.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    }
}

impl Records {
    /// The LaunchPlan of that name, if there is one.
    pub async fn find_plan(&self, name: &str) -> Result<Option<StoredPlan>, CommandFailure> {
        let key = layout::launch_plan(DEFAULT_NAMESPACE, name)?;
        let found = self.store.read_versioned(&key, OBJECT_BYTES).await?;
        found.map(|(bytes, version)| Ok(StoredPlan { plan: decode(&key, &bytes)?, version })).transpose()
    }

    /// The record of a plan. Made where there is none; where there is one, it keeps its spec.
    pub async fn plan(&self, given: &api::LaunchPlan) -> Result<StoredPlan, CommandFailure> {
        loop {
            if let Some(found) = self.find_plan(&given.name_any()).await? {
                return Ok(found);
            }
            let mut plan = given.clone();
            plan.status = None;
            plan.metadata.namespace = Some(DEFAULT_NAMESPACE.to_owned());
            plan.metadata.uid = Some(uuid::Uuid::new_v4().to_string());
            plan.metadata.generation = Some(1);
            plan.metadata.creation_timestamp = Some(Time(Timestamp::now()));
            let key = layout::launch_plan(DEFAULT_NAMESPACE, &given.name_any())?;
            if let Update::Done(version) = self.store.update(&key, encode(&plan)?, None).await? {
                return Ok(StoredPlan { plan, version });
            }
        }
    }

    /// As [`Records::plan`], with this spec: as if it were applied.
    pub async fn apply_plan(&self, given: &api::LaunchPlan) -> Result<StoredPlan, CommandFailure> {
        loop {
            let mut stored = self.plan(given).await?;
            if stored.plan.spec == given.spec {
                return Ok(stored);
            }
            stored.plan.spec = given.spec.clone();
            stored.plan.metadata.generation = stored.plan.metadata.generation.map(|generation| generation + 1);
            if self.save_plan(&mut stored).await? {
                return Ok(stored);
            }
        }
    }

    /// Writes a plan that was read before. False where it has changed since: read it and all runs again, decide again.
    pub async fn save_plan(&self, stored: &mut StoredPlan) -> Result<bool, CommandFailure> {
        let key = layout::launch_plan(DEFAULT_NAMESPACE, &stored.plan.name_any())?;
        match self.store.update(&key, encode(&stored.plan)?, Some(&stored.version)).await? {
            Update::Done(version) => {
                stored.version = version;
                Ok(true)
            }
            Update::Conflict => Ok(false),
        }
    }

    /// Claims the run's occurrence. False where another run has it.
    pub async fn claim(&self, started: &api::StartedBy, run: &str, uid: &str) -> Result<bool, CommandFailure> {
        let marker = Marker::new(run, uid, &started.occurrence);
        Ok(self.store.claim_occurrence(&marker_key(started)?, &marker).await?)
    }

    /// The run that an occurrence has started, also where it is gone.
    pub async fn claimed(&self, started: &api::StartedBy) -> Result<Option<String>, CommandFailure> {
        Ok(self.store.marker(&marker_key(started)?).await?.map(|marker| marker.execution))
    }

    /// Asks for an end of the run. Whoever drives it looks for that.
    pub async fn cancel(&self, run: &str) -> Result<(), CommandFailure> {
        let key = layout::cancellation(DEFAULT_NAMESPACE, run)?;
        let (PutOnce::Created | PutOnce::Exists) = self.store.put_once(&key, bytes::Bytes::from_static(b"1")).await?;
        Ok(())
    }

    pub async fn is_cancelled(&self, run: &str) -> Result<bool, CommandFailure> {
        let key = layout::cancellation(DEFAULT_NAMESPACE, run)?;
        Ok(self.store.get(&key, OBJECT_BYTES).await?.is_some())
    }

    /// Deletes a run that has ended, and its files where no other run has taken them over. The marker first: nothing that
    /// fired is forgotten with its run.
    pub async fn prune(&self, run: &PlanRun, started: &api::StartedBy) -> Result<(), CommandFailure> {
        self.claim(started, &run.name, &run.uid).await?;
        let keys =
            [layout::execution(DEFAULT_NAMESPACE, &run.name)?, layout::cancellation(DEFAULT_NAMESPACE, &run.name)?];
        self.store.delete(&keys).await?;
        RunLock::forget(self.store.location(), &run.name);
        let others = self.executions().await?;
        let is_retried =
            |other: &api::Execution| other.spec.retry_of.as_ref().is_some_and(|retried| retried.execution == run.name);
        if !others.iter().any(is_retried) {
            self.store.delete_folder(&layout::run_folder(DEFAULT_NAMESPACE, &run.uid)?).await?;
        }
        Ok(())
    }

    /// The runs of one plan.
    pub async fn runs_of(&self, plan: &str) -> Result<Vec<PlanRun>, CommandFailure> {
        let executions = self.executions().await?;
        let of_plan = executions
            .iter()
            .filter(|execution| execution.spec.trigger.as_ref().is_some_and(|started| started.plan == plan));
        Ok(of_plan.filter_map(plan_run).collect())
    }

    /// The names of all Executions.
    pub async fn run_names(&self) -> Result<BTreeSet<String>, CommandFailure> {
        let keys = self.keys(&layout::executions(DEFAULT_NAMESPACE)?).await?;
        Ok(keys.iter().map(|key| layout::name(key).to_owned()).collect())
    }
}

/// The run that an Execution is; none where no plan started it. Its record is its history here, so nothing but telling is
/// left when it has ended.
pub fn plan_run(execution: &api::Execution) -> Option<PlanRun> {
    let mut run = PlanRun::of(execution)?;
    let told = execution.status.iter().flat_map(|status| &status.notifications);
    run.settled = run.ended_at.is_some() && told.into_iter().all(|told| told.state != "Pending");
    Some(run)
}

fn marker_key(started: &api::StartedBy) -> Result<String, StoreError> {
    let trigger = started.name.as_deref().unwrap_or(MARKERS_AT);
    layout::trigger_marker(DEFAULT_NAMESPACE, &started.plan, trigger, &marker_name(started))
}
