//! Checks the SQL of others over HTTP: `POST /v1/check` with a [`CheckRequest`](pintail_protocol::CheckRequest) as JSON.
//!
//! ```text
//! request ─> server (no DuckDB in it) ─> worker: a process of its own, one check at a time ─> response
//!                      └── ends a worker that takes too long, and starts another after one that is gone
//! ```
//!
//! | Status | Body | Meaning |
//! |---|---|---|
//! | 200 | a [`CheckResponse`](pintail_protocol::CheckResponse) as JSON | what was found |
//! | 400, 413 | why | not understood, or too long |
//! | 422 | why | this SQL cannot be checked: the check took too long or too much memory |
//! | 503 | why | others are being checked: to be asked again |
//! | 504 | why | the check got no time to run: to be asked again, the later the more often that was so |
//!
//! SQL is hostile here. A worker has no environment, and once it has started, no right to open anything: the system gives it
//! no more handles, so that there is nothing to read, to write or to send by, whatever DuckDB could be brought to do.

mod server;
mod worker;

pub use server::serve_checks;
pub use worker::work;
