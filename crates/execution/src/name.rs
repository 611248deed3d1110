//! Names of objects: readable in front, a digest behind.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// Lower-case base32 (RFC 4648) without padding; ten characters are fifty bits.
fn base32(bytes: &[u8], length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |index: usize| bytes.get(index / 8).map_or(0, |byte| (byte >> (7 - index % 8)) & 1);
    (0..length)
        .map(|character| (0..5).fold(0u8, |value, offset| value << 1 | bit(character * 5 + offset)))
        .filter_map(|value| ALPHABET.get(usize::from(value)).map(|c| char::from(*c)))
        .collect()
}

/// A digest of `parts`, ten characters long, for use in a name. Each part is told from the next.
fn digest(parts: &[&str]) -> String {
    digest_of(parts, 10)
}

fn digest_of(parts: &[&str], length: usize) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    base32(&hasher.finalize(), length)
}

/// Cuts `text` to `length` bytes; names are ASCII.
fn head(text: &str, length: usize) -> &str {
    text.get(..length).unwrap_or(text).trim_end_matches('-')
}

/// Name of an Artifact: the same for every attempt of one run's output, another for another run.
#[must_use]
pub fn artifact_name(dataset: &str, execution_uid: &str, output: &str, partition: &BTreeMap<String, String>) -> String {
    let mut parts = vec![execution_uid, output];
    parts.extend(partition.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
    format!("{}-{}", head(&dataset.replace('_', "-"), 52), digest(&parts))
}

/// Name of an Execution: its workflow's, and five characters of `randomness`.
#[must_use]
pub fn execution_name(workflow: &str, randomness: [u8; 4]) -> String {
    format!("{}-{}", head(workflow, 52), base32(&randomness, 5))
}

/// Name of the pod of one attempt: it is the intent to run it, so it is the same whoever creates the pod. At most 62 bytes.
#[must_use]
pub fn pod_name(execution: &str, execution_uid: &str, task: &str, item: Option<u32>, attempt: u32) -> String {
    let item = item.map(|item| item.to_string()).unwrap_or_default();
    let digest = digest(&[execution_uid, task, &item, &attempt.to_string()]);
    format!("{}-{}-{digest}", head(execution, 30), head(&task.replace('_', "-"), 20))
}

/// Name of the Execution of an occurrence: the same whoever creates it, so that there is one. Sixteen characters are eighty
/// bits: also among millions of occurrences no two share a name.
#[must_use]
pub fn occurrence_name(plan: &str, trigger: Option<&str>, key: &str) -> String {
    occurrence_run(plan, &digest_of(&[plan, trigger.unwrap_or_default(), key], 16))
}

/// As [`occurrence_name`], by the digest that it ends with.
pub(crate) fn occurrence_run(plan: &str, digest: &str) -> String {
    format!("{}-{digest}", head(plan, 46))
}

/// A digest of names for a label, where a name may be too long or of other characters.
#[must_use]
pub fn label_digest(parts: &[&str]) -> String {
    digest(parts)
}

/// Stable id of a message that a task sends.
#[must_use]
pub fn message_id(execution_uid: &str, task: &str) -> String {
    digest(&[execution_uid, task])
}

/// Digest of a document, for reuse keys.
#[must_use]
pub(crate) fn reuse_digest(document: &str) -> String {
    let hash = Sha256::digest(document.as_bytes());
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// An object's name in SQL.
#[must_use]
pub fn sql_name(object_name: &str) -> String {
    object_name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_has_one_name_per_run_output_and_partition() {
        let day = |value: &str| BTreeMap::from([("day".to_owned(), value.to_owned())]);
        let name = artifact_name("sales_trends", "u1", "trends", &day("2026-11-20"));
        assert!(name.starts_with("sales-trends-") && name.len() == 23);
        assert_eq!(name, artifact_name("sales_trends", "u1", "trends", &day("2026-11-20")));
        assert_ne!(name, artifact_name("sales_trends", "u2", "trends", &day("2026-11-20")));
        assert_ne!(name, artifact_name("sales_trends", "u1", "trends", &day("2026-11-21")));
        assert_ne!(name, artifact_name("sales_trends", "u1", "other", &day("2026-11-20")));
    }

    #[test]
    fn a_pod_has_one_name_per_attempt_within_its_limit() {
        let name = pod_name("retail-summary", "u1", "year_trends", None, 1);
        assert!(name.starts_with("retail-summary-year-trends-"), "{name}");
        assert_eq!(name, pod_name("retail-summary", "u1", "year_trends", None, 1));
        let others = [
            pod_name("retail-summary", "u1", "year_trends", None, 2),
            pod_name("retail-summary", "u1", "year_trends", Some(1), 1),
            pod_name("retail-summary", "u2", "year_trends", None, 1),
        ];
        assert!(!others.contains(&name));
        assert!(pod_name(&"e".repeat(63), "u", &"t".repeat(40), Some(9999), 99).len() <= 63);
    }

    #[test]
    fn an_execution_name_fits_its_limit() {
        assert_eq!(execution_name("hello", [0, 0, 0, 0]), "hello-aaaaa");
        assert!(execution_name(&"w".repeat(60), [255; 4]).len() <= 63);
    }
}
