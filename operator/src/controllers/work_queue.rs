//! Which objects of a kind are to be reconciled, and when: each by one reconcile at a time. What is begun goes on before
//! anything else begins, else each in the order in which it was asked for. Pure.
//!
//! Where a thousand runs are created at once they would otherwise share the API server step by step, so that each step of
//! each waits for a step of all others, and all end at the end.
//!
//! The queue of `kube-runtime` passes every request through a timer of whole milliseconds, which took a third of the time
//! between two steps: see decision 21.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Namespace and name.
pub type Key = (String, String);

/// What is to follow a reconcile, unless the object is asked for before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    requeue_after: Option<Duration>,
}

impl Action {
    pub const fn requeue(after: Duration) -> Self {
        Self { requeue_after: Some(after) }
    }

    pub const fn await_change() -> Self {
        Self { requeue_after: None }
    }
}

/// What a reconcile is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// The object, or something beside it, is new or changed.
    InTurn,
    /// Something that the object is in the middle of goes on: a pod of a run, what was to follow a reconcile.
    Begun,
}

/// So often what is not begun is taken first: much that goes on does not hold up for ever what begins.
const IN_TURN_EVERY: u32 = 32;

#[derive(Debug, Default)]
pub struct WorkQueue {
    /// In order. One whose urgency rose since stands in both, and counts in the second.
    in_turn: VecDeque<Key>,
    begun: VecDeque<Key>,
    waiting: HashMap<Key, Urgency>,
    taken: u32,
    /// Being reconciled, and how urgently each was asked for since that began.
    running: HashMap<Key, Option<Urgency>>,
    later: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, Instant>,
}

impl WorkQueue {
    /// Asks for a reconcile of the object as it is now.
    pub fn ask(&mut self, key: Key, urgency: Urgency) {
        if let Some(at) = self.due.remove(&key) {
            self.later.remove(&(at, key.clone()));
        }
        if let Some(asked) = self.running.get_mut(&key) {
            *asked = Some(urgency).max(*asked);
        } else if self.waiting.get(&key).is_none_or(|waits| *waits < urgency) {
            self.waiting.insert(key.clone(), urgency);
            self.lane(urgency).push_back(key);
        }
    }

    fn lane(&mut self, urgency: Urgency) -> &mut VecDeque<Key> {
        match urgency {
            Urgency::InTurn => &mut self.in_turn,
            Urgency::Begun => &mut self.begun,
        }
    }

    /// The next to be reconciled, which runs from now on.
    pub fn take(&mut self, now: Instant) -> Option<Key> {
        while let Some((at, key)) = self.later.first()
            && *at <= now
        {
            self.ask(key.clone(), Urgency::Begun);
        }
        let (first, second) = match self.taken % IN_TURN_EVERY {
            0 => (Urgency::InTurn, Urgency::Begun),
            _ => (Urgency::Begun, Urgency::InTurn),
        };
        let key = self.pop(first).or_else(|| self.pop(second))?;
        self.taken = self.taken.wrapping_add(1);
        self.waiting.remove(&key);
        self.running.insert(key.clone(), None);
        Some(key)
    }

    fn pop(&mut self, urgency: Urgency) -> Option<Key> {
        loop {
            let key = self.lane(urgency).pop_front()?;
            if self.waiting.get(&key) == Some(&urgency) {
                return Some(key);
            }
        }
    }

    /// A reconcile has ended.
    pub fn ended(&mut self, key: Key, action: Action, now: Instant) {
        if let Some(urgency) = self.running.remove(&key).flatten() {
            return self.ask(key, urgency);
        }
        if let Some(at) = action.requeue_after.and_then(|after| now.checked_add(after)) {
            self.due.insert(key.clone(), at);
            self.later.insert((at, key));
        }
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// When an object is to be looked at again though nobody asks.
    pub fn wake(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("data".to_owned(), name.to_owned())
    }

    #[test]
    fn an_object_that_is_asked_for_while_it_is_reconciled_is_reconciled_once_more_after() {
        let (mut queue, now) = (WorkQueue::default(), Instant::now());
        for name in ["a", "b", "a"] {
            queue.ask(key(name), Urgency::InTurn);
        }
        assert_eq!(queue.take(now), Some(key("a")));
        for name in ["a", "a"] {
            queue.ask(key(name), Urgency::InTurn);
        }
        assert_eq!(queue.take(now), Some(key("b")));
        assert_eq!(queue.take(now), None);
        queue.ended(key("a"), Action::requeue(Duration::from_secs(9)), now);
        assert_eq!((queue.take(now), queue.take(now), queue.wake()), (Some(key("a")), None, None));
        queue.ended(key("a"), Action::await_change(), now);
        assert_eq!((queue.take(now), queue.running()), (None, 1));
    }

    #[test]
    fn an_object_is_looked_at_again_in_time_or_when_it_is_asked_for_before() {
        let (mut queue, now) = (WorkQueue::default(), Instant::now());
        let after = Duration::from_secs(9);
        for name in ["a", "b"] {
            queue.ask(key(name), Urgency::InTurn);
            assert_eq!(queue.take(now), Some(key(name)));
            queue.ended(key(name), Action::requeue(after), now);
        }
        assert_eq!((queue.take(now), queue.wake()), (None, Some(now + after)));
        queue.ask(key("b"), Urgency::InTurn);
        assert_eq!((queue.take(now), queue.take(now)), (Some(key("b")), None));
        assert_eq!((queue.take(now + after), queue.take(now + after)), (Some(key("a")), None));
    }

    #[test]
    fn what_is_begun_goes_on_before_anything_begins_but_not_for_ever() {
        let (mut queue, now) = (WorkQueue::default(), Instant::now());
        let end = |queue: &mut WorkQueue, key: Key| queue.ended(key, Action::await_change(), now);
        for name in ["a", "b", "c"] {
            queue.ask(key(name), Urgency::InTurn);
        }
        queue.ask(key("b"), Urgency::Begun);
        let taken: Vec<_> = std::iter::from_fn(|| queue.take(now)).collect();
        // The very first is taken in turn.
        assert_eq!(taken, [key("a"), key("b"), key("c")]);
        taken.into_iter().for_each(|key| end(&mut queue, key));
        for name in ["new", "old"] {
            queue.ask(key(name), if name == "new" { Urgency::InTurn } else { Urgency::Begun });
        }
        let mut before = 0;
        while queue.take(now) == Some(key("old")) {
            end(&mut queue, key("old"));
            queue.ask(key("old"), Urgency::Begun);
            before += 1;
        }
        assert_eq!(before, IN_TURN_EVERY - 3);
    }
}
