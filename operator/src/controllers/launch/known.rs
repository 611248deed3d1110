//! What is remembered of plans and their runs, so that a tick costs no more than itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_engine::RunStage;
use pintail_execution::launch::PlanRun;
use pintail_plan::{PlannedLaunch, Problem, compile_launch_plan};

use crate::controllers::object::decode;

/// A plan as it was understood, or what is wrong with it.
pub type Compiled = Arc<Result<PlannedLaunch, Vec<Problem>>>;

/// Namespace and name.
type Key = (String, String);

/// Plans as they were understood: each is understood once a generation.
#[derive(Debug, Default)]
pub struct Launches(Mutex<HashMap<Key, (String, i64, Compiled)>>);

impl Launches {
    pub fn get(&self, plan: &api::LaunchPlan) -> Compiled {
        let (uid, generation) = (plan.uid().unwrap_or_default(), plan.metadata.generation.unwrap_or_default());
        let key = (plan.namespace().unwrap_or_default(), plan.name_any());
        if let Some((known_uid, known_generation, compiled)) = self.lock().get(&key)
            && *known_uid == uid
            && *known_generation == generation
        {
            return Arc::clone(compiled);
        }
        let compiled = Arc::new(compile_launch_plan(plan));
        self.lock().insert(key, (uid, generation, Arc::clone(&compiled)));
        compiled
    }

    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (String, i64, Compiled)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which plans wait for a dataset, so that a version costs no more than those.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<Waits>);

#[derive(Debug, Default)]
struct Waits {
    plans: HashMap<Key, BTreeSet<String>>,
    datasets: HashMap<Key, BTreeSet<String>>,
}

impl Waiting {
    /// Takes in a plan that changed or went.
    pub fn apply(&self, plan: &DynamicObject, gone: bool) {
        let (namespace, name) = (plan.namespace().unwrap_or_default(), plan.name_any());
        let of_dataset = |dataset: &String| (namespace.clone(), dataset.clone());
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for dataset in waits.datasets.remove(&(namespace.clone(), name.clone())).unwrap_or_default() {
            if let Some(plans) = waits.plans.get_mut(&of_dataset(&dataset)) {
                plans.remove(&name);
                if plans.is_empty() {
                    waits.plans.remove(&of_dataset(&dataset));
                }
            }
        }
        let datasets: BTreeSet<String> =
            if gone { BTreeSet::new() } else { datasets(plan).flatten().map(str::to_owned).collect() };
        for dataset in &datasets {
            waits.plans.entry(of_dataset(dataset)).or_default().insert(name.clone());
        }
        if !datasets.is_empty() {
            waits.datasets.insert((namespace, name), datasets);
        }
    }

    /// The plans that wait for the dataset, by name.
    pub fn of(&self, namespace: &str, dataset: &str) -> Vec<String> {
        let waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let plans = waits.plans.get(&(namespace.to_owned(), dataset.to_owned()));
        plans.into_iter().flatten().cloned().collect()
    }
}

/// The datasets that each trigger of a plan waits for.
pub fn datasets(plan: &DynamicObject) -> impl Iterator<Item = impl Iterator<Item = &str>> {
    let triggers = plan.data.pointer("/spec/triggers").and_then(|triggers| triggers.as_array());
    let lists = triggers.into_iter().flatten().filter_map(|trigger| trigger.get("artifacts")?.as_array());
    lists.map(|list| list.iter().filter_map(|dataset| dataset.get("name")?.as_str()))
}

/// The runs of each plan, by their names.
#[derive(Debug, Default)]
pub struct PlanRuns {
    known: Mutex<HashMap<Key, BTreeMap<String, PlanRun>>>,
    /// Those that were created here lately, and when.
    created: Mutex<HashMap<Key, BTreeMap<String, Timestamp>>>,
}

/// The watch shows a run within this after it was created, or it is gone already.
const SHOWN_WITHIN: SignedDuration = SignedDuration::from_secs(10);

impl PlanRuns {
    /// Takes in an Execution that changed or went. Gives the plan that started it.
    pub fn apply(&self, object: &DynamicObject, gone: bool) -> Option<String> {
        let plan = object.data.pointer("/spec/trigger/plan")?.as_str()?.to_owned();
        let key = (object.namespace().unwrap_or_default(), plan.clone());
        let mut runs = self.lock();
        let run = decode::<api::Execution>(object).ok().and_then(|execution| PlanRun::of(&execution));
        match run.filter(|_| !gone) {
            Some(run) => {
                let before = runs.entry(key).or_default().insert(run.name.clone(), run.clone());
                (before.as_ref() != Some(&run)).then_some(plan)
            }
            None => {
                if let Some(of_plan) = runs.get_mut(&key) {
                    of_plan.remove(&object.name_any());
                    if of_plan.is_empty() {
                        runs.remove(&key);
                    }
                }
                Some(plan)
            }
        }
    }

    /// Takes in the name of a run that was created just now, which the watch may not have shown.
    pub fn created(&self, namespace: &str, plan: &str, name: &str, now: Timestamp) {
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = created.entry((namespace.to_owned(), plan.to_owned())).or_default();
        runs.retain(|_, at| now.duration_since(*at) < SHOWN_WITHIN);
        runs.insert(name.to_owned(), now);
    }

    /// How many runs of a plan have not ended, with those that were created just now.
    pub fn unended(&self, namespace: &str, plan: &str, now: Timestamp) -> usize {
        let key = (namespace.to_owned(), plan.to_owned());
        let runs = self.lock();
        let known = runs.get(&key);
        let unended = known.into_iter().flat_map(BTreeMap::values).filter(|run| run.stage != RunStage::Ended).count();
        let created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |(name, at): &(&String, &Timestamp)| {
            now.duration_since(**at) < SHOWN_WITHIN && !known.is_some_and(|known| known.contains_key(*name))
        };
        unended + created.get(&key).into_iter().flatten().filter(is_new).count()
    }

    pub fn of(&self, namespace: &str, plan: &str) -> Vec<PlanRun> {
        let key = (namespace.to_owned(), plan.to_owned());
        self.lock().get(&key).map(|runs| runs.values().cloned().collect()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, BTreeMap<String, PlanRun>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_is_found_by_what_it_waits_for_until_it_changes_or_goes() {
        let plan = |triggers: serde_json::Value| -> DynamicObject {
            let metadata = json!({ "name": "p", "namespace": "n" });
            serde_json::from_value(json!({ "metadata": metadata, "spec": { "triggers": triggers } })).unwrap()
        };
        let waiting = Waiting::default();
        let both = plan(json!([{ "artifacts": [{ "name": "a" }, { "name": "b" }] }, { "schedule": {} }]));
        waiting.apply(&both, false);
        assert_eq!(waiting.of("n", "a"), ["p"]);
        assert_eq!(waiting.of("n", "b"), ["p"]);
        assert!(waiting.of("other", "a").is_empty());
        waiting.apply(&plan(json!([{ "artifacts": [{ "name": "b" }] }])), false);
        assert!(waiting.of("n", "a").is_empty());
        waiting.apply(&both, true);
        assert!(waiting.of("n", "b").is_empty());
        assert!(waiting.0.lock().unwrap().plans.is_empty());
    }
}
