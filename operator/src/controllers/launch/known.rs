//! What is remembered of plans and their runs, so that a tick costs no more than itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_execution::launch::PlanRun;
use pintail_plan::{PlannedLaunch, Problem, compile_launch_plan};

use super::check::name_of;
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
        let key = name_of(plan);
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

/// The runs of each plan, by their names.
#[derive(Debug, Default)]
pub struct PlanRuns(Mutex<HashMap<Key, BTreeMap<String, PlanRun>>>);

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

    pub fn of(&self, namespace: &str, plan: &str) -> Vec<PlanRun> {
        let key = (namespace.to_owned(), plan.to_owned());
        self.lock().get(&key).map(|runs| runs.values().cloned().collect()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, BTreeMap<String, PlanRun>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
