//! Agents: one pod in each namespace whose LaunchPlans wait for objects or events, and what they tell.
//!
//! ```text
//! LaunchPlans, Connections ─ order::wanted ─> order ─ pod::build ─> pod ─ steps ─> create, delete
//! agent ─ POST /v1/occurrences ─ token ─> Desk::tell ─ occurrence ─> Execution
//! ```

pub mod occurrence;
mod order;
mod pod;
mod queue;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use pintail_api as api;
use pintail_storage::{Listed, layout};
use serde_json::Value;

pub use order::needs_agent;
pub use pod::is_agent;
pub use queue::{Agents, run};

use super::error::{Attempted, ReconcileError, words};
use super::execution::refusal::{Refusal, refusal};
use super::object::decode;
use super::unit::Unit;
use order::{KnownPlan, Wanted, wanted};
use queue::LOOK_AROUND;

/// A quota, a policy or a ServiceAccount may change without a word.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// The pod of a new order may not be known yet.
const ORDERS_STAY: Duration = Duration::from_secs(3600);

/// Whether an object is a LaunchPlan with triggers for an agent; cheap, for every change of any plan.
pub fn concerns_agents(plan: &DynamicObject) -> bool {
    let triggers = plan.data.pointer("/spec/triggers").and_then(Value::as_array);
    triggers.into_iter().flatten().any(|trigger| trigger.get("object").is_some() || trigger.get("event").is_some())
}

/// Makes the agent of a namespace what it should be. Gives when to look again; none where it has none.
async fn reconcile(unit: &Unit, namespace: &str) -> Result<Option<Duration>, ReconcileError> {
    unit.launch_plans.wait_until_ready().await;
    unit.pods.wait_until_ready().await;
    let wanted = wanted_in(unit, namespace).await;
    let takes_events = wanted.as_ref().is_some_and(|wanted| !wanted.order.events.is_empty());
    let service = match keep_service(unit, namespace, takes_events).await {
        // The pods are what it is found by the next time.
        Err(error) if wanted.is_none() => return Err(error),
        service => service,
    };
    let kept = keep_pod(unit, namespace, wanted.as_ref()).await?;
    let in_the_way = service?;
    let trouble = kept.trouble.or(in_the_way);
    if unit.agents.stands(namespace, wanted.is_some(), takes_events, trouble) {
        enqueue_plans(unit, namespace);
    }
    let look_again = kept.look_again.map_or(LOOK_AROUND, |wait| wait.min(LOOK_AROUND));
    Ok((wanted.is_some() || kept.look_again.is_some()).then_some(look_again))
}

/// What an operator before left behind while nobody worked.
async fn ask_those_with_services(unit: &Unit) {
    let services = unit.all::<Service>().list(&ListParams::default().labels(&pod::selector())).await;
    match services {
        Ok(services) => {
            services.iter().filter_map(ResourceExt::namespace).for_each(|namespace| unit.agents.ask(&namespace))
        }
        Err(error) => tracing::warn!("Services of agents that nobody needs were not looked for: {}", words(&error)),
    }
}

/// Their conditions say how their agent is.
fn enqueue_plans(unit: &Unit, namespace: &str) {
    for plan in unit.launch_plans.within(namespace).iter().filter(|plan| concerns_agents(plan)) {
        unit.launch_plans.enqueue(namespace, &plan.name_any());
    }
}

async fn wanted_in(unit: &Unit, namespace: &str) -> Option<Wanted> {
    let plans = unit.launch_plans.within(namespace);
    let plans = plans.iter().filter(|plan| plan.metadata.deletion_timestamp.is_none() && concerns_agents(plan));
    let plans: Vec<api::LaunchPlan> = plans.filter_map(|plan| decode(plan).ok()).collect();
    let compiled: Vec<_> = plans.iter().map(|plan| unit.launches.get(plan)).collect();
    let nothing = api::LaunchPlanStatus::default();
    let known = plans.iter().zip(&compiled).filter_map(|(plan, compiled)| {
        let launch = compiled.as_ref().as_ref().ok()?;
        let uid = plan.metadata.uid.as_deref().unwrap_or_default();
        Some(KnownPlan { uid, launch, status: plan.status.as_ref().unwrap_or(&nothing) })
    });
    let known: Vec<KnownPlan> = known.collect();
    let connections = unit.connections_of(namespace).await;
    let context = &unit.context;
    wanted(namespace, &known, &connections, context.store.location(), &context.settings.operator_url())
}

/// How the pods of a namespace stand after what could be done.
#[derive(Default)]
struct Kept {
    trouble: Option<String>,
    look_again: Option<Duration>,
}

