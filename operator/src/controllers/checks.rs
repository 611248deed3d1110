//! What is known of the SQL of Workflows: asked of the checker once for each state of the world, and kept.
//!
//! ```text
//! plan, Connections, datasets of the others ─> request ─> digest ─┬─ known ────────────────┐
//!                                                                 └─> checker ─> judgement ─┴─> status, runs, admission
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_execution::{
    Connections, Datasets, Judgement, Publishers, check_request, dataset_of, judge, newest_artifact, version_shape,
};
use pintail_plan::Plan;
use pintail_protocol::CheckRequest;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::launch::versions::ready_versions;
use super::unit::Unit;
use super::work_queue::Key;
use crate::{CheckerSettings, Unchecked};

/// How long what takes too long to be checked is not tried again: a machine may have been slow, but whoever writes such SQL
/// is not to keep the checker from the others.
pub const NEVER_AGAIN: Duration = Duration::from_secs(600);
/// How long what the checker got no time for is not tried again at first; then twice as long, each time, up to the other: SQL
/// can also be made to sleep.
const SLOW_AGAIN: Duration = Duration::from_secs(5);

/// What is known of a workflow's SQL.
#[derive(Clone, Debug)]
pub enum Examined {
    /// There is no checker.
    Unasked,
    /// As it is now.
    Judged {
        judgement: Arc<Judgement>,
        settled: String,
    },
    /// It was found right before, nothing of it has changed since, and the checker does not answer.
    AsBefore(String),
    Not(Unchecked),
}

/// By namespace and name of the Workflow.
#[derive(Default)]
pub struct Checks {
    known: Mutex<BTreeMap<Key, Known>>,
    slow: Mutex<BTreeMap<Key, Slow>>,
}

/// What the checker got no time for. What was known before stays known.
struct Slow {
    /// As [`Known::key`].
    key: String,
    why: String,
    until: Instant,
    wait: Duration,
}

struct Known {
    /// Of everything that it follows from.
    key: String,
    found: Found,
}

enum Found {
    Judged(Arc<Judgement>),
    /// It could not be checked, and is not tried again before this.
    Never(String, Instant),
}

impl Known {
    fn publishers(&self) -> Option<&Publishers> {
        match &self.found {
            Found::Judged(judgement) => Some(&judgement.publishers),
            Found::Never(..) => None,
        }
    }
}

impl Checks {
    pub fn forget(&self, namespace: &str, workflow: &str) {
        let name = (namespace.to_owned(), workflow.to_owned());
        self.known().remove(&name);
        self.slow().remove(&name);
    }

    /// The datasets that the other Workflows of a namespace publish.
    fn publishers_beside(&self, namespace: &str, workflow: &str) -> Publishers {
        let known = self.known();
        let others = known.iter().filter(|((within, name), _)| within == namespace && name != workflow);
        others.filter_map(|(_, known)| known.publishers().cloned()).flatten().collect()
    }

    fn find(&self, namespace: &str, workflow: &str, key: &str) -> Option<Result<Arc<Judgement>, Unchecked>> {
        let (name, now) = ((namespace.to_owned(), workflow.to_owned()), Instant::now());
        if let Some(slow) = self.slow().get(&name).filter(|slow| slow.key == key && now < slow.until) {
            return Some(Err(Unchecked::Slow(slow.why.clone())));
        }
        let known = self.known();
        let known = known.get(&name).filter(|known| known.key == key)?;
        match &known.found {
            Found::Judged(judgement) => Some(Ok(Arc::clone(judgement))),
            Found::Never(why, until) => (now < *until).then(|| Err(Unchecked::Never(why.clone()))),
        }
    }

    fn note_slow(&self, namespace: &str, workflow: &str, key: String, why: &str) {
        let name = (namespace.to_owned(), workflow.to_owned());
        let mut slow = self.slow();
        let again = slow.get(&name).filter(|slow| slow.key == key);
        let wait = again.map_or(SLOW_AGAIN, |slow| slow.wait.saturating_mul(2).min(NEVER_AGAIN));
        slow.insert(name, Slow { key, why: why.to_owned(), until: Instant::now() + wait, wait });
    }

