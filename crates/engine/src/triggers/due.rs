//! Which ticks fire now, and which are dropped.

use jiff::{SignedDuration, Timestamp};

use super::Schedule;

/// How late a tick may be that still fires with `catchUp: None`: a restart or a change of leader takes less, and is no
/// miss.
pub const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Ticks that one plan catches up on at once. A thousand runs are hours of work; whoever was away for longer wants a
/// backfill, which is asked for.
pub const CATCH_UP_MAX: usize = 1_000;

/// Dropped ticks are counted one by one up to here; so many mean "at least so many". A week of minutes fits, and the
/// count of a plan that was suspended for years stays within milliseconds.
pub const DROPPED_COUNT_MAX: u64 = 11_000;

/// What becomes of ticks that passed while nobody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// Those that are at most [`GRACE`] late fire.
    None,
    /// Only the newest fires.
    Latest,
    /// All fire, the newest [`CATCH_UP_MAX`] at most.
    All,
}

/// One tick of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// When.
    pub at: Timestamp,
    /// The tick before; where there is none, `at`.
    pub interval_start: Timestamp,
    /// Equal to `at`.
    pub interval_end: Timestamp,
}

/// What to do with the ticks that came since the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// These start runs, the oldest first.
    pub fire: Vec<Tick>,
    /// So many do not; [`DROPPED_COUNT_MAX`] means at least so many. One that a caller fired before it died, without
    /// having kept what was handled, may be among them.
    pub dropped: u64,
    /// The first and the last that do not.
    pub dropped_from: Option<Timestamp>,
    /// See `dropped_from`.
    pub dropped_to: Option<Timestamp>,
    /// The last tick that is fired or dropped; where none is due, as it was given.
    pub handled_through: Timestamp,
    /// When to look again: the first tick after `handled_through`.
    pub next: Option<Timestamp>,
}

/// Decides on the ticks in (`handled_through`, `now`]. What was handled never fires again, also where the clock was put
/// back behind it. Costs one look at the calendar where nothing is due, and two more for
/// a tick.
#[must_use]
pub fn due(schedule: &Schedule, handled_through: Timestamp, now: Timestamp, catch_up: CatchUp) -> Due {
    let next = schedule.next_after(handled_through);
    let Some(first) = next.filter(|first| *first <= now) else {
        return Due { fire: Vec::new(), dropped: 0, dropped_from: None, dropped_to: None, handled_through, next };
    };
    let (last, next) = match schedule.next_after(first) {
        // Many came: the calendar is asked from the other end.
        Some(second) if second <= now => (last_until(schedule, now).unwrap_or(first), schedule.next_after(now)),
        second => (first, second),
    };
    let mut newest_first = Newest { schedule, first, next: Some(last) };
    let (oldest, most) = match catch_up {
        CatchUp::None => (now.saturating_sub(GRACE).unwrap_or(first), usize::MAX),
        CatchUp::Latest => (first, 1),
        CatchUp::All => (first, CATCH_UP_MAX),
    };
    let mut fire: Vec<Tick> = Vec::new();
    while fire.len() < most
        && let Some(tick) = newest_first.next_if(|at| at >= oldest)
    {
        fire.push(tick);
    }
    fire.reverse();
    let dropped_to = newest_first.next;
    let dropped = newest_first.count();
    let dropped_from = dropped_to.map(|_| first);
    Due { fire, dropped, dropped_from, dropped_to, handled_through: last, next }
}

/// The last tick up to `now`.
fn last_until(schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
    let after = now.checked_add(SignedDuration::from_nanos(1)).ok()?;
    schedule.previous_before(after)
}

/// The ticks from the newest down to `first`.
struct Newest<'a> {
    schedule: &'a Schedule,
    first: Timestamp,
    next: Option<Timestamp>,
}

impl Newest<'_> {
    fn next_if(&mut self, wanted: impl Fn(Timestamp) -> bool) -> Option<Tick> {
        let at = self.next.filter(|at| wanted(*at))?;
        let before = self.schedule.previous_before(at);
        self.next = before.filter(|before| *before >= self.first);
        Some(Tick { at, interval_start: before.unwrap_or(at), interval_end: at })
    }

    /// How many are left, up to [`DROPPED_COUNT_MAX`].
    fn count(mut self) -> u64 {
        (0..DROPPED_COUNT_MAX).take_while(|_| self.next_if(|_| true).is_some()).count() as u64
    }
}