async fn keep_pod(unit: &Unit, namespace: &str, wanted: Option<&Wanted>) -> Result<Kept, ReconcileError> {
    let settings = &unit.context.settings;
    let built =
        match wanted.map(|wanted| pod::order_text(wanted).map(|text| (pod::build(wanted, &text.0, settings), text))) {
            None => None,
            Some(Ok(built)) => Some(built),
            Some(Err(pod::NoPod::Store(error))) => return Err(error.into()),
            Some(Err(error)) => return Ok(Kept { trouble: Some(error.to_string()), look_again: None }),
        };
    let name = built.as_ref().map(|(pod, _)| pod.name_any());
    let pods = unit.pods.agents(namespace);
    let now = unit.context.clock.now();
    let steps = steps::steps(&pods, name.as_deref(), settings.store.secret_name.as_deref(), now);
    let mut kept = Kept { trouble: steps.trouble, look_again: steps.look_again };
    let objects: Api<Pod> = Api::namespaced(unit.context.client.clone(), namespace);
    if let (true, Some((pod, (_, text)))) = (steps.create, &built) {
        if let Some(text) = text {
            unit.context.store.put_agent_order(namespace, text.clone()).await?;
        }
        if let Some(refused) = create(&objects, pod).await? {
            kept = Kept { trouble: Some(refused), look_again: Some(ASK_AGAIN) };
        }
    }
    for (name, uid) in &steps.delete {
        delete(&objects, name, uid, DeleteParams::default()).await?;
    }
    for (name, uid) in &steps.by_force {
        delete(&objects, name, uid, DeleteParams::default().grace_period(0)).await?;
    }
    Ok(kept)
}

/// Gives why the cluster does not take the pod.
async fn create(pods: &Api<Pod>, pod: &Pod) -> Result<Option<String>, ReconcileError> {
    let name = pod.name_any();
    match pods.create(&PostParams::default(), pod).await {
        Ok(_) => {
            tracing::info!(namespace = pod.namespace(), name, "made an agent");
            Ok(None)
        }
        Err(kube::Error::Api(status)) => match refusal(&status) {
            // The watch is a little behind.
            Refusal::Exists => Ok(None),
            Refusal::Wait(waiting) => {
                Ok(Some(format!("the pod {name} waits ({}): {}", waiting.reason, waiting.message)))
            }
            Refusal::Fail(failure) => Ok(Some(failure.message)),
            Refusal::TryAgain => Err(kube::Error::Api(status)).attempted(|| format!("create pod {name}")),
        },
        Err(error) => Err(error).attempted(|| format!("create pod {name}")),
    }
}

async fn delete<K>(objects: &Api<K>, name: &str, uid: &str, parameters: DeleteParams) -> Result<(), ReconcileError>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    match objects.delete(name, &DeleteParams { preconditions: Some(preconditions), ..parameters }).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error).attempted(|| format!("delete {name}")),
    }
}

/// Gives what is in the way of the Service.
async fn keep_service(unit: &Unit, namespace: &str, wanted: bool) -> Result<Option<String>, ReconcileError> {
    if unit.agents.has_service(namespace) == Some(wanted) {
        return Ok(None);
    }
    let services: Api<Service> = Api::namespaced(unit.context.client.clone(), namespace);
    let found = services.get_opt(pod::NAME).await.attempted(|| format!("read Service {}", pod::NAME))?;
    let service = pod::service(namespace);
    let is_ours =
        |found: &Service| service.labels().iter().all(|(name, value)| found.labels().get(name) == Some(value));
    match found {
        Some(found) if !is_ours(&found) && wanted => {
            Ok(Some(format!("there is a Service {} that is not Pintail's: delete it, or no event arrives", pod::NAME)))
        }
        Some(found) if is_ours(&found) && !wanted => {
            let uid = found.uid().unwrap_or_default();
            delete(&services, pod::NAME, &uid, DeleteParams::default()).await.map(|()| None)
        }
        None if wanted => match services.create(&PostParams::default(), &service).await {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(error).attempted(|| format!("create Service {}", pod::NAME)),
        },
        _ => Ok(None),
    }
}

/// Deletes orders in the store that no agent has.
pub async fn sweep_orders(unit: &Unit, namespace: &str) -> Result<(), ReconcileError> {
    let store = &unit.context.store;
    let listed = store.list_dated(&layout::agent_orders(namespace)?).await?;
    if listed.is_empty() {
        return Ok(());
    }
    unit.pods.wait_until_ready().await;
    let agents = unit.pods.agents(namespace);
    let named = agents.iter().filter_map(|pod| pod.annotations().get(pod::ORDER_ANNOTATION)?.split('#').next());
    let named: BTreeSet<&str> = named.collect();
    let now = unit.context.clock.now();
    let is_old = |listed: &Listed| listed.modified_at.checked_add(ORDERS_STAY).is_ok_and(|until| until <= now);
    let gone = listed.into_iter().filter(|listed| is_old(listed) && !named.contains(listed.key.as_str()));
    let gone: Vec<String> = gone.map(|listed| listed.key).collect();
    Ok(store.delete(&gone).await?)
}
