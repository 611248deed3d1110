//! Tests of the agent with folders, a bucket and HTTP on loopback.

mod events;
mod sink;
mod watching;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use pintail_protocol::{ArrivedObject, Happened, Occurrence, OccurrenceAnswer, StoreLocation};
use pintail_storage::Store;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Agent, Sink, SinkError};
use crate::log::Log;
use crate::workspace::Environment;

/// A sink that keeps what it is told and answers as it was told to; after that, that a run starts.
#[derive(Default)]
pub(super) struct TestSink {
    answers: Mutex<VecDeque<Result<OccurrenceAnswer, SinkError>>>,
    told: Mutex<Vec<Occurrence>>,
}

impl TestSink {
    pub fn answering(answers: impl IntoIterator<Item = Result<OccurrenceAnswer, SinkError>>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), told: Mutex::default() })
    }

    /// What it was told since it was last asked.
    pub fn told(&self) -> Vec<Occurrence> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    pub fn told_paths(&self) -> Vec<String> {
        self.told().iter().map(|occurrence| object(occurrence).path.clone()).collect()
    }
}

#[async_trait]
impl Sink for TestSink {
    async fn tell(&self, occurrence: Occurrence) -> Result<OccurrenceAnswer, SinkError> {
        let name = match &occurrence.happened {
            Happened::Object(object) => format!("run-of-{}-{}", object.path, object.version),
            Happened::Event(event) => format!("run-of-{}-{}", event.source, event.id),
        };
        self.told.lock().unwrap().push(occurrence);
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(OccurrenceAnswer::Execution { name }))
    }
}

pub(super) fn object(occurrence: &Occurrence) -> &ArrivedObject {
    match &occurrence.happened {
        Happened::Object(object) => object,
        Happened::Event(_) => panic!("it is an event"),
    }
}

pub(super) fn full() -> Result<OccurrenceAnswer, SinkError> {
    Ok(OccurrenceAnswer::Full { reason: "100 runs wait".to_owned() })
}

pub(super) fn dropped() -> Result<OccurrenceAnswer, SinkError> {
    Ok(OccurrenceAnswer::Dropped { reason: "the plan is suspended".to_owned() })
}

pub(super) fn unreachable() -> SinkError {
    SinkError::Unreachable("nobody is there".to_owned())
}

pub(super) fn refused() -> SinkError {
    SinkError::Refused("it is not understood".to_owned())
}

pub(super) fn agent(store: &Path, environment: Environment, sink: Arc<dyn Sink>) -> Arc<Agent> {
    let location = StoreLocation::Folder { path: store.to_str().unwrap().to_owned() };
    Arc::new(Agent {
        namespace: "data".to_owned(),
        environment,
        store: Store::connect(&location).unwrap(),
        sink,
        log: Log::default(),
        listings: Semaphore::new(1),
    })
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn never() -> CancellationToken {
    CancellationToken::new()
}
