//! What `pintail serve` knows of the store: the runs of its plans, and the versions that they wait for.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use pintail_api as api;
use pintail_engine::RunStage;
use pintail_execution::launch::{PENDING, PlanRun};
use pintail_storage::layout::{self, DEFAULT_NAMESPACE};

use crate::failure::CommandFailure;
use crate::local::plans::plan_run;
use crate::local::records::Records;

/// One run, and the plan that it is of.
#[derive(Clone, Debug)]
pub struct Known {
    pub plan: String,
    pub run: PlanRun,
    /// Whether somebody is still to be told of its end.
    pub tells: bool,
}

#[derive(Default)]
pub struct Board {
    plans: BTreeSet<String>,
    datasets: BTreeSet<String>,
    /// Every Execution of the store that was looked at.
    names: BTreeSet<String>,
    runs: BTreeMap<String, Known>,
    /// Keys of the catalog that were looked at.
    seen: BTreeSet<String>,
    pub artifacts: Vec<api::Artifact>,
    /// Versions that are still to be held against the triggers.
    pub undispatched: Vec<api::Artifact>,
}

impl Board {
    pub fn new(plans: BTreeSet<String>, datasets: BTreeSet<String>) -> Self {
        Self { plans, datasets, ..Self::default() }
    }

    /// Looks at what is new, and again at runs by hand, which other commands drive. What is known of all others is right,
    /// as they are driven here.
    pub async fn refresh(&mut self, records: &Records, own: &BTreeSet<String>) -> Result<(), CommandFailure> {
        let names = records.run_names().await?;
        self.runs.retain(|name, _| names.contains(name));
        let is_of_others = |(name, known): &(&String, &Known)| {
            known.run.trigger.is_none() && known.run.stage != RunStage::Ended && !own.contains(*name)
        };
        let of_others = self.runs.iter().filter(is_of_others);
        let again: BTreeSet<String> = of_others.map(|(name, _)| name.clone()).collect();
        let looked_at: Vec<String> = names.difference(&self.names).chain(&again).cloned().collect();
        for name in looked_at {
            if let Some(stored) = records.find(&name).await? {
                self.learn(&stored.execution);
            }
        }
        self.names = names;
        self.read_catalog(records).await
    }

    async fn read_catalog(&mut self, records: &Records) -> Result<(), CommandFailure> {
        if self.datasets.is_empty() {
            return Ok(());
        }
        for dataset in self.datasets.clone() {
            for key in records.keys(&layout::catalog_dataset(DEFAULT_NAMESPACE, &dataset)?).await? {
                if !self.seen.insert(key.clone()) {
                    continue;
                }
                if let Some(artifact) = records.read::<api::Artifact>(&key).await? {
                    self.artifacts.push(artifact.clone());
                    self.undispatched.push(artifact);
                }
            }
        }
        Ok(())
    }

    /// Takes in a run as it is now.
    pub fn learn(&mut self, execution: &api::Execution) {
        let name = execution.name_any();
        self.names.insert(name.clone());
        let plan = execution.spec.trigger.as_ref().map(|started| started.plan.clone());
        if let Some(plan) = plan.filter(|plan| self.plans.contains(plan))
            && let Some(run) = plan_run(execution)
        {
            let told = execution.status.as_ref().map(|status| status.notifications.as_slice()).unwrap_or_default();
            let tells = told.iter().any(|told| told.state == PENDING);
            self.runs.insert(name, Known { plan, run, tells });
        }
    }

    pub fn forget(&mut self, run: &str) {
        self.runs.remove(run);
        self.names.remove(run);
    }

    pub fn run(&self, name: &str) -> Option<&Known> {
        self.runs.get(name)
    }

    pub fn runs(&self) -> impl Iterator<Item = &Known> {
        self.runs.values()
    }

    pub fn of(&self, plan: &str) -> Vec<PlanRun> {
        self.runs.values().filter(|known| known.plan == plan).map(|known| known.run.clone()).collect()
    }

    /// How many runs of the plan have not ended.
    pub fn living(&self, plan: &str) -> usize {
        self.runs.values().filter(|known| known.plan == plan && known.run.stage != RunStage::Ended).count()
    }
}
