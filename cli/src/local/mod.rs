//! Runs without a cluster: the same plan, engine and runner, with processes for pods and a store for the API server.

pub mod by_hand;
pub mod driver;
pub mod lock;
pub mod notify;
pub mod plans;
pub mod process;
pub mod records;
pub mod start;
pub mod waiting;
