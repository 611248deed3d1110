//! What the operator and `pintail run` share between the engine and the world: from a decision to a work order, from a
//! report to facts, from the state to a status. Pure: whoever drives a [`Run`] does the reading and the writing.
//!
//! ```text
//! Seen ──> Run::step ──> Command (Start with its whole WorkOrder, Stop, Finish)
//!              │
//!              ├── Run::record   what must be stored before a command is carried out
//!              └── Run::status   what people see
//! ```

mod artifact;
mod check;
mod connection;
mod contract;
mod given;
mod input;
pub mod launch;
mod lineage;
#[cfg(test)]
mod lineage_tests;
mod name;
mod order;
mod record;
mod run;
mod scope;
mod sensitive;
mod status;
#[cfg(test)]
mod tests;

pub use artifact::{newest_artifact, version_of};
pub use check::{Datasets, Judgement, check_request, dataset_of, judge, placed, published};
pub use connection::{ConnectionError, VOLUMES, connection_target};
pub use contract::{
    ColumnChange, DatasetChange, Publisher, Publishers, Reader, breaks_contract, broken_readers, dataset_changes,
    publishers, readers, version_shape,
};
pub use given::given_relation;
pub use input::{BoundInput, BoundSource, bound_from_resolved, resolved_from_bound};
pub use lineage::MASKING;
pub use name::{artifact_name, execution_name, label_digest, message_id, occurrence_name, pod_name, sql_name};
pub use record::{RecordError, RunRecord, TaskRecord};
pub use run::{Command, CommittedReport, Connections, Reusable, Run, RunContext, Seen};
pub use scope::MAIN_RESULT;
pub use sensitive::table_text;
