//! The wall clock of a simulation: it goes with tokio's paused time.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Noon of some day: nothing in a test may depend on when it runs.
const START_SECONDS: i64 = 1_795_521_600;

#[derive(Clone, Copy, Debug)]
pub struct SimulatedClock {
    origin: Instant,
}

impl SimulatedClock {
    /// Starts now. Within a runtime only.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub fn timestamp(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.origin.elapsed()).unwrap();
        Timestamp::from_second(START_SECONDS).unwrap() + passed
    }
}

impl pintail_operator::Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.timestamp()
    }
}
