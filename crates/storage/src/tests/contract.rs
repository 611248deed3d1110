//! What holds for every store, on a folder and on a bucket.

use std::collections::BTreeSet;
use std::path::Path;

use pintail_protocol::StoredFile;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::server::{bucket_location, bucket_store, endpoint, variables};
use super::{folder_location, folder_store, report, text, trends};
use crate::{CommitOutcome, Installation, PutOnce, Store, StoreError, StoreErrorClass, Update, digest, layout};

/// Both kinds, each with a scratch folder of its own.
async fn stores() -> Vec<(Store, TempDir)> {
    let (folder, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    vec![(folder_store(folder.path()).await, folder), (bucket_store().await, scratch)]
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_racing_committers_exactly_one_wins() {
    for (store, _scratch) in stores().await {
        let mut racers = JoinSet::new();
        for racer in 0..16 {
            let store = store.clone();
            racers.spawn(async move { store.commit(&report(&format!("pod-{racer}"))).await.unwrap() });
        }
        let outcomes = racers.join_all().await;
        let winners: Vec<_> =
            outcomes.iter().filter(|outcome| matches!(outcome, CommitOutcome::Committed(_))).collect();
        let [CommitOutcome::Committed(winner)] = winners[..] else { panic!("{outcomes:?}") };
        let (record, committed) = store.read_commit(&trends()).await.unwrap().unwrap();
        assert_eq!(&record, winner);
        assert_eq!(committed, report(&winner.pod_uid));
        for outcome in &outcomes {
            assert!(
                matches!(outcome, CommitOutcome::Committed(_)) || outcome == &CommitOutcome::Superseded(record.clone())
            );
        }
    }
}

#[tokio::test]
async fn the_folders_of_a_folder_are_named() {
    for (store, _scratch) in stores().await {
        assert!(store.folders("nowhere/runs").await.unwrap().is_empty());
        for key in ["folders/runs/u1/a/_commit", "folders/runs/u2/_versions", "folders/runs/file"] {
            store.put(key, text(b"x")).await.unwrap();
        }
        assert_eq!(store.folders("folders/runs").await.unwrap(), ["u1", "u2"]);
        assert!(store.folders("").await.unwrap().contains(&"folders".to_owned()));
    }
}

#[tokio::test]
async fn a_commit_that_is_repeated_is_still_ours() {
    for (store, _scratch) in stores().await {
        assert_eq!(store.read_commit(&trends()).await.unwrap(), None);
        let CommitOutcome::Committed(record) = store.commit(&report("pod-1")).await.unwrap() else { panic!() };
        assert_eq!(store.commit(&report("pod-1")).await.unwrap(), CommitOutcome::AlreadyOurs(record.clone()));
        assert_eq!(store.commit(&report("pod-2")).await.unwrap(), CommitOutcome::Superseded(record));
    }
}

#[tokio::test]
async fn a_failure_report_never_replaces_a_committed_one() {
    for (store, _scratch) in stores().await {
        store.commit(&report("pod-1")).await.unwrap();
        let (key, found) = store.put_report(&report("pod-1")).await.unwrap();
        assert_eq!(key, "default/runs/5a4c/trends/a1/pod-1/failure.json");
        assert_eq!(store.read_report(&key, &found).await.unwrap(), report("pod-1"));
        store.read_commit(&trends()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_changed_report_is_refused() {
    for (store, _scratch) in stores().await {
        store.commit(&report("pod-1")).await.unwrap();
        store.put("default/runs/5a4c/trends/a1/pod-1/report.json", text(b"{}")).await.unwrap();
        let error = store.read_commit(&trends()).await.unwrap_err();
        assert_eq!(error.class(), StoreErrorClass::Corrupt);
        assert!(error.to_string().contains(&digest(b"{}")), "{error}");
    }
}

#[tokio::test]
async fn a_newer_commit_record_is_refused_even_if_it_has_other_fields() {
    for (store, _scratch) in stores().await {
        store.put(&trends().commit_key(), text(br#"{"format":2,"winner":"?"}"#)).await.unwrap();
        let error = store.read_commit(&trends()).await.unwrap_err();
        assert_eq!(error.class(), StoreErrorClass::NewerFormat);
        assert!(error.to_string().contains("use a newer Pintail"), "{error}");
    }
}

#[tokio::test]
async fn a_store_from_a_newer_version_is_not_opened() {
    for (store, folder) in stores().await {
        store.put("_format", text(br#"{"format":2}"#)).await.unwrap();
        let error = reopen(&store, folder.path()).await.unwrap_err();
        assert_eq!(error.class(), StoreErrorClass::NewerFormat);
        assert!(error.to_string().contains("use a newer Pintail"), "{error}");
    }
}

async fn reopen(store: &Store, folder: &Path) -> Result<Store, StoreError> {
    match store.location() {
        pintail_protocol::StoreLocation::Folder { .. } => Store::open(&folder_location(folder)).await,
        pintail_protocol::StoreLocation::S3 { bucket, .. } => {
            Store::open_with(&bucket_location(bucket), &variables(endpoint())).await
        }
    }
}

#[tokio::test]
async fn an_object_is_created_once() {
    for (store, _scratch) in stores().await {
        let key = layout::revision("default", "retail-1234").unwrap();
        assert_eq!(store.put_once(&key, text(b"first")).await.unwrap(), PutOnce::Created);
        assert_eq!(store.put_once(&key, text(b"second")).await.unwrap(), PutOnce::Exists);
        assert_eq!(store.get(&key, 5).await.unwrap(), Some(text(b"first")));
        let error = store.get(&key, 4).await.unwrap_err();
        assert_eq!(error.class(), StoreErrorClass::Corrupt);
        assert!(error.to_string().contains("more than the 4"), "{error}");
        assert_eq!(store.get("default/revisions/other.json", 4).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_concurrent_update_is_lost() {
    for (store, _scratch) in stores().await {
        let mut writers = JoinSet::new();
        for writer in 0..8 {
            let store = store.clone();
            writers.spawn(async move { add_a_line(&store, &format!("{writer}\n")).await });
        }
        writers.join_all().await;
        let bytes = store.get("default/executions/x.json", 1000).await.unwrap().unwrap();
        let lines: BTreeSet<&str> = std::str::from_utf8(&bytes).unwrap().lines().collect();
        assert_eq!(lines.len(), 8, "{lines:?}");
    }
}

async fn add_a_line(store: &Store, line: &str) {
    loop {
        let (bytes, version) = match store.read_versioned("default/executions/x.json", 1000).await.unwrap() {
            Some((bytes, version)) => (bytes.to_vec(), Some(version)),
            None => (Vec::new(), None),
        };
        let new = text(&[&bytes[..], line.as_bytes()].concat());
        if let Update::Done(_) = store.update("default/executions/x.json", new, version.as_ref()).await.unwrap() {
            return;
        }
    }
}

#[tokio::test]
async fn an_update_gives_the_version_for_the_next_one() {
    for (store, _scratch) in stores().await {
        let key = "default/executions/x.json";
        let Update::Done(first) = store.update(key, text(b"1"), None).await.unwrap() else { panic!() };
        let Update::Done(second) = store.update(key, text(b"2"), Some(&first)).await.unwrap() else { panic!() };
        assert_eq!(store.update(key, text(b"33"), Some(&first)).await.unwrap(), Update::Conflict);
        assert_eq!(store.update(key, text(b"33"), None).await.unwrap(), Update::Conflict);
        assert_eq!(store.read_versioned(key, 10).await.unwrap(), Some((text(b"2"), second.clone())));
        // A lost reply looks like this: the content is there, the version that was known is not.
        assert_eq!(store.update(key, text(b"2"), Some(&first)).await.unwrap(), Update::Done(second));
    }
}

#[tokio::test]
async fn keys_are_listed_in_order_and_deleted_by_folder() {
    for (store, _scratch) in stores().await {
        for key in ["default/executions/b.json", "default/executions/a.json", "default/executions-old/c.json"] {
            store.update(key, text(b"x"), None).await.unwrap();
        }
        let found = store.list(&layout::executions("default").unwrap()).await.unwrap();
        assert_eq!(found, ["default/executions/a.json", "default/executions/b.json"]);
        assert_eq!(layout::name(&found[0]), "a");
        store.delete_folder("default/executions").await.unwrap();
        store.delete_folder("default/executions").await.unwrap();
        assert_eq!(store.list("default").await.unwrap(), ["default/executions-old/c.json"]);
    }
}

#[tokio::test]
async fn a_listing_tells_when_an_object_was_written_last() {
    for (store, _scratch) in stores().await {
        store.put("default/triggers/p/t/a", text(b"x")).await.unwrap();
        store.put("default/triggers/p/t/b", text(b"x")).await.unwrap();
        let found = store.list_dated("default/triggers").await.unwrap();
        assert_eq!(
            found.iter().map(|listed| &listed.key).collect::<Vec<_>>(),
            ["default/triggers/p/t/a", "default/triggers/p/t/b"]
        );
        // Clocks of buckets tell whole seconds.
        let recent = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(5);
        assert!(found.iter().all(|listed| listed.modified_at > recent), "{found:?}");
        assert!(store.list_dated("default/nothing").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn objects_are_deleted_by_their_keys_and_others_stay() {
    for (store, _scratch) in stores().await {
        let keys = ["default/triggers/p/t/a", "default/triggers/p/t/b", "default/triggers/p/t/c"].map(str::to_owned);
        for key in &keys {
            store.put(key, text(b"x")).await.unwrap();
        }
        store.delete(&keys[..2]).await.unwrap();
        store.delete(&keys[..2]).await.unwrap();
        store.delete(&[]).await.unwrap();
        assert_eq!(store.list("default/triggers").await.unwrap(), keys[2..]);
        let error = store.delete(&["../x".to_owned()]).await.unwrap_err();
        assert_eq!(error.class(), StoreErrorClass::Invalid);
    }
}

/// Written, stored, staged: small, empty, and large enough for an upload in parts.
#[tokio::test]
async fn a_stored_file_is_staged_with_the_same_bytes() {
    for (store, scratch) in stores().await {
        for bytes in [0, 10, 17 << 20] {
            let file = store_some(&store, scratch.path(), bytes).await;
            assert_eq!(file.bytes, bytes as u64);
            let other = TempDir::new().unwrap();
            let staged = store.stage(&file, other.path()).await.unwrap();
            assert_eq!(digest(&std::fs::read(&staged).unwrap()), file.digest);
            assert_eq!(staged.file_name().unwrap(), "result.parquet");
            assert_eq!(store.stage(&file, other.path()).await.unwrap(), staged);
        }
    }
}

async fn store_some(store: &Store, scratch: &Path, bytes: usize) -> StoredFile {
    let folder = trends().attempt_folder(1, &format!("pod-{bytes}")).unwrap();
    let key = layout::file(&folder, "result.parquet").unwrap();
    let path = store.output_path(&key, scratch).await.unwrap();
    let content: Vec<u8> = (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect();
    std::fs::write(&path, content).unwrap();
    store.store_file(&path, &key).await.unwrap()
}

#[tokio::test]
async fn a_file_that_changed_since_is_not_staged() {
    for (store, scratch) in stores().await {
        let file = store_some(&store, scratch.path(), 1000).await;
        let mut content = store.get(&file.key, 1000).await.unwrap().unwrap().to_vec();
        content[500] ^= 1;
        store.put(&file.key, text(&content)).await.unwrap();
        let other = TempDir::new().unwrap();
        let flipped = store.stage(&file, other.path()).await.unwrap_err();
        assert_eq!(flipped.class(), StoreErrorClass::Corrupt);
        for part in [&file.key, &file.digest, &digest(&content)] {
            assert!(flipped.to_string().contains(part), "{flipped}");
        }
        store.put(&file.key, text(&content[..999])).await.unwrap();
        let truncated = store.stage(&file, other.path()).await.unwrap_err();
        assert_eq!(truncated.class(), StoreErrorClass::Corrupt);
        assert!(truncated.to_string().contains("it has 999 bytes, but 1000 were recorded"), "{truncated}");
        store.delete_folder(&trends().attempt_folder(1, "pod-1000").unwrap()).await.unwrap();
        let gone = store.stage(&file, other.path()).await.unwrap_err();
        assert_eq!(gone.class(), StoreErrorClass::NotFound);
    }
}

#[tokio::test]
async fn a_store_belongs_to_the_first_cluster_that_claims_it() {
    for (store, _scratch) in stores().await {
        assert_eq!(store.claim_installation("cluster-1").await.unwrap(), Installation::Ours);
        assert_eq!(store.claim_installation("cluster-1").await.unwrap(), Installation::Ours);
        let other = store.claim_installation("cluster-2").await.unwrap();
        assert_eq!(other, Installation::Other("cluster-1".to_owned()));
    }
}

#[tokio::test]
async fn an_order_is_read_as_it_was_stored_or_not_at_all() {
    for (store, _scratch) in stores().await {
        let name = store.put_order("default", "5a4c", "KLUv_order".to_owned()).await.unwrap();
        assert_eq!(store.put_order("default", "5a4c", "KLUv_order".to_owned()).await.unwrap(), name);
        assert_eq!(store.read_order(&name).await.unwrap(), "KLUv_order");
        let (key, digest) = name.split_once('#').unwrap();
        assert!(key.starts_with("default/runs/5a4c/_orders/"), "{key}");
        let agents = store.put_agent_order("default", "KLUv_order".to_owned()).await.unwrap();
        assert_eq!(agents, format!("default/agents/{}#{digest}", digest.trim_start_matches("blake3:")));
        assert_eq!(store.read_order(&agents).await.unwrap(), "KLUv_order");
        store.put(key, text(b"another")).await.unwrap();
        let class = async |name: &str| store.read_order(name).await.unwrap_err().class();
        assert_eq!(class(&name).await, StoreErrorClass::Corrupt);
        assert_eq!(class(key).await, StoreErrorClass::Invalid);
        assert_eq!(class(&format!("default/none#{digest}")).await, StoreErrorClass::NotFound);
        assert_eq!(class(&format!("../none#{digest}")).await, StoreErrorClass::Invalid);
    }
}

#[tokio::test]
async fn the_log_of_a_task_is_that_of_its_attempts_in_their_order() {
    for (store, _scratch) in stores().await {
        for (attempt, number, line) in [(10, 1, "d\n"), (2, 2, "c\n"), (2, 1, "b\n"), (1, 1, "a\n")] {
            let folder = trends().attempt_folder(attempt, "pod-1").unwrap();
            store.put(&layout::log_chunk(&folder, number), text(line.as_bytes())).await.unwrap();
            store.put(&layout::file(&folder, "result.parquet").unwrap(), text(b"PAR1")).await.unwrap();
        }
        assert_eq!(store.read_log("default", "5a4c", "trends").await.unwrap(), b"a\nb\nc\nd\n");
        assert_eq!(store.read_log("default", "5a4c", "none").await.unwrap(), b"");
    }
}
