//! The line between one process and the object store.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::server::line::Line;

/// The bucket that all processes share.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    objects: Arc<InMemory>,
    /// The keys that were written, in order.
    written: Arc<Mutex<Vec<String>>>,
    unreachable: Arc<AtomicBool>,
}

impl Bucket {
    /// How often each `_commit` was written, beyond once.
    pub fn second_commits(&self) -> Vec<String> {
        let written = self.written.lock().unwrap();
        let mut commits: Vec<&String> = written.iter().filter(|key| key.ends_with("/_commit")).collect();
        commits.sort();
        commits.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()).collect()
    }

    /// From now on the operator can read and write nothing.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.unreachable.store(unreachable, Ordering::Relaxed);
    }

    /// As a process sees it over its line.
    pub fn over(&self, line: &Line) -> Arc<dyn ObjectStore> {
        Arc::new(Seen { bucket: self.clone(), line: line.clone() })
    }

    fn check(&self, line: &Line) -> Result<()> {
        let refused = line.author().starts_with("operator") && self.unreachable.load(Ordering::Relaxed);
        if refused { Err(lost("connection refused")) } else { Ok(()) }
    }
}

fn lost(why: &str) -> Error {
    Error::Generic { store: "simulation", source: why.to_owned().into() }
}

#[derive(Clone)]
struct Seen {
    bucket: Bucket,
    line: Line,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bucket")
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bucket")
    }
}

#[async_trait]
impl ObjectStore for Seen {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.bucket.check(&self.line)?;
        let (bucket, path, what) = (self.bucket.clone(), path.clone(), format!("put {path}"));
        let action = async move {
            let put = bucket.objects.put_opts(&path, payload, options).await?;
            bucket.written.lock().unwrap().push(path.to_string());
            Ok(put)
        };
        let refuse = |code: u16| Err(lost(&format!("server error {code}")));
        self.line.write(what, action, refuse).await.unwrap_or_else(|error| Err(lost(&error.to_string())))
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.bucket.objects.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.line.read().await;
        self.bucket.check(&self.line)?;
        self.bucket.objects.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (bucket, line) = (self.bucket.clone(), self.line.clone());
        let results = async move {
            let paths: Vec<Result<Path>> = paths.collect().await;
            if paths.is_empty() {
                return Vec::new();
            }
            if let Err(error) = bucket.check(&line) {
                return vec![Err(error)];
            }
            let what = format!("delete {} objects", paths.len());
            let action =
                async move { bucket.objects.delete_stream(futures::stream::iter(paths).boxed()).collect().await };
            let refuse = |code: u16| vec![Err(lost(&format!("server error {code}")))];
            line.write(what, action, refuse).await.unwrap_or_else(|error| vec![Err(lost(&error.to_string()))])
        };
        futures::stream::once(results).flat_map(futures::stream::iter).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(error) = self.bucket.check(&self.line) {
            return futures::stream::iter([Err(error)]).boxed();
        }
        self.bucket.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.line.read().await;
        self.bucket.check(&self.line)?;
        self.bucket.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.bucket.objects.copy_opts(from, to, options).await
    }
}
