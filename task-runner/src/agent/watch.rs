use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use pintail_protocol::{ArrivedObject, Connection, FORMAT, Happened, ObjectWatch, Occurrence, OccurrenceAnswer};
use pintail_storage::{Update, Version, layout};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::scan::{Arrival, Found, Rules, Scan};
use super::seen::{Change, Digest, SEEN_BYTES, SeenSet};
use super::sink::{SinkError, tell};
use super::{Agent, Trouble};
use crate::failure::TaskFailure;
use crate::files::Watched;

/// How often what was told is written down while telling goes on. A kill costs as much telling again.
const RECORD_EVERY: Duration = Duration::from_secs(2);

/// For an operator that hands over its lease. Longer troubles are the watch's own.
const PATIENCE: Duration = Duration::from_secs(10);

const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Other agents write as often as this one; losing so often in a row means something else.
const RECORD_ATTEMPTS: u32 = 10;

/// The occurrence itself is not understood: others are told of all the same.
const REFUSED: &str = "OccurrenceRefused";

/// When to list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    AtOnce,
    InTurn,
}

/// Watches the objects of one trigger.
pub(super) struct Watcher {
    agent: Arc<Agent>,
    watch: ObjectWatch,
    /// `trigger <plan>/<trigger>`
    owner: String,
    connection: Option<Connection>,
    key: String,
    place: Option<Watched>,
    known: Option<Known>,
    standing: Standing,
    /// Of a folder: see [`Rules::settled`].
    unsettled: Arc<HashSet<Digest>>,
    /// Why the queue was full, the last time.
    full: Option<String>,
    trouble: Trouble,
}

/// The set as it is here and, but for the last changes, in the store.
struct Known {
    set: Arc<SeenSet>,
    version: Option<Version>,
    unwritten: Change,
}

/// Whose set it is, where the one in the store was made for another moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing was written by this agent: it makes the set its own.
    New,
    /// Another agent wrote at the same time: whoever has the newer order makes the set its own.
    Contested,
    /// The set was its own. If it no longer is, an agent with a newer order took over.
    Settled,
}

impl Watcher {
    /// # Errors
    /// Where a name of the order cannot be part of a key.
    pub fn new(agent: Arc<Agent>, watch: ObjectWatch, connection: Option<Connection>) -> Result<Self, TaskFailure> {
        let key = layout::seen_objects(&agent.namespace, &watch.plan, &watch.trigger)?;
        Ok(Self {
            owner: format!("trigger {}/{}", watch.plan, watch.trigger),
            agent,
            watch,
            connection,
            key,
            place: None,
            known: None,
            standing: Standing::New,
            unsettled: Arc::default(),
            full: None,
            trouble: Trouble::default(),
        })
    }

