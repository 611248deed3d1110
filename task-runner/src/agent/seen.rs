use jiff::Timestamp;
use pintail_protocol::check_format;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::failure::TaskFailure;

/// Format of the set that this build writes.
const FORMAT: u32 = 1;

/// The set of the most files that one listing may give takes 3.6 MB; two agents can add to it.
pub(super) const SEEN_BYTES: usize = 16 << 20;

/// Twelve bytes are enough that nobody finds a second object with the digest of one that was seen, and make 1.2 MB for
/// a hundred thousand objects. They do not get smaller by packing.
const DIGEST_BYTES: usize = 12;

/// Stands for one version of one path.
pub(super) type Digest = [u8; DIGEST_BYTES];

pub(super) fn digest(path: &str, version: &str) -> Digest {
    let mut hash = Sha256::new();
    // The length parts the two texts.
    hash.update((path.len() as u64).to_le_bytes());
    hash.update(path);
    hash.update(version);
    let mut digest = Digest::default();
    digest.copy_from_slice(&hash.finalize()[..DIGEST_BYTES]);
    digest
}

/// The versions of objects that a trigger has dealt with, as the store keeps them: a line of JSON, then the digests,
/// sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SeenSet {
    /// See [`pintail_protocol::ObjectWatch::since`]. `None` before the first listing.
    pub since: Option<Timestamp>,
    digests: Vec<Digest>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    since: Option<Timestamp>,
    objects: usize,
}

/// What a listing and the answers to it change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Dealt with since.
    pub added: Vec<Digest>,
    /// No longer listed.
    pub gone: Vec<Digest>,
}

impl Change {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.gone.is_empty()
    }
}

impl SeenSet {
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Where a digest stands; `None` where it is not seen.
    pub fn position(&self, digest: &Digest) -> Option<usize> {
        self.digests.binary_search(digest).ok()
    }

    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// The set after a change, for the moment that the change was made for.
    pub fn changed(&self, since: Timestamp, change: &Change) -> Self {
        let mut gone = change.gone.clone();
        gone.sort_unstable();
        let kept = self.digests.iter().filter(|digest| gone.binary_search(digest).is_err());
        let mut digests: Vec<Digest> = kept.chain(&change.added).copied().collect();
        digests.sort_unstable();
        digests.dedup();
        Self { since: Some(since), digests }
    }

    pub fn encode(&self) -> Vec<u8> {
        let head = Head { format: FORMAT, since: self.since, objects: self.digests.len() };
        let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(self.digests.as_flattened());
        bytes
    }

    /// `place` says where the bytes are from.
    ///
    /// # Errors
    /// `SeenSetCorrupt`, `NewerFormat`.
    pub fn decode(bytes: &[u8], place: &str) -> Result<Self, TaskFailure> {
        let corrupt = || {
            let message = format!(
                "{place} does not hold which objects were seen: delete it, and the trigger starts as if it were new"
            );
            TaskFailure::permanent("SeenSetCorrupt", message)
        };
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(corrupt)?;
        let (head, digests) = bytes.split_at(end);
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(head).map_err(|_| corrupt())?;
        check_format("the set of seen objects", format)
            .map_err(|error| TaskFailure::permanent("NewerFormat", error.to_string()))?;
        let head: Head = serde_json::from_slice(head).map_err(|_| corrupt())?;
        let (digests, rest) = digests.get(1..).unwrap_or_default().as_chunks::<DIGEST_BYTES>();
        let sorted = digests.is_sorted_by(|left, right| left < right);
        if !rest.is_empty() || digests.len() != head.objects || !sorted {
            return Err(corrupt());
        }
        Ok(Self { since: head.since, digests: digests.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn of(paths: &[&str]) -> Vec<Digest> {
        paths.iter().map(|path| digest(path, "1")).collect()
    }

    #[test]
    fn a_change_adds_drops_and_keeps_the_rest() {
        let first = SeenSet::default().changed(at(1), &Change { added: of(&["a", "b", "a"]), gone: Vec::new() });
        assert_eq!(first.len(), 2);
        let second = first.changed(at(2), &Change { added: of(&["c", "b"]), gone: of(&["a", "never"]) });
        assert_eq!(second.since, Some(at(2)));
        assert_eq!(second.len(), 2);
        for (path, expected) in [("a", false), ("b", true), ("c", true)] {
            assert_eq!(second.position(&digest(path, "1")).is_some(), expected, "{path}");
        }
        // What is both gone and dealt with was there after it was gone.
        let both = first.changed(at(2), &Change { added: of(&["a"]), gone: of(&["a"]) });
        assert!(both.position(&digest("a", "1")).is_some());
    }

    #[test]
    fn path_and_version_are_told_apart() {
        assert_ne!(digest("ab", "c"), digest("a", "bc"));
        assert_ne!(digest("a", "1"), digest("a", "2"));
    }

    #[test]
    fn what_was_written_is_read_back_and_anything_else_is_refused() {
        let set = SeenSet::default().changed(at(7), &Change { added: of(&["a", "b", "c"]), gone: Vec::new() });
        let bytes = set.encode();
        assert_eq!(SeenSet::decode(&bytes, "here").unwrap(), set);
        assert_eq!(SeenSet::decode(&SeenSet::default().encode(), "here").unwrap(), SeenSet::default());
        for broken in [&bytes[..bytes.len() - 1], &bytes[..bytes.len() - DIGEST_BYTES], b"", b"\n", b"{}\n"] {
            let failure = SeenSet::decode(broken, "s3://lake/_seen").unwrap_err();
            assert_eq!(failure.reason, "SeenSetCorrupt");
            assert!(failure.message.contains("s3://lake/_seen"), "{failure}");
        }
        let failure = SeenSet::decode(b"{\"format\":2,\"other\":true}\n", "here").unwrap_err();
        assert_eq!(failure.reason, "NewerFormat");
    }

    #[test]
    fn a_hundred_thousand_objects_take_little_room() {
        let added = (0..100_000).map(|number| digest(&format!("incoming/{number}.csv"), "1")).collect();
        let set = SeenSet::default().changed(at(1), &Change { added, gone: Vec::new() });
        assert_eq!(set.len(), 100_000);
        assert!(set.encode().len() < 1_250_000);
    }
}
