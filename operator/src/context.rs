use std::sync::Arc;

use jiff::Timestamp;
use pintail_storage::Store;

use crate::{Desk, Metrics, Settings, SqlChecker};

/// Where the time comes from.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// All that the controllers know of the world.
#[derive(Clone)]
pub struct Context {
    pub client: kube::Client,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub settings: Arc<Settings>,
    pub metrics: Metrics,
    /// Where agents tell of occurrences while the controllers run.
    pub desk: Desk,
    /// Who checks SQL; none where the installation has no checker.
    pub checker: Option<Arc<dyn SqlChecker>>,
}
