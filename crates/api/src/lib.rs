//! The kinds of group `pintail.dev`, version `v1alpha1`: what people write and what Pintail reports.
//!
//! ```text
//! LaunchPlan ──starts──> Execution ──records──> Artifact ──starts──> LaunchPlan
//!                            │ runs                └──bound by──> Workflow inputs
//!                         Workflow ──names──> Connection
//! ```
//!
//! WorkflowTest, which only `pintail test` reads, tests a Workflow.
//!
//! Types and their schemas only. Whether a manifest makes sense is decided by `pintail-plan`.

#![allow(clippy::duplicated_attributes, reason = "kube's `printcolumn` stands once a column")]

mod artifact;
mod common;
mod condition;
mod connection;
mod definition;
mod execution;
mod launch_plan;
#[cfg(test)]
mod tests;
mod workflow;
mod workflow_test;

pub use artifact::*;
pub use common::*;
pub use condition::*;
pub use connection::*;
pub use definition::definitions;
pub use execution::*;
pub use launch_plan::*;
pub use workflow::*;
pub use workflow_test::*;

/// API group of every kind.
pub const GROUP: &str = "pintail.dev";
/// The one served version.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of every kind.
pub const API_VERSION: &str = "pintail.dev/v1alpha1";
