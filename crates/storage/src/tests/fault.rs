//! A bucket between which and us messages get lost.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use proptest::prelude::*;

use super::{report, text, trends};
use crate::{CommitOutcome, PutOnce, Store, Update};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The request never arrives.
    LostRequest,
    /// The write happens; whoever asked does not learn it.
    LostReply,
    /// 409: another conditional write is under way.
    Conflict,
}

#[derive(Debug)]
struct Faulty {
    inner: Arc<InMemory>,
    /// One a write, in order; none after the last.
    faults: Mutex<VecDeque<Fault>>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

fn lost() -> Error {
    Error::Generic { store: "test", source: "operation timed out".into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::None => self.inner.put_opts(path, payload, options).await,
            Fault::LostRequest => Err(lost()),
            Fault::LostReply => self.inner.put_opts(path, payload, options).await.and(Err(lost())),
            Fault::Conflict => Err(Error::AlreadyExists { path: path.to_string(), source: "409 Conflict".into() }),
        }
    }
    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn faulty_store(inner: &Arc<InMemory>, faults: &[Fault]) -> Store {
    Store::in_memory(Arc::new(Faulty {
        inner: Arc::clone(inner),
        faults: Mutex::new(faults.iter().copied().collect()),
    }))
}

/// Time is paused: the pauses between tries take none.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future)
}

#[test]
fn a_commit_whose_reply_was_lost_is_ours() {
    let inner = Arc::new(InMemory::new());
    run(async {
        let store = faulty_store(&inner, &[Fault::None, Fault::LostReply]);
        let CommitOutcome::AlreadyOurs(record) = store.commit(&report("pod-1")).await.unwrap() else { panic!() };
        assert_eq!(store.read_commit(&trends()).await.unwrap().unwrap().0, record);
    });
}

#[test]
fn an_object_is_created_after_lost_requests_and_conflicts() {
    let inner = Arc::new(InMemory::new());
    run(async {
        let store = faulty_store(&inner, &[Fault::LostRequest, Fault::Conflict]);
        assert_eq!(store.put_once("default/x", text(b"1")).await.unwrap(), PutOnce::Created);
    });
}

#[test]
fn an_update_whose_reply_was_lost_is_done() {
    let inner = Arc::new(InMemory::new());
    run(async {
        let store = faulty_store(&inner, &[Fault::LostReply, Fault::LostReply, Fault::LostRequest]);
        let Update::Done(first) = store.update("default/x", text(b"1"), None).await.unwrap() else { panic!() };
        let Update::Done(second) = store.update("default/x", text(b"2"), Some(&first)).await.unwrap() else { panic!() };
        store.update("default/x", text(b"3"), Some(&second)).await.unwrap_err();
        assert_eq!(store.get("default/x", 9).await.unwrap(), Some(text(b"2")));
    });
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![Just(Fault::None), Just(Fault::LostRequest), Just(Fault::LostReply), Just(Fault::Conflict)];
    prop::collection::vec(fault, 0..12)
}

proptest! {
    /// Whatever gets lost: who is told that it won did win, nobody else is, and after the faults trying again tells all.
    #[test]
    fn commits_agree_on_one_winner_under_any_faults(plans in prop::collection::vec(faults(), 1..4)) {
        let inner = Arc::new(InMemory::new());
        run(async {
            let pods: Vec<_> = (0..plans.len()).map(|pod| report(&format!("pod-{pod}"))).collect();
            let stores: Vec<_> = plans.iter().map(|plan| faulty_store(&inner, plan)).collect();
            let tries = stores.iter().zip(&pods).map(|(store, report)| store.commit(report));
            let first = futures::future::join_all(tries).await;
            let calm = faulty_store(&inner, &[]);
            let mut told = first.into_iter().filter_map(std::result::Result::ok).collect::<Vec<_>>();
            for report in &pods {
                told.push(calm.commit(report).await.unwrap());
            }
            let (record, committed) = calm.read_commit(&trends()).await.unwrap().unwrap();
            prop_assert_eq!(&committed.pod_uid, &record.pod_uid);
            for outcome in told {
                let (CommitOutcome::Committed(named)
                | CommitOutcome::AlreadyOurs(named)
                | CommitOutcome::Superseded(named)) = outcome;
                prop_assert_eq!(&named, &record);
            }
            Ok(())
        })?;
    }
}