    /// Gives the datasets that are others than before.
    fn keep(&self, namespace: &str, workflow: &str, key: String, found: Found) -> BTreeSet<String> {
        let none = Publishers::new();
        let known = Known { key, found };
        let now = known.publishers().unwrap_or(&none).clone();
        let name = (namespace.to_owned(), workflow.to_owned());
        self.slow().remove(&name);
        let before = self.known().insert(name, known);
        let before = before.as_ref().and_then(Known::publishers).unwrap_or(&none);
        before.keys().chain(now.keys()).filter(|name| before.get(*name) != now.get(*name)).cloned().collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slow(&self) -> MutexGuard<'_, BTreeMap<Key, Slow>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a judgement follows from.
#[derive(Serialize)]
struct Asked<'a> {
    request: &'a CheckRequest,
    spec: &'a api::WorkflowSpec,
    /// Those that the plan uses: which of their columns are sensitive is not in the request.
    connections: BTreeMap<&'a str, &'a api::ConnectionSpec>,
    /// Of those that it reads: a contract hides their columns from the request.
    datasets: &'a Datasets,
    /// Whose columns may change, and who publishes what.
    publishers: Vec<(&'a String, &'a String, bool)>,
}

impl Asked<'_> {
    fn digest(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is asked of a workflow, and what its answer is measured by.
pub struct Question {
    pub request: CheckRequest,
    pub datasets: Datasets,
    pub publishers: Publishers,
    /// Of everything that a judgement follows from.
    key: String,
    /// The same but for the datasets of others.
    settled: String,
}

/// The question that stands at this moment.
pub async fn question(
    unit: &Unit,
    namespace: &str,
    workflow: &api::Workflow,
    plan: &Plan,
    connections: &Connections,
) -> Question {
    let publishers = unit.checks.publishers_beside(namespace, &workflow.name_any());
    let datasets = datasets(unit, namespace, plan, &publishers).await;
    let settings = &unit.context.settings.checker;
    let request = request(settings, plan, connections, &datasets);
    let key = digest(workflow, plan, connections, &request, (&datasets, &publishers));
    let none = (&Datasets::new(), &Publishers::new());
    let alone = self::request(settings, plan, connections, none.0);
    let settled = digest(workflow, plan, connections, &alone, none);
    Question { request, datasets, publishers, key, settled }
}

/// As the installation masks.
pub fn request(
    settings: &CheckerSettings,
    plan: &Plan,
    connections: &Connections,
    datasets: &Datasets,
) -> CheckRequest {
    let mut request = check_request(plan, connections, datasets);
    if let Some(masking) = &settings.masking_functions {
        request.masking = masking.iter().map(|name| name.to_lowercase()).collect();
    }
    request
}

/// What is known of the SQL of a workflow, after asking the checker where need be.
pub async fn examine(
    unit: &Unit,
    namespace: &str,
    workflow: &api::Workflow,
    plan: &Plan,
    connections: &Connections,
) -> Examined {
    let Some(checker) = &unit.context.checker else { return Examined::Unasked };
    let name = workflow.name_any();
    let Question { request, datasets, publishers, key, settled } =
        question(unit, namespace, workflow, plan, connections).await;
    let not_now = |why: Unchecked, settled: String| match why {
        Unchecked::Later(_) | Unchecked::Slow(_) if was_found_right(workflow, &settled) => Examined::AsBefore(settled),
        why => Examined::Not(why),
    };
    match unit.checks.find(namespace, &name, &key) {
        Some(Ok(judgement)) => return Examined::Judged { judgement, settled },
        Some(Err(why)) => return not_now(why, settled),
        None => {}
    }
    let (found, examined) = match checker.check(&request).await {
        Ok(response) => {
            let judgement = Arc::new(judge(workflow, plan, connections, (&datasets, &publishers), &response));
            (Found::Judged(Arc::clone(&judgement)), Examined::Judged { judgement, settled })
        }
        Err(Unchecked::Never(why)) => {
            (Found::Never(why.clone(), Instant::now() + NEVER_AGAIN), Examined::Not(Unchecked::Never(why)))
        }
        Err(why) => {
            if let Unchecked::Slow(why) = &why {
                unit.checks.note_slow(namespace, &name, key, why);
            }
            return not_now(why, settled);
        }
    };
    let changed = unit.checks.keep(namespace, &name, key, found);
    enqueue_readers(unit, namespace, &name, |dataset| changed.contains(dataset));
    examined
}

fn was_found_right(workflow: &api::Workflow, settled: &str) -> bool {
    workflow.status.as_ref().and_then(|status| status.checked.as_deref()) == Some(settled)
}

fn digest(
    workflow: &api::Workflow,
    plan: &Plan,
    connections: &Connections,
    request: &CheckRequest,
    (datasets, publishers): (&Datasets, &Publishers),
) -> String {
    let used = plan.tasks.iter().flat_map(|task| &task.connections).map(|used| used.name.as_str());
    let found = used.filter_map(|name| Some((name, &connections.get(name)?.spec)));
    let read: BTreeSet<&str> = plan.inputs.iter().filter_map(dataset_of).collect();
    let around = publishers.iter().filter(|(dataset, _)| read.contains(dataset.as_str()));
    let publishers = around.map(|(dataset, publisher)| (dataset, &publisher.workflow, publisher.breaks)).collect();
    Asked { request, spec: &workflow.spec, connections: found.collect(), datasets, publishers }.digest()
}

/// The columns of the datasets that a plan reads: those that their Workflow gives, else those of the newest version. Its own
/// are what this very plan makes of them.
async fn datasets(unit: &Unit, namespace: &str, plan: &Plan, publishers: &Publishers) -> Datasets {
    let own: BTreeSet<&str> =
        plan.outputs.iter().filter_map(|it| Some(it.publish.as_ref()?.artifact.as_str())).collect();
    let mut datasets = Datasets::new();
    for name in plan.inputs.iter().filter_map(dataset_of).filter(|name| !own.contains(name)) {
        let of_workflow = publishers.get(name).and_then(|publisher| publisher.shape.clone());
        let shape = match of_workflow {
            Some(shape) => Some(shape),
            None => {
                let versions = ready_versions(unit, namespace, &BTreeSet::from([name])).await;
                newest_artifact(&versions, name, None).and_then(|newest| version_shape(&newest.spec))
            }
        };
        datasets.extend(shape.map(|shape| (name.to_owned(), shape)));
    }
    datasets
}

/// Has the Workflows looked at again that read a dataset.
fn enqueue_readers(unit: &Unit, namespace: &str, but: &str, is_changed: impl Fn(&str) -> bool) {
    for workflow in unit.workflows.within(namespace) {
        if workflow.name_any() != but && datasets_read(&workflow).any(&is_changed) {
            unit.workflows.enqueue(namespace, &workflow.name_any());
        }
    }
}

/// Has the Workflows looked at again that read the dataset of a version.
pub fn enqueue_readers_of(unit: &Unit, artifact: &DynamicObject) {
    let dataset = artifact.data.pointer("/spec/artifact").and_then(|name| name.as_str());
    if let (Some(dataset), true) = (dataset, unit.context.checker.is_some()) {
        enqueue_readers(unit, &artifact.namespace().unwrap_or_default(), "", |read| read == dataset);
    }
}

pub fn datasets_read(workflow: &DynamicObject) -> impl Iterator<Item = &str> {
    let inputs = workflow.data.pointer("/spec/inputs").and_then(|inputs| inputs.as_array());
    inputs.into_iter().flatten().filter_map(|input| input.pointer("/default/artifact")?.as_str())
}

#[cfg(test)]
mod tests {
    use pintail_protocol::{ResultColumn, TableShape};
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_got_no_time_is_asked_for_again_the_later_the_more_often_that_was_so() {
        let checks = Checks::default();
        let slow = || Some(Err(Unchecked::Slow("slow".to_owned())));
        let mut waits = Vec::new();
        for _ in 0..9 {
            checks.note_slow("data", "w", "key".to_owned(), "slow");
            let start = Instant::now();
            assert_eq!(checks.find("data", "w", "another key"), None);
            while checks.find("data", "w", "key") == slow() {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            waits.push(start.elapsed().as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
    }

    #[test]
    fn another_column_of_a_dataset_is_another_question_though_a_contract_hides_it() {
        let spec = json!({
            "inputs": [{ "name": "orders", "type": "table", "default": { "artifact": "sales" },
                         "columns": [{ "name": "id", "type": "BIGINT" }] }],
            "tasks": [{ "name": "a", "uses": ["orders"], "duckdb": { "query": "SELECT id FROM orders" } }],
        });
        let workflow = api::Workflow::new("w", serde_json::from_value(spec).expect("a workflow"));
        let plan = pintail_plan::compile(&workflow, &Default::default()).expect("a plan");
        let none = Connections::new();
        let digest = |data_type: &str| {
            let columns = vec![ResultColumn { name: "id".to_owned(), data_type: data_type.to_owned() }];
            let datasets = Datasets::from([("sales".to_owned(), TableShape { columns, open: false })]);
            let request = request(&CheckerSettings::default(), &plan, &none, &datasets);
            super::digest(&workflow, &plan, &none, &request, (&datasets, &Publishers::new()))
        };
        assert_eq!(digest("BIGINT"), digest("BIGINT"));
        assert_ne!(digest("BIGINT"), digest("VARCHAR"));
    }
}
