//! What is remembered of Executions between reconciles. All of it can be found out anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_engine::TaskIndex;
use pintail_execution::Run;
use pintail_protocol::WorkOrder;

use super::facts::Waiting;

/// By uid.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<String, Remembered>>);

impl Memory {
    /// Takes out what is remembered of an object: one reconcile at a time has it.
    pub fn take(&self, uid: &str) -> Remembered {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid).unwrap_or_default()
    }

    pub fn put(&self, uid: String, remembered: Remembered) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, remembered);
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[derive(Default)]
pub struct Remembered {
    /// The newest version that was written: older views are not looked at.
    pub version: u64,
    /// The next look must be at the API server itself.
    pub read_live: bool,
    /// Reconciles in a row that failed.
    pub failures: u32,
    /// As it was decoded last, with the version of which it is.
    pub decoded: Option<(Option<String>, Arc<api::Execution>)>,
    pub driven: Option<Box<Driven>>,
    /// By notification: its attempt whose pod was asked for, and when.
    pub told: HashMap<usize, (u32, Timestamp)>,
    /// By uid of pod: since when the end of its attempt is recorded.
    pub recorded: HashMap<String, Timestamp>,
}

/// A run under way.
pub struct Driven {
    pub run: Run,
    /// As it was written or seen last.
    pub object: Arc<DynamicObject>,
    /// As it was written last.
    pub written: api::ExecutionStatus,
    pub written_at: Timestamp,
    /// How long the last write took.
    pub write_took: Duration,
    /// Since when there is something to write.
    pub unwritten_since: Option<Timestamp>,
    /// Attempts whose pods were asked for.
    pub starting: BTreeMap<TaskIndex, Starting>,
    /// When the results ended that are not written yet.
    pub unwritten_ends: Vec<Timestamp>,
    /// What attempts wait for that are under way.
    pub waiting: BTreeMap<TaskIndex, Waiting>,
    /// Why not all could be done that was to be.
    pub trouble: Option<(api::ConditionReason, String)>,
}

impl Driven {
    pub fn new(run: Run, object: Arc<DynamicObject>, written: api::ExecutionStatus, written_at: Timestamp) -> Self {
        Self {
            run,
            object,
            written,
            written_at,
            write_took: Duration::ZERO,
            unwritten_since: None,
            unwritten_ends: Vec::new(),
            starting: BTreeMap::new(),
            waiting: BTreeMap::new(),
            trouble: None,
        }
    }
}

/// How far the pod of an attempt is.
pub enum Starting {
    Created {
        at: Timestamp,
    },
    /// The cluster did not take it and may later, or the run is held.
    Refused {
        attempt: u32,
        order: Box<WorkOrder>,
        again_at: Timestamp,
    },
}
