//! Who may start next: items that lack nothing but a lock or a free place, in manifest order.
//!
//! An item may start when each of its locks is compatible with the holders *and* with the claims of all items before
//! it. So an exclusive claim is never passed by later shared ones, and since the first claim of all can only wait for
//! holders, which end, nothing waits for ever.
//!
//! An item that a lock keeps back is parked at that resource and not looked at again until the resource changes:
//! ten thousand writers of one file cost a pass no more than one.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Graph, ItemIndex, LockMode, TaskIndex};

/// One item of one task, in the order in which items are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub task: TaskIndex,
    pub item: ItemIndex,
}

#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// May be able to start; the rest of those in line are parked.
    ready: BTreeSet<Key>,
    resources: Vec<Resource>,
    /// Per task, what it locks: positions in `resources`.
    wants: Vec<Vec<(usize, LockMode)>>,
}

#[derive(Clone, Debug)]
struct Resource {
    name: String,
    shared_holders: usize,
    exclusive_holders: usize,
    shared_claims: BTreeSet<Key>,
    exclusive_claims: BTreeSet<Key>,
    /// Those of the claims that were last seen to wait for this resource.
    parked: BTreeSet<Key>,
}

impl Resource {
    fn keeps_back(&self, key: Key, mode: LockMode) -> bool {
        let claimed_before = |claims: &BTreeSet<Key>| claims.first().is_some_and(|first| *first < key);
        match mode {
            LockMode::Shared => self.exclusive_holders > 0 || claimed_before(&self.exclusive_claims),
            LockMode::Exclusive => {
                self.exclusive_holders > 0
                    || self.shared_holders > 0
                    || claimed_before(&self.exclusive_claims)
                    || claimed_before(&self.shared_claims)
            }
        }
    }

    fn holders(&mut self, mode: LockMode) -> &mut usize {
        match mode {
            LockMode::Shared => &mut self.shared_holders,
            LockMode::Exclusive => &mut self.exclusive_holders,
        }
    }

    fn claims(&mut self, mode: LockMode) -> &mut BTreeSet<Key> {
        match mode {
            LockMode::Shared => &mut self.shared_claims,
            LockMode::Exclusive => &mut self.exclusive_claims,
        }
    }
}

impl Queue {
    pub fn new(graph: &Graph) -> Self {
        let mut positions = BTreeMap::new();
        let mut resources = Vec::new();
        let mut wants = Vec::with_capacity(graph.tasks.len());
        for node in &graph.tasks {
            // Keyed by resource: whoever asks for both modes gets the exclusive one, once.
            let mut wanted = BTreeMap::new();
            for lock in &node.locks {
                let position = *positions.entry(lock.resource.as_str()).or_insert_with(|| {
                    resources.push(Resource {
                        name: lock.resource.clone(),
                        shared_holders: 0,
                        exclusive_holders: 0,
                        shared_claims: BTreeSet::new(),
                        exclusive_claims: BTreeSet::new(),
                        parked: BTreeSet::new(),
                    });
                    resources.len() - 1
                });
                let mode = wanted.entry(position).or_insert(lock.mode);
                if lock.mode == LockMode::Exclusive {
                    *mode = LockMode::Exclusive;
                }
            }
            wants.push(wanted.into_iter().collect());
        }
        Self { ready: BTreeSet::new(), resources, wants }
    }

    /// Puts an item in line.
    pub fn join(&mut self, key: Key) {
        self.ready.insert(key);
        self.each_resource(key, |resource, mode| {
            resource.claims(mode).insert(key);
        });
    }

    /// Takes an item out of the line, if it is in it.
    pub fn leave(&mut self, key: Key) {
        self.ready.remove(&key);
        self.each_resource(key, |resource, mode| {
            resource.claims(mode).remove(&key);
            resource.parked.remove(&key);
        });
        self.wake_next(key.task);
    }

    /// An attempt of this item takes its locks, whoever holds them.
    pub fn hold(&mut self, key: Key) {
        self.each_resource(key, |resource, mode| *resource.holders(mode) += 1);
    }

    /// The attempt of this item gives its locks back.
    pub fn release(&mut self, key: Key) {
        self.each_resource(key, |resource, mode| {
            let holders = resource.holders(mode);
            *holders = holders.saturating_sub(1);
        });
        self.wake_next(key.task);
    }

    /// The first item in line that no lock keeps back. It stays in line until it leaves.
    pub fn first(&mut self) -> Option<Key> {
        while let Some(key) = self.ready.first().copied() {
            let Some(position) = self.keeping_back(key) else { return Some(key) };
            self.ready.remove(&key);
            if let Some(resource) = self.resources.get_mut(position) {
                resource.parked.insert(key);
            }
            // At its other resources it stood before others, which now have to look for themselves.
            self.wake_next(key.task);
        }
        None
    }

    /// Whether an item is in line.
    pub fn contains(&self, key: Key) -> bool {
        self.ready.contains(&key) || self.wanted(key.task).any(|(resource, _)| resource.parked.contains(&key))
    }

    /// The resource that keeps an item back, if one does.
    pub fn waits_for(&self, key: Key) -> Option<&str> {
        self.wanted(key.task)
            .find(|(resource, mode)| resource.keeps_back(key, *mode))
            .map(|(resource, _)| resource.name.as_str())
    }

    fn keeping_back(&self, key: Key) -> Option<usize> {
        self.wants_of(key.task).iter().find_map(|(position, mode)| {
            self.resources.get(*position).is_some_and(|resource| resource.keeps_back(key, *mode)).then_some(*position)
        })
    }

    /// At each resource of a task, brings back the first that is parked if it may go on. One is enough: no later one
    /// may if it may not, and when it starts, or parks elsewhere, it wakes the one after it.
    fn wake_next(&mut self, task: TaskIndex) {
        let Self { ready, resources, wants } = self;
        for (position, _) in wants.get(task.position()).into_iter().flatten() {
            let Some(resource) = resources.get_mut(*position) else { continue };
            let Some(first) = resource.parked.first().copied() else { continue };
            let mode = match resource.exclusive_claims.contains(&first) {
                true => LockMode::Exclusive,
                false => LockMode::Shared,
            };
            if !resource.keeps_back(first, mode) {
                resource.parked.remove(&first);
                ready.insert(first);
            }
        }
    }

    fn each_resource(&mut self, key: Key, mut change: impl FnMut(&mut Resource, LockMode)) {
        let Self { resources, wants, .. } = self;
        for (position, mode) in wants.get(key.task.position()).into_iter().flatten() {
            if let Some(resource) = resources.get_mut(*position) {
                change(resource, *mode);
            }
        }
    }

    fn wants_of(&self, task: TaskIndex) -> &[(usize, LockMode)] {
        self.wants.get(task.position()).map_or(&[], Vec::as_slice)
    }

    fn wanted(&self, task: TaskIndex) -> impl Iterator<Item = (&Resource, LockMode)> {
        self.wants_of(task).iter().filter_map(|(position, mode)| Some((self.resources.get(*position)?, *mode)))
    }
}
