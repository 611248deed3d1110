//! Namespaces whose agents are to be looked at.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::{ask_those_with_services, reconcile};
use crate::controllers::unit::Unit;

/// Plans are mostly applied together: one pod for all of them, and not one for each.
const SETTLE: Duration = Duration::from_secs(1);
/// What was deleted by hand is made again within this.
pub(super) const LOOK_AROUND: Duration = Duration::from_secs(300);
/// Namespaces that are looked at at once.
const CONCURRENCY: usize = 8;

/// What is known of the agents, and who is to be looked at.
pub struct Agents {
    asked: UnboundedSender<String>,
    queue: Mutex<Option<UnboundedReceiver<String>>>,
    standing: Mutex<HashMap<String, Standing>>,
}

/// How the agent of a namespace stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    trouble: Option<String>,
    /// Whether there is its Service, and when that was found.
    service: Option<(bool, Instant)>,
}

impl Default for Agents {
    fn default() -> Self {
        let (asked, queue) = unbounded();
        Self { asked, queue: Mutex::new(Some(queue)), standing: Mutex::default() }
    }
}

impl Agents {
    /// Asks that the agent of a namespace is looked at.
    pub fn ask(&self, namespace: &str) {
        // Nobody takes it once everything ends.
        let _ = self.asked.unbounded_send(namespace.to_owned());
    }

    /// As [`Agents::ask`], where the namespace has an agent.
    pub fn ask_known(&self, namespace: &str) {
        if self.lock().contains_key(namespace) {
            self.ask(namespace);
        }
    }

    /// As [`Agents::ask`], for every namespace that has an agent.
    pub fn ask_all(&self) {
        self.lock().keys().for_each(|namespace| self.ask(namespace));
    }

    /// Why the agent of a namespace does not do all its work, if so.
    pub fn trouble(&self, namespace: &str) -> Option<String> {
        self.lock().get(namespace)?.trouble.clone()
    }

    /// Whether the namespace has its Service, as far as was found lately.
    pub(super) fn has_service(&self, namespace: &str) -> Option<bool> {
        let (has_service, found_at) = self.lock().get(namespace)?.service?;
        (found_at.elapsed() < LOOK_AROUND).then_some(has_service)
    }

    /// Takes in how the agent of a namespace stands. Gives whether what is to be said of it changed.
    pub(super) fn stands(&self, namespace: &str, is_wanted: bool, has_service: bool, trouble: Option<String>) -> bool {
        let mut standing = self.lock();
        let before = standing.remove(namespace).unwrap_or_default();
        let has_changed = before.trouble != trouble;
        if is_wanted {
            let lately = before.service.filter(|(had, at)| *had == has_service && at.elapsed() < LOOK_AROUND);
            // A Service that is in the way is looked at again.
            let service = trouble.is_none().then(|| lately.unwrap_or((has_service, Instant::now())));
            standing.insert(namespace.to_owned(), Standing { trouble, service });
        }
        has_changed
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the agents of namespaces until the end of the operator.
pub async fn run(unit: &Arc<Unit>) {
    let asked = unit.agents.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut asked) = asked else { return };
    ask_those_with_services(unit).await;
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    let mut failures: HashMap<String, u32> = HashMap::new();
    let mut running = FuturesUnordered::new();
    let mut busy: Vec<String> = Vec::new();
    loop {
        let now = Instant::now();
        let ready = due.iter().filter(|(name, at)| **at <= now && !busy.contains(name)).map(|(name, _)| name.clone());
        for namespace in ready.take(CONCURRENCY.saturating_sub(busy.len())).collect::<Vec<_>>() {
            due.remove(&namespace);
            busy.push(namespace.clone());
            running.push(async move { (reconcile(unit, &namespace).await, namespace) });
        }
        // Those that are due and busy are looked at when they are done.
        let waiting = due.iter().filter(|(name, _)| !busy.contains(name)).map(|(_, at)| *at);
        let next = waiting.filter(|_| busy.len() < CONCURRENCY).min();
        tokio::select! {
            Some(namespace) = asked.next() => {
                let soon = now + SETTLE;
                due.entry(namespace).and_modify(|at| *at = soon.min(*at)).or_insert(soon);
            }
            Some((result, namespace)) = running.next() => {
                busy.retain(|name| *name != namespace);
                let wait = match result {
                    Ok(wait) => {
                        failures.remove(&namespace);
                        wait
                    }
                    Err(error) => {
                        let count = failures.entry(namespace.clone()).or_default();
                        tracing::warn!(namespace, failures = *count + 1, "the agent was not looked after: {error}");
                        let wait = error.retry_after(*count);
                        *count = count.saturating_add(1);
                        Some(wait)
                    }
                };
                if let Some(wait) = wait {
                    let at = Instant::now() + wait;
                    due.entry(namespace).and_modify(|known| *known = at.min(*known)).or_insert(at);
                }
            }
            () = sleep_until(next) => {}
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
