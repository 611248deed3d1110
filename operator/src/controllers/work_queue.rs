//! Which objects of a kind are to be reconciled, and when: each by one reconcile at a time, in the order in which they were
//! asked for. Pure.
//!
//! The queue of `kube-runtime` passes every request through a timer of whole milliseconds, which took a third of the time
//! between two steps: see decision 21.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
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

#[derive(Debug, Default)]
pub struct WorkQueue {
    /// In order; each is in `waiting`.
    ready: VecDeque<Key>,
    waiting: HashSet<Key>,
    /// Being reconciled, and whether each was asked for since that began.
    running: HashMap<Key, bool>,
    later: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, Instant>,
}

impl WorkQueue {
    /// Asks for a reconcile of the object as it is now.
    pub fn ask(&mut self, key: Key) {
        if let Some(at) = self.due.remove(&key) {
            self.later.remove(&(at, key.clone()));
        }
        match self.running.get_mut(&key) {
            Some(asked) => *asked = true,
            None if self.waiting.insert(key.clone()) => self.ready.push_back(key),
            None => {}
        }
    }

    /// The next to be reconciled, which runs from now on.
    pub fn take(&mut self, now: Instant) -> Option<Key> {
        while let Some((at, key)) = self.later.first()
            && *at <= now
        {
            self.ask(key.clone());
        }
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        self.running.insert(key.clone(), false);
        Some(key)
    }

    /// A reconcile has ended.
    pub fn ended(&mut self, key: Key, action: Action, now: Instant) {
        if self.running.remove(&key) == Some(true) {
            return self.ask(key);
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
            queue.ask(key(name));
        }
        assert_eq!(queue.take(now), Some(key("a")));
        for name in ["a", "a"] {
            queue.ask(key(name));
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
            queue.ask(key(name));
            assert_eq!(queue.take(now), Some(key(name)));
            queue.ended(key(name), Action::requeue(after), now);
        }
        assert_eq!((queue.take(now), queue.wake()), (None, Some(now + after)));
        queue.ask(key("b"));
        assert_eq!((queue.take(now), queue.take(now)), (Some(key("b")), None));
        assert_eq!((queue.take(now + after), queue.take(now + after)), (Some(key("a")), None));
    }
}
