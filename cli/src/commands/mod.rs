//! One module a command.

pub mod cluster;
pub mod diff;
pub mod lineage;
pub mod lint;
pub mod list;
pub mod logs;
pub mod next;
pub mod plan;
pub mod preview;
pub mod run;
pub mod schema;
pub mod sql;
pub mod test;
pub mod trigger;
