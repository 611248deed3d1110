//! Which replica leads. All write one Lease by compare-and-swap; whoever holds it renews it, and takes it for lost well
//! before another may take it. Nobody compares clocks of two machines: a candidate takes the Lease over when it has itself
//! watched it unchanged for as long as the Lease lasts.
//!
//! ```text
//! acquire ── held ── renewed every 5 s ──┬── work ended, or told to stop: released
//!                                        └── 10 s without a renewal, or another holds it: lost, work is dropped
//! ```

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::Clock;
use crate::process::causes;

/// The Lease, in the operator's namespace.
pub const LEASE_NAME: &str = "pintail-operator";

/// How long a holder that is not heard of keeps the Lease: short, since nothing is advanced meanwhile.
const LASTS: Duration = Duration::from_secs(15);
/// A third of [`LASTS`]: one renewal may fail and be late.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Less than [`LASTS`] by so much that a holder has stopped, with what it had sent off, before another starts.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// How often others look. Costs the API server little, and bounds the wait after a release.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A request that hangs must leave time for another one before [`GIVE_UP_AFTER`].
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Between renewals that failed.
const RENEW_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long the work may take to end once it is told to stop; below the 30 seconds that Kubernetes grants a pod.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// A replica that leads or would.
#[derive(Clone)]
pub struct Candidate {
    leases: Api<Lease>,
    identity: String,
    clock: Arc<dyn Clock>,
}

/// How leading ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Leadership<T> {
    /// The work ended by itself or because it was told to stop; `None` where it did not within 15 seconds, or had not
    /// started. The Lease is free.
    Ended(Option<T>),
    /// The Lease was lost, for this reason, and the work was dropped where it stood.
    Lost(String),
}

