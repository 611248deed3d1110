//! The validating webhook: `POST /validate` over TLS with an AdmissionReview of Kubernetes.
//!
//! Whatever goes wrong here, the object is let through: the API server ignores a webhook that fails, and the operator says
//! the same in the object's status, later.

mod certificate;
mod server;

pub use certificate::{Certificate, watch_certificate};
pub use server::serve;
