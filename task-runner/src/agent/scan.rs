use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use pintail_protocol::FileIdentity;

use super::seen::{Digest, SeenSet, digest};
use crate::files::ListedFile;

/// Told of after one listing, some 3 MB; the next listing follows at once where there are more.
const ARRIVALS: usize = 10_000;

/// What tells apart the objects of a listing that have not been seen.
#[derive(Default)]
pub(super) struct Rules {
    /// Of the first listing for a moment: older ones count as seen.
    pub older_are_seen: Option<Timestamp>,
    /// Where files are seen while they are written: those that were unseen in the listing before. Only these count.
    pub settled: Option<Arc<HashSet<Digest>>>,
}

/// Looks at one listing, file by file, and keeps only what was not seen before.
pub(super) struct Scan {
    seen: Arc<SeenSet>,
    rules: Rules,
    listed: Vec<bool>,
    silent: Vec<Digest>,
    unsettled: HashSet<Digest>,
    arrivals: BinaryHeap<Arrival>,
    more: bool,
}

/// An object that was not seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub modified_at: Timestamp,
    /// Its version tells this content of the path from others.
    pub identity: FileIdentity,
    pub digest: Digest,
}

/// What one listing shows.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Seen once and no longer there.
    pub gone: Vec<Digest>,
    /// Not seen, and to count as seen without being told of.
    pub silent: Vec<Digest>,
    /// To be told of, the oldest first.
    pub arrivals: Vec<Arrival>,
    /// Whether there are more than these.
    pub more: bool,
    /// To be settled in the next listing.
    pub unsettled: HashSet<Digest>,
}

impl Scan {
    pub fn new(seen: Arc<SeenSet>, rules: Rules) -> Self {
        let listed = vec![false; seen.len()];
        Self {
            seen,
            rules,
            listed,
            silent: Vec::new(),
            unsettled: HashSet::new(),
            arrivals: BinaryHeap::new(),
            more: false,
        }
    }

    pub fn see(&mut self, file: ListedFile) {
        let ListedFile { mut identity, modified_at } = file;
        if self.rules.settled.is_some() {
            // Of a folder, the version is a time alone.
            identity.version = format!("{}-{}", identity.bytes, identity.version);
        }
        let digest = digest(&identity.path, &identity.version);
        if let Some(position) = self.seen.position(&digest) {
            if let Some(listed) = self.listed.get_mut(position) {
                *listed = true;
            }
            return;
        }
        if self.rules.older_are_seen.is_some_and(|since| is_older(modified_at, since)) {
            self.silent.push(digest);
            return;
        }
        if let Some(settled) = &self.rules.settled {
            self.unsettled.insert(digest);
            if !settled.contains(&digest) {
                return;
            }
        }
        self.arrivals.push(Arrival { modified_at, identity, digest });
        if self.arrivals.len() > ARRIVALS {
            self.arrivals.pop();
            self.more = true;
        }
    }

    pub fn finish(self) -> Found {
        let unlisted = self.seen.digests().iter().zip(&self.listed).filter(|(_, listed)| !**listed);
        Found {
            gone: unlisted.map(|(digest, _)| *digest).collect(),
            silent: self.silent,
            arrivals: self.arrivals.into_sorted_vec(),
            more: self.more,
            unsettled: self.unsettled,
        }
    }
}

/// A bucket's listing gives whole seconds: what arrived in the same second is not older.
fn is_older(modified_at: Timestamp, since: Timestamp) -> bool {
    let whole_seconds = modified_at.subsec_nanosecond() == 0;
    if whole_seconds { modified_at.as_second() < since.as_second() } else { modified_at < since }
}

impl Arrival {
    fn order(&self) -> (Timestamp, &str, &Digest) {
        (self.modified_at, &self.identity.path, &self.digest)
    }
}

impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen::Change;
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn file(path: &str, version: &str, modified_at: &str) -> ListedFile {
        let identity = FileIdentity { path: path.to_owned(), bytes: 1, version: version.to_owned() };
        ListedFile { identity, modified_at: at(modified_at) }
    }

    fn found(seen: &SeenSet, rules: Rules, files: &[ListedFile]) -> Found {
        let mut scan = Scan::new(Arc::new(seen.clone()), rules);
        files.iter().cloned().for_each(|file| scan.see(file));
        scan.finish()
    }

    fn paths(found: &Found) -> Vec<&str> {
        found.arrivals.iter().map(|arrival| arrival.identity.path.as_str()).collect()
    }

    const SINCE: &str = "2026-01-01T12:00:00.5Z";

    #[test]
    fn arrivals_are_told_the_oldest_first_and_then_by_path_whatever_order_they_are_listed_in() {
        let files = [
            file("b", "1", "2026-01-02T00:00:00Z"),
            file("a", "1", "2026-01-02T00:00:00Z"),
            file("z", "1", "2026-01-01T00:00:00Z"),
        ];
        assert_eq!(paths(&found(&SeenSet::default(), Rules::default(), &files)), ["z", "a", "b"]);
    }

    #[test]
    fn an_object_is_seen_once_a_version_and_forgotten_when_it_is_gone() {
        let first = [file("a", "1", "2026-01-01T00:00:00Z"), file("b", "1", "2026-01-01T00:00:00Z")];
        let added = first.iter().map(|file| digest(&file.identity.path, &file.identity.version)).collect();
        let seen = SeenSet::default().changed(at(SINCE), &Change { added, gone: Vec::new() });
        let found = found(&seen, Rules::default(), &[file("a", "2", "2026-01-01T00:00:00Z")]);
        assert_eq!(paths(&found), ["a"]);
        let mut gone = found.gone.clone();
        gone.sort_unstable();
        assert_eq!(gone, seen.digests());
    }

    #[test]
    fn only_the_first_listing_for_a_moment_passes_over_what_is_older() {
        let files = [
            file("old", "1", "2026-01-01T11:59:59.9Z"),
            file("old-in-seconds", "1", "2026-01-01T11:59:59Z"),
            // A bucket cuts the fraction off: it may have arrived half a second after the moment.
            file("same-second", "1", "2026-01-01T12:00:00Z"),
            file("just-before", "1", "2026-01-01T12:00:00.4Z"),
            file("new", "1", "2026-01-01T12:00:00.6Z"),
        ];
        let first = Rules { older_are_seen: Some(at(SINCE)), settled: None };
        let at_first = found(&SeenSet::default(), first, &files);
        assert_eq!(paths(&at_first), ["same-second", "new"]);
        assert_eq!(at_first.silent.len(), 3);
        assert_eq!(found(&SeenSet::default(), Rules::default(), &files).arrivals.len(), 5);
    }

    #[test]
    fn a_file_counts_once_it_is_the_same_in_two_listings_in_a_row() {
        let mut settled = Arc::new(HashSet::new());
        let mut list = |version: &str| {
            let rules = Rules { older_are_seen: None, settled: Some(Arc::clone(&settled)) };
            let found = found(&SeenSet::default(), rules, &[file("a", version, SINCE)]);
            settled = Arc::new(found.unsettled.clone());
            found.arrivals.first().map(|arrival| arrival.identity.version.clone())
        };
        assert_eq!(list("1"), None);
        assert_eq!(list("2"), None);
        assert_eq!(list("2"), Some("1-2".to_owned()));
    }

    #[test]
    fn more_arrivals_than_one_listing_takes_are_left_for_the_next_the_youngest_of_them() {
        let file = |number: i64| {
            let modified_at = at("2026-01-01T00:00:00Z") + jiff::SignedDuration::from_secs(number);
            ListedFile { modified_at, ..file(&format!("{}", number % 7), &number.to_string(), SINCE) }
        };
        let arrivals = i64::try_from(ARRIVALS).unwrap();
        let files: Vec<_> = (0..arrivals + 5).rev().map(file).collect();
        let found = found(&SeenSet::default(), Rules::default(), &files);
        assert!(found.more && found.arrivals.len() == ARRIVALS);
        assert_eq!(found.arrivals.last().unwrap().identity.version, (arrivals - 1).to_string());
    }
}
