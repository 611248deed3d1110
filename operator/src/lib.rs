//! The controllers of Pintail: every reconcile observes, plans, advances and performs, and is a recovery.
//!
//! ```text
//! watch events, task reports ─ observe ─> facts ─ pintail-execution ─> commands, status ─ perform ─> pods, objects
//! ```
//!
//! Clock, randomness, Kubernetes client and store come in as arguments ([`Context`]), so that all of it also runs against
//! an API server and a store in memory.

pub mod admission;
pub mod agents;
mod checker;
mod context;
mod controllers;
pub mod http;
pub mod lease;
pub mod logging;
mod metrics;
pub mod process;
mod requests;
mod settings;
mod token;

pub use checker::{HttpChecker, SqlChecker, Unchecked};
pub use context::{Clock, Context, SystemClock};
pub use controllers::{Admission, Desk, OperatorError, Refused, Review, Teller, run_controllers};
pub use metrics::{Metrics, Reconciled};
pub use requests::CountRequests;
pub use settings::{
    AdmissionSettings, AgentSettings, CheckerSettings, RunnerSettings, Scope, Settings, SettingsError, StoreSettings,
};
