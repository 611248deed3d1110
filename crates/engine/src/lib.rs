//! The pure scheduler: `advance(graph, state, events, now) -> Decision`.
//!
//! It knows tasks, items, attempts and time, and nothing of Kubernetes, SQL or files. Everything that a run is stands
//! in its [`RunState`]; whoever drives the engine reads the world into [`Event`]s and carries [`Action`]s out.

mod graph;
mod state;

pub use graph::*;
pub use state::*;