impl Candidate {
    /// `identity` differs between any two processes that run at the same time.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: String, clock: Arc<dyn Clock>) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity, clock }
    }

    /// Waits for the Lease, then runs the work for as long as the Lease is held. `stop` ends both. The work is given a
    /// token that is cancelled when it is to end.
    pub async fn lead<T, F: Future<Output = T>>(
        &self,
        stop: &CancellationToken,
        work: impl FnOnce(CancellationToken) -> F,
    ) -> Leadership<T> {
        let mut held = tokio::select! {
            held = self.acquire() => held,
            () = stop.cancelled() => return Leadership::Ended(None),
        };
        let stop_work = stop.child_token();
        let ended = {
            let _cancelled_at_the_end = stop_work.clone().drop_guard();
            let overdue = async {
                stop.cancelled().await;
                sleep(STOP_WITHIN).await;
            };
            tokio::select! {
                biased;
                reason = held.keep() => return Leadership::Lost(reason),
                result = work(stop_work) => Some(result),
                () = overdue => None,
            }
        };
        held.release().await;
        Leadership::Ended(ended)
    }

    async fn acquire(&self) -> Held<'_> {
        let mut watched = None;
        loop {
            match timeout(REQUEST_TIMEOUT, self.try_to_acquire(&mut watched)).await {
                Ok(Ok(Some(held))) => return held,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => self.complain("take", &causes(&error)),
                Err(_) => self.complain("take", "no answer"),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn try_to_acquire(&self, watched: &mut Option<Watched>) -> kube::Result<Option<Held<'_>>> {
        let renewed = Instant::now();
        let taken = match self.leases.get_opt(LEASE_NAME).await? {
            None => self.create().await?,
            Some(found) if self.may_take(&found, watched) => self.swap(self.taken(found)).await?,
            Some(_) => None,
        };
        Ok(taken.map(|lease| Held { candidate: self, lease, renewed }))
    }

    /// Whether nobody holds the Lease, or this replica itself did before it was started anew, or its holder has not been
    /// heard of for too long.
    fn may_take(&self, found: &Lease, watched: &mut Option<Watched>) -> bool {
        let holder = holder(found);
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let version = found.resource_version().unwrap_or_default();
        match watched {
            Some(watched) if watched.version == version => watched.since.elapsed() >= lasts(found),
            _ => {
                *watched = Some(Watched { version, since: Instant::now() });
                false
            }
        }
    }

    async fn create(&self) -> kube::Result<Option<Lease>> {
        let mut lease = Lease::default();
        lease.metadata.name = Some(LEASE_NAME.to_owned());
        match self.leases.create(&PostParams::default(), &self.taken(lease)).await {
            Ok(lease) => Ok(Some(lease)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a Lease that was read; `None` where it has changed since.
    async fn swap(&self, lease: Lease) -> kube::Result<Option<Lease>> {
        match self.leases.replace(LEASE_NAME, &PostParams::default(), &lease).await {
            Ok(lease) => Ok(Some(lease)),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn taken(&self, mut lease: Lease) -> Lease {
        let now = MicroTime(self.clock.now());
        let spec = lease.spec.get_or_insert_default();
        *spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
            lease_transitions: Some(spec.lease_transitions.unwrap_or(0).saturating_add(1)),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        lease
    }

    fn complain(&self, action: &str, cause: &str) {
        let namespace = self.leases.namespace().unwrap_or_default();
        tracing::warn!(kind = "Lease", namespace, name = LEASE_NAME, "cannot {action} the lease: {cause}");
    }
}

/// A Lease of another replica, as it was last seen to change.
struct Watched {
    version: String,
    since: Instant,
}

struct Held<'a> {
    candidate: &'a Candidate,
    /// As last written.
    lease: Lease,
    /// When the last renewal that succeeded was sent off.
    renewed: Instant,
}

impl Held<'_> {
    /// Renews until the Lease is lost; says why it is.
    async fn keep(&mut self) -> String {
        loop {
            sleep_until(self.renewed + RENEW_EVERY).await;
            match timeout_at(self.renewed + GIVE_UP_AFTER, self.renew()).await {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => return reason,
                Err(_) => return format!("it could not be renewed for {} seconds", GIVE_UP_AFTER.as_secs()),
            }
        }
    }

    /// Renews once, however often it takes; fails where another holds the Lease.
    async fn renew(&mut self) -> Result<(), String> {
        loop {
            let sent = Instant::now();
            match timeout(REQUEST_TIMEOUT, self.try_to_renew()).await {
                Ok(Ok(true)) => {
                    self.renewed = sent;
                    return Ok(());
                }
                // Its own reply may have been lost, or someone put a label on it.
                Ok(Ok(false)) => self.read().await?,
                Ok(Err(error)) => self.candidate.complain("renew", &causes(&error)),
                Err(_) => self.candidate.complain("renew", "no answer"),
            }
            sleep(RENEW_AGAIN_AFTER).await;
        }
    }

    async fn try_to_renew(&mut self) -> kube::Result<bool> {
        let mut next = self.lease.clone();
        next.spec.get_or_insert_default().renew_time = Some(MicroTime(self.candidate.clock.now()));
        let written = self.candidate.swap(next).await?;
        Ok(written.map(|lease| self.lease = lease).is_some())
    }

    /// Reads the Lease anew; fails where it is another's or gone.
    async fn read(&mut self) -> Result<(), String> {
        match timeout(REQUEST_TIMEOUT, self.candidate.leases.get_opt(LEASE_NAME)).await {
            Ok(Ok(Some(found))) if holder(&found) == self.candidate.identity => self.lease = found,
            Ok(Ok(Some(found))) => return Err(format!("{:?} holds it now", holder(&found))),
            Ok(Ok(None)) => return Err("it was deleted".to_owned()),
            Ok(Err(error)) => self.candidate.complain("read", &causes(&error)),
            Err(_) => self.candidate.complain("read", "no answer"),
        }
        Ok(())
    }

    /// Lets another replica lead at once. Where that fails it leads once the Lease runs out.
    async fn release(mut self) {
        let released = async {
            self.read().await?;
            let mut free = self.lease.clone();
            free.spec.get_or_insert_default().holder_identity = None;
            self.candidate.swap(free).await.map_err(|error| causes(&error))
        };
        match timeout(REQUEST_TIMEOUT, released).await {
            Ok(Ok(_)) => {}
            Ok(Err(cause)) => self.candidate.complain("release", &cause),
            Err(_) => self.candidate.complain("release", "no answer"),
        }
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

/// What the holder promised; [`LASTS`] where it says nothing.
fn lasts(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(LASTS, Duration::from_secs)
}

#[cfg(test)]
mod tests;
