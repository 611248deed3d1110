//! Manifest to [`Plan`]: the only validator. Pure: text and objects in, a plan or every problem out.
//!
//! ```text
//! text ─ manifest::parse ─> documents with positions ─ structure (the CRD's own schema) ─> typed objects
//!                                                                                             │
//!                         Plan <─ compile: names, references, types, expressions, cycles ─────┘
//! ```

mod cluster;
mod compile;
mod data_type;
pub mod expression;
#[cfg(test)]
mod fuzz;
mod input;
mod launch;
pub mod manifest;
mod model;
mod problem;
mod quantity;
mod rule;
mod workflow_test;

pub use cluster::{check_connection_on_cluster, check_execution, check_inputs_on_cluster, check_workflow_on_cluster};
pub use compile::{check_connection, compile, compile_inputs};
pub use input::{bind_inputs, bind_planned, parse_input_text};
pub use launch::{
    LaunchSurroundings, PlannedConcurrency, PlannedDataset, PlannedHistory, PlannedLaunch, PlannedTrigger,
    REFUSE_AGAIN_FOR, TriggerOn, TriggerValue, check_launch_plan, compile_launch_plan, inputs_of, is_started_by,
    trigger_cycle,
};
pub use model::*;
pub use problem::{FieldPath, Located, Problem, Segment, nearest};
pub use quantity::duration as parse_duration;
pub use rule::Rule;
pub use workflow_test::{PlannedTable, PlannedTest, check_expected_rows, compile_test};
