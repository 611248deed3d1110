//! What starts runs: the ticks of a schedule, and who may run when a plan allows only some at once.
//!
//! Decisions are functions of values here too. The clock, the name of an occurrence and the status of a plan belong to
//! whoever calls.

mod admission;
mod cron;
mod due;
mod schedule;
#[cfg(test)]
mod tests;
mod zone;

pub use admission::{Admission, Member, RunStage, WhenFull, admit};
pub use due::{CATCH_UP_MAX, CatchUp, DROPPED_COUNT_MAX, Due, GRACE, Tick, due};
pub use schedule::{Schedule, ScheduleError};
