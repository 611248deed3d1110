//! What the agent of a namespace is to do: its LaunchPlans and Connections in, an order out. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pintail_api as api;
use pintail_execution::launch::recorded;
use pintail_execution::{Connections, connection_target};
use pintail_plan::{PlannedLaunch, PlannedTrigger, TriggerOn, check_connection_on_cluster};
use pintail_protocol::{
    AccessMode, AgentOrder, Connection, ConnectionTarget, EventHook, FORMAT, ObjectWatch, StoreLocation,
};

use crate::controllers::runner::secret_references;

/// A plan as it was understood, and what is recorded of it.
pub struct KnownPlan<'a> {
    pub uid: &'a str,
    pub launch: &'a PlannedLaunch,
    pub status: &'a api::LaunchPlanStatus,
}

/// What a namespace needs an agent for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub order: AgentOrder,
    /// The agent knows every trigger as it was changed last, up to this moment. See [`super::occurrence`].
    pub since: Timestamp,
    /// Keys of Secrets that its connections name.
    pub secrets: Vec<api::SecretKeyRef>,
    /// Name and uid of the first plan.
    pub owner: (String, String),
}

/// The order for plans, sorted by name; none where nothing is to be watched or received. A trigger that is not recorded yet,
/// or whose Connection cannot be used, is left out.
pub fn wanted(
    namespace: &str,
    plans: &[KnownPlan],
    connections: &Connections,
    store: &StoreLocation,
    operator_url: &str,
) -> Option<Wanted> {
    let mut parts =
        Parts { connections, used: BTreeMap::new(), secrets: Vec::new(), objects: Vec::new(), events: Vec::new() };
    let mut since = None;
    let mut owner = None;
    for plan in plans.iter().filter(|plan| !plan.launch.suspended && !plan.status.suspended) {
        for trigger in &plan.launch.triggers {
            let Some(recorded) = recorded(plan.status, trigger).and_then(|found| found.since.parse().ok()) else {
                continue;
            };
            if parts.add(&plan.launch.name, trigger, recorded).is_some() {
                since = since.max(Some(recorded));
                owner.get_or_insert_with(|| (plan.launch.name.clone(), plan.uid.to_owned()));
            }
        }
    }
    parts.secrets.sort_by(|left, right| (&left.name, &left.key).cmp(&(&right.name, &right.key)));
    parts.secrets.dedup();
    let order = AgentOrder {
        format: FORMAT,
        namespace: namespace.to_owned(),
        operator_url: operator_url.to_owned(),
        store: store.clone(),
        connections: parts.used.into_values().collect(),
        objects: parts.objects,
        events: parts.events,
    };
    Some(Wanted { order, since: since?, secrets: parts.secrets, owner: owner? })
}

/// Whether a plan has triggers that an agent looks after.
pub fn needs_agent(launch: &PlannedLaunch) -> bool {
    let is_for_agents =
        |trigger: &PlannedTrigger| matches!(trigger.on, TriggerOn::Object { .. } | TriggerOn::Event { .. });
    !launch.suspended && launch.triggers.iter().any(is_for_agents)
}

struct Parts<'a> {
    connections: &'a Connections,
    used: BTreeMap<String, Connection>,
    secrets: Vec<api::SecretKeyRef>,
    objects: Vec<ObjectWatch>,
    events: Vec<EventHook>,
}

impl<'a> Parts<'a> {
    /// None where it is not for an agent, or cannot be: the plan's condition says why.
    fn add(&mut self, plan: &str, trigger: &PlannedTrigger, since: Timestamp) -> Option<()> {
        match &trigger.on {
            TriggerOn::Object { connection, path, every, from_beginning } => {
                let (spec, target) = self.target(connection)?;
                if !matches!(target, ConnectionTarget::Folder { .. } | ConnectionTarget::S3 { .. }) {
                    return None;
                }
                let used = Connection { name: connection.clone(), mode: AccessMode::Read, target };
                self.used.insert(connection.clone(), used);
                self.secrets.extend(secret_references(spec).into_iter().cloned());
                self.objects.push(ObjectWatch {
                    plan: plan.to_owned(),
                    trigger: trigger.name.clone(),
                    connection: connection.clone(),
                    path: path.clone(),
                    every_ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
                    since,
                    from_beginning: *from_beginning,
                });
            }
            TriggerOn::Event { event_type, source, connection } => {
                let (spec, target) = self.target(connection)?;
                let ConnectionTarget::Webhook { signing_key: Some(signing_key), .. } = target else { return None };
                // An agent only receives: where the connection sends to is none of its business.
                let key = spec.webhook.as_ref().and_then(|webhook| webhook.signing_key_from.as_ref());
                self.secrets.extend(key.map(|key| key.secret_key_ref.clone()));
                self.events.push(EventHook {
                    plan: plan.to_owned(),
                    trigger: trigger.name.clone(),
                    event_type: event_type.clone(),
                    source: source.clone(),
                    signing_key,
                });
            }
            TriggerOn::Schedule { .. } | TriggerOn::Artifacts { .. } => return None,
        }
        Some(())
    }

    fn target(&self, name: &str) -> Option<(&'a api::ConnectionSpec, ConnectionTarget)> {
        let connections: &'a Connections = self.connections;
        let spec = &connections.get(name)?.spec;
        let is_usable = check_connection_on_cluster(spec).is_empty();
        Some((spec, connection_target(name, spec).ok().filter(|_| is_usable)?))
    }
}
