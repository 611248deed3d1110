//! What is remembered of plans and their runs, so that a tick costs no more than itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_engine::RunStage;
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
