//! The pure scheduler: `advance(graph, state, events, now) -> Decision`; and what starts runs: [`triggers`].
//!
//! It knows tasks, items, attempts and time, and nothing of Kubernetes, SQL or files. Everything that a run is stands
//! in its [`RunState`]; whoever drives the engine reads the world into [`Event`]s and carries [`Action`]s out.
//!
//! ```text
//! Graph ── RunState::new ──┐                        ┌── Action ──> the driver carries it out
//!                          ├── advance ── Decision ─┤
//! RecordedState ─ restore ─┘      ^                 └── RunState ── recorded() ──> the driver keeps it
//!                                 └──── Event <── the driver sees
//! ```

mod advance;
mod graph;
mod index;
mod message;
mod phase;
mod queue;
mod readiness;
mod retry;
mod state;
#[cfg(test)]
mod tests;
pub mod triggers;

pub use advance::advance;
pub use graph::*;
pub use message::*;
pub use phase::{Phase, SkipReason, StopReason};
pub use readiness::{Readiness, WaitingOn};
pub use retry::{BUSY_BACKOFF, INFRASTRUCTURE_BACKOFF, INFRASTRUCTURE_RETRY_LIMIT};
pub use state::{Counts, ITEM_LIMIT, RecordedState, RestoreError, RunState, TaskSummary};
pub use triggers::{Admission, CatchUp, Due, Member, RunStage, Schedule, ScheduleError, Tick, WhenFull, admit, due};