    /// Lists and tells until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let started = Instant::now();
            let wait = match self.pass(&stop).await {
                Ok(next) => {
                    failures = 0;
                    self.trouble.clear(&self.agent.log, &self.owner);
                    let took = started.elapsed();
                    let every = Duration::from_millis(self.watch.every_ms);
                    // A long listing takes half of the time at most.
                    if next == Next::AtOnce { Duration::ZERO } else { every.saturating_sub(took).max(took) }
                }
                Err(failure) => {
                    self.trouble.set(&self.agent.log, &self.owner, failure.to_string());
                    failures += 1;
                    backoff(failures)
                }
            };
            tokio::select! { () = stop.cancelled() => {}, () = sleep(wait) => {} }
        }
    }

    /// One listing, and what follows from it.
    ///
    /// # Errors
    /// What hinders it; what was told until then counts.
    pub async fn pass(&mut self, stop: &CancellationToken) -> Result<Next, TaskFailure> {
        let since = self.watch.since;
        let (seen, is_first) = self.seen().await?;
        let older_are_seen = (is_first && !self.watch.from_beginning).then_some(since);
        let found = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Next::InTurn),
            found = self.scan(seen, older_are_seen) => found?,
        };
        if is_first && !self.make_own(&found).await? {
            return Ok(Next::AtOnce);
        }
        let told = self.tell_all(&found, stop).await;
        let recorded = self.record().await;
        told.and(recorded).map(|()| if found.more && self.full.is_none() { Next::AtOnce } else { Next::InTurn })
    }

    /// The set, and whether it is to be made for this order first.
    async fn seen(&mut self) -> Result<(Arc<SeenSet>, bool), TaskFailure> {
        if self.known.is_none() {
            self.known = Some(self.read().await?.unwrap_or_else(Known::empty));
        }
        let set = self.known.as_ref().map(|known| Arc::clone(&known.set)).unwrap_or_default();
        let is_first = set.since != Some(self.watch.since);
        let is_newer = set.since > Some(self.watch.since);
        if is_first && (self.standing == Standing::Settled || self.standing == Standing::Contested && is_newer) {
            self.known = None;
            return Err(superseded());
        }
        if !is_first {
            self.standing = Standing::Settled;
        }
        Ok((set, is_first))
    }

    async fn read(&self) -> Result<Option<Known>, TaskFailure> {
        let Some((bytes, version)) = self.agent.store.read_versioned(&self.key, SEEN_BYTES).await? else {
            return Ok(None);
        };
        let set = SeenSet::decode(&bytes, &self.agent.store.uri(&self.key))?;
        Ok(Some(Known { set: Arc::new(set), version: Some(version), unwritten: Change::default() }))
    }

    async fn scan(&mut self, seen: Arc<SeenSet>, older_are_seen: Option<Timestamp>) -> Result<Found, TaskFailure> {
        let _one_of_few = self.agent.listings.acquire().await;
        if self.place.is_none() {
            self.place = Some(self.open()?);
        }
        let Some(place) = &self.place else { return Ok(Found::default()) };
        let settled = place.shows_half_written().then(|| Arc::clone(&self.unsettled));
        let scan = Scan::new(seen, Rules { older_are_seen, settled });
        let mut found = place.fold(&self.watch.path, scan, Scan::see).await?.finish();
        self.unsettled = Arc::new(std::mem::take(&mut found.unsettled));
        Ok(found)
    }

    fn open(&self) -> Result<Watched, TaskFailure> {
        let Some(connection) = &self.connection else {
            let message = format!("the order names connection `{}`, but does not have it", self.watch.connection);
            return Err(TaskFailure::infrastructure("InvalidOrder", message));
        };
        Watched::open(connection, &self.agent.environment)
    }

    /// Makes the set in the store that of this order. Gives whether it is: else another agent was first.
    async fn make_own(&mut self, found: &Found) -> Result<bool, TaskFailure> {
        let Some(known) = &self.known else { return Ok(false) };
        let change = Change { added: found.silent.clone(), gone: found.gone.clone() };
        let set = known.set.changed(self.watch.since, &change);
        let update = self.agent.store.update(&self.key, Bytes::from(set.encode()), known.version.as_ref()).await?;
        let Update::Done(version) = update else {
            (self.known, self.standing) = (None, Standing::Contested);
            return Ok(false);
        };
        let passed = found.silent.len();
        self.agent.log.info(&format!("{}: {passed} objects are from before it and start nothing", self.owner));
        self.known = Some(Known { set: Arc::new(set), version: Some(version), unwritten: Change::default() });
        self.standing = Standing::Settled;
        Ok(true)
    }

    /// Tells of every arrival until the queue is full or nobody answers.
    async fn tell_all(&mut self, found: &Found, stop: &CancellationToken) -> Result<(), TaskFailure> {
        self.note(Change { added: found.silent.clone(), gone: found.gone.clone() });
        let mut recorded_at = Instant::now();
        let mut outcome = Ok(());
        let mut full = None;
        for arrival in &found.arrivals {
            let told = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                told = self.tell_of(arrival) => told,
            };
            match told {
                Ok(None) => self.note(Change { added: vec![arrival.digest], gone: Vec::new() }),
                Ok(reason) => {
                    full = reason;
                    break;
                }
                Err(failure) if failure.reason == REFUSED => outcome = outcome.and(Err(failure)),
                Err(failure) => {
                    outcome = Err(failure);
                    break;
                }
            }
            if recorded_at.elapsed() >= RECORD_EVERY {
                // A store that does not answer is tried again at the end.
                let recorded = self.record().await;
                if self.known.is_none() {
                    return recorded;
                }
                recorded_at = Instant::now();
            }
        }
        self.set_full(full);
        outcome
    }

    /// Gives why the queue is full, if it is; else the object is dealt with.
    async fn tell_of(&self, arrival: &Arrival) -> Result<Option<String>, TaskFailure> {
        let Some(place) = &self.place else { return Ok(None) };
        let path = &arrival.identity.path;
        if !place.is_file(&arrival.identity).await? {
            return Ok(None);
        }
        let occurrence = self.occurrence(arrival, place.uri(path));
        let log = |what: String| self.agent.log.info(&format!("{}: {path} starts {what}", self.owner));
        match tell(self.agent.sink.as_ref(), &occurrence, PATIENCE).await {
            Ok(OccurrenceAnswer::Execution { name }) => log(name),
            Ok(OccurrenceAnswer::Dropped { reason }) => log(format!("nothing: {reason}")),
            Ok(OccurrenceAnswer::Full { reason }) => return Ok(Some(reason)),
            Err(SinkError::Refused(reason)) => {
                return Err(TaskFailure::transient(REFUSED, format!("{path} cannot start a run: {reason}")));
            }
            Err(SinkError::Unreachable(reason)) => return Err(TaskFailure::transient("ConnectionFailed", reason)),
        }
        Ok(None)
    }

    fn set_full(&mut self, full: Option<String>) {
        if let Some(reason) = full.as_ref().filter(|_| full != self.full) {
            self.agent.log.info(&format!("{}: objects wait where they are: {reason}", self.owner));
        }
        self.full = full;
    }

    fn occurrence(&self, arrival: &Arrival, uri: String) -> Occurrence {
        Occurrence {
            format: FORMAT,
            namespace: self.agent.namespace.clone(),
            plan: self.watch.plan.clone(),
            trigger: self.watch.trigger.clone(),
            happened: Happened::Object(ArrivedObject {
                path: arrival.identity.path.clone(),
                uri,
                bytes: arrival.identity.bytes,
                version: arrival.identity.version.clone(),
                modified_at: arrival.modified_at,
            }),
        }
    }

    /// Keeps a change for [`Watcher::record`].
    fn note(&mut self, change: Change) {
        if let Some(known) = &mut self.known {
            known.unwritten.added.extend(change.added);
            known.unwritten.gone.extend(change.gone);
        }
    }

    /// Makes the changes, here and in the store. Those of another agent are kept.
    async fn record(&mut self) -> Result<(), TaskFailure> {
        for _ in 0..RECORD_ATTEMPTS {
            let Some(known) = self.known.as_mut().filter(|known| !known.unwritten.is_empty()) else { return Ok(()) };
            // Made once more where the last attempt failed, which changes nothing.
            known.set = Arc::new(known.set.changed(self.watch.since, &known.unwritten));
            let bytes = Bytes::from(known.set.encode());
            if let Update::Done(version) = self.agent.store.update(&self.key, bytes, known.version.as_ref()).await? {
                (known.version, known.unwritten) = (Some(version), Change::default());
                return Ok(());
            }
            let found = self.read().await?;
            let Some(known) = &mut self.known else { return Ok(()) };
            match found {
                Some(found) if found.set.since == Some(self.watch.since) => {
                    (known.set, known.version) = (found.set, found.version);
                }
                Some(_) => {
                    self.known = None;
                    return Err(superseded());
                }
                None => known.version = None,
            }
        }
        let message = format!("{} changes all the time: is a second agent at work?", self.agent.store.uri(&self.key));
        Err(TaskFailure::transient("SeenSetContested", message))
    }
}

impl Known {
    fn empty() -> Self {
        Self { set: Arc::default(), version: None, unwritten: Change::default() }
    }
}

fn superseded() -> TaskFailure {
    let message = "another agent took over with a newer order; this one tells nothing of it";
    TaskFailure::transient("Superseded", message)
}

fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << (failures.clamp(1, 7) - 1)).min(LONGEST_BACKOFF)
}
