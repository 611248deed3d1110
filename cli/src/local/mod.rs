//! Runs without a cluster: the same plan, engine and runner, with processes for pods and a store for the API server.

pub mod driver;
pub mod lock;
#[cfg_attr(not(test), expect(dead_code, reason = "`pintail serve` calls it"))]
pub mod notify;
pub mod process;
pub mod records;
pub mod start;
