//! Who may run where a plan allows only some runs at once.

use jiff::Timestamp;

/// What becomes of a run that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits for its turn.
    Queue,
    /// It does not run.
    Skip,
    /// Older ones make room.
    Replace,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStage {
    /// Nothing of it has started.
    Waiting,
    /// Something has.
    Running,
    /// It holds no room any more.
    Ended,
}

/// One run of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The run's name, by which equal times are told apart.
    pub name: String,
    /// The run's uid.
    pub uid: String,
    /// When that happened which it is for.
    pub occurred_at: Timestamp,
    /// How far it is.
    pub stage: RunStage,
    /// It was among the active before.
    pub admitted: bool,
    /// It has been told to end. It holds its room until it has, and never gets one.
    pub cancelling: bool,
}

/// Who runs, and who does not: uids, each list by occurrence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// They hold the room: what runs, what was admitted, and what is now.
    pub active: Vec<String>,
    /// They end without having run.
    pub skip: Vec<String>,
    /// They are told to end, to make room.
    pub cancel: Vec<String>,
    /// They wait; the first is next.
    pub queue: Vec<String>,
}

/// Decides on all runs of a plan that have not ended, in any order; `limit` is at least 1.
///
/// What runs or was admitted stays active, also beyond the limit. Of the others, by (`occurred_at`, `name`):
/// - `Queue` admits the oldest while there is room. Of those that are left the oldest `queue_limit` wait, and the newer
///   are skipped.
/// - `Skip` does the same with no queue.
/// - `Replace` keeps the newest `limit` of all. Waiting ones that are older are skipped; active ones that are older are
///   cancelled once a newer one waits for their room, which it gets when they have ended.
///
/// Whoever is being cancelled holds room and is nothing else.
#[must_use]
pub fn admit(members: &[Member], limit: u32, when_full: WhenFull, queue_limit: u32) -> Admission {
    let mut members: Vec<&Member> = members.iter().filter(|member| member.stage != RunStage::Ended).collect();
    members.sort_by_key(|member| (member.occurred_at, &member.name, &member.uid));
    let (mut active, others): (Vec<&Member>, Vec<&Member>) = members.iter().partition(|member| member.is_active());
    let waiting: Vec<&Member> = others.into_iter().filter(|member| !member.cancelling).collect();
    let limit = limit as usize;
    let room = limit.saturating_sub(active.len());
    let (waiting, mut skip, cancel) = match when_full {
        WhenFull::Queue | WhenFull::Skip => (waiting, Vec::new(), Vec::new()),
        WhenFull::Replace => replace(&members, limit),
    };
    let (admitted, left) = waiting.split_at(room.min(waiting.len()));
    active.extend(admitted);
    active.sort_by_key(|member| (member.occurred_at, &member.name, &member.uid));
    let places = match when_full {
        WhenFull::Queue => queue_limit as usize,
        WhenFull::Skip => 0,
        // They are no more than `limit`, and the room is being made.
        WhenFull::Replace => left.len(),
    };
    let (queue, beyond) = left.split_at(places.min(left.len()));
    skip.extend(beyond);
    Admission { active: uids(&active), skip: uids(&skip), cancel: uids(&cancel), queue: uids(queue) }
}

/// Who waits on, who is skipped and who is cancelled, of members by occurrence.
fn replace<'a>(members: &[&'a Member], limit: usize) -> (Vec<&'a Member>, Vec<&'a Member>, Vec<&'a Member>) {
    let going_on: Vec<&Member> = members.iter().copied().filter(|member| !member.cancelling).collect();
    let (older, newest) = going_on.split_at(going_on.len().saturating_sub(limit));
    let (active, skip): (Vec<&Member>, Vec<&Member>) = older.iter().partition(|member| member.is_active());
    let waiting: Vec<&Member> = newest.iter().copied().filter(|member| !member.is_active()).collect();
    let cancel = if waiting.is_empty() { Vec::new() } else { active };
    (waiting, skip, cancel)
}

fn uids(members: &[&Member]) -> Vec<String> {
    members.iter().map(|member| member.uid.clone()).collect()
}

impl Member {
    fn is_active(&self) -> bool {
        self.admitted || self.stage == RunStage::Running
    }
}
