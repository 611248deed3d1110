//! Manifest to [`Plan`]: the only validator. Pure: text and objects in, a plan or every problem out.
//!
//! ```text
//! text ─ manifest::parse ─> documents with positions ─ structure (the CRD's own schema) ─> typed objects
//!                                                                                             │
//!                         Plan <─ compile: names, references, types, expressions, cycles ─────┘
//! ```

pub mod expression;
mod model;

pub use model::*;
