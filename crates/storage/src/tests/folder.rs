use std::io;
use std::path::Path;

use pintail_protocol::StoreLocation;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{folder_location, folder_store, text};
use crate::folder::trouble;
use crate::{RunTask, Store, StoreErrorClass, layout, parse_location};

#[tokio::test]
async fn what_a_crash_left_behind_is_neither_listed_nor_in_the_way() {
    let folder = TempDir::new().unwrap();
    let store = folder_store(folder.path()).await;
    let executions = folder.path().join("default/executions");
    std::fs::create_dir_all(&executions).unwrap();
    std::fs::write(executions.join(".x.json.new"), "half").unwrap();
    store.update("default/executions/x.json", text(b"whole"), None).await.unwrap();
    assert_eq!(store.list("default/executions").await.unwrap(), ["default/executions/x.json"]);
    assert_eq!(store.get("default/executions/x.json", 10).await.unwrap(), Some(text(b"whole")));
    assert!(!executions.join(".x.json.new").exists());
}

#[tokio::test]
async fn a_store_where_a_file_is_says_so() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store");
    std::fs::write(&path, "").unwrap();
    let error = Store::open(&folder_location(&path)).await.unwrap_err();
    assert_eq!(error.class(), StoreErrorClass::Invalid);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_file_written_elsewhere_is_not_taken_for_the_object() {
    let folder = TempDir::new().unwrap();
    let store = folder_store(folder.path()).await;
    let elsewhere = folder.path().join("elsewhere");
    std::fs::write(&elsewhere, "x").unwrap();
    let error = store.store_file(&elsewhere, "default/runs/u/t/a1/p/x").await.unwrap_err();
    assert!(error.to_string().contains("elsewhere"), "{error}");
}

/// As root no folder is read-only, so the meaning of the kernel's answers is tested by itself.
#[test]
fn the_kernels_refusals_say_what_to_do() {
    let cases = [
        (28, "write", StoreErrorClass::NoSpace, "free some space"),
        (122, "write", StoreErrorClass::NoSpace, "free some space"),
        (30, "write", StoreErrorClass::ReadOnly, "make it writable"),
        (13, "write", StoreErrorClass::ReadOnly, "make it writable"),
        (13, "read", StoreErrorClass::Denied, "check the rights"),
        (5, "read", StoreErrorClass::Unreachable, "check that the store is up"),
    ];
    for (number, action, class, advice) in cases {
        let error = trouble(action, Path::new("/data/store/x"), &io::Error::from_raw_os_error(number));
        assert_eq!(error.class(), class, "{error}");
        assert!(error.to_string().contains(advice) && error.to_string().contains("/data/store/x"), "{error}");
    }
}

#[test]
fn locations_are_read_as_people_write_them() {
    let s3 = |bucket: &str, prefix: &str| StoreLocation::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
    assert_eq!(parse_location("s3://lake").unwrap(), s3("lake", ""));
    assert_eq!(parse_location("s3://lake/team/a/").unwrap(), s3("lake", "team/a"));
    assert_eq!(parse_location("/data/x").unwrap(), StoreLocation::Folder { path: "/data/x".to_owned() });
    let StoreLocation::Folder { path } = parse_location(".pintail").unwrap() else { panic!() };
    assert!(path.starts_with('/') && path.ends_with("/.pintail"), "{path}");
    for wrong in ["", "s3://", "s3:///x", "s3://key:secret@lake", "s3://lake/../x", "gs://lake"] {
        assert_eq!(parse_location(wrong).unwrap_err().class(), StoreErrorClass::Invalid, "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_name_leaves_its_place_in_the_layout(names in prop::collection::vec("[a-zA-Z0-9./_\\\\ -]{0,6}", 4)) {
        let [namespace, uid, task, pod] = &names[..] else { unreachable!() };
        let Ok(run) = RunTask::new(namespace, uid, task, Some(3)) else { return Ok(()) };
        let Ok(folder) = run.attempt_folder(1, pod) else { return Ok(()) };
        let parts: Vec<&str> = folder.split('/').collect();
        prop_assert_eq!(&parts, &[namespace, "runs", uid, task, "3", "a1", pod]);
        prop_assert!(parts.iter().all(|part| !part.is_empty() && !part.starts_with('.')));
        prop_assert!(layout::file(&folder, pod).is_ok());
    }
}
