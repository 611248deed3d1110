//! The agent of a namespace: what it watches, and the occurrences that it tells of.
//!
//! ```text
//! AgentOrder ──> agent ──(bucket listed, event received)──> Occurrence ──> whoever starts runs ──> OccurrenceAnswer
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Connection, SecretVariable, StoreLocation};

/// Holds an [`AgentOrder`], as [`crate::encode_agent`] writes it.
pub const AGENT_VARIABLE: &str = "PINTAIL_AGENT";
/// Names the object of the store that holds the text, where it is too long for a variable; as for work orders.
pub const AGENT_OBJECT_VARIABLE: &str = "PINTAIL_AGENT_OBJECT";
/// Audience of the token with which an agent speaks to the operator.
pub const AGENT_AUDIENCE: &str = "pintail";
/// Where the agent's pod finds that token.
pub const AGENT_TOKEN_PATH: &str = "/var/run/secrets/pintail.dev/token";
/// Where the agent takes events, `/events/<plan>/<trigger>`.
pub const AGENT_PORT: u16 = 8080;
/// Path below the operator's address that takes an [`Occurrence`] as JSON.
pub const OCCURRENCES_PATH: &str = "/v1/occurrences";
/// An occurrence as JSON is at most this long: the data of an event is part of it.
pub const OCCURRENCE_BYTES: usize = 1 << 20;

/// All that an agent watches. No secret is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentOrder {
    pub format: u32,
    pub namespace: String,
    /// Where occurrences go, without a slash at the end. Empty where the agent runs within the process that takes them.
    pub operator_url: String,
    /// Where what was seen is kept.
    pub store: StoreLocation,
    pub connections: Vec<Connection>,
    pub objects: Vec<ObjectWatch>,
    pub events: Vec<EventHook>,
}

/// Objects that are occurrences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectWatch {
    pub plan: String,
    pub trigger: String,
    /// Name of one of the order's connections: a folder or a bucket.
    pub connection: String,
    /// Pattern below its root.
    pub path: String,
    pub every_ms: u64,
    /// Objects of the first listing since this moment that are older start nothing.
    pub since: Timestamp,
    /// Whether they do all the same.
    pub from_beginning: bool,
}

/// Events that are occurrences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHook {
    pub plan: String,
    pub trigger: String,
    pub event_type: String,
    /// `None`: any.
    pub source: Option<String>,
    /// Holds the key that signs.
    pub signing_key: SecretVariable,
}

/// Something that happened and starts a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Occurrence {
    pub format: u32,
    pub namespace: String,
    pub plan: String,
    pub trigger: String,
    pub happened: Happened,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Happened {
    Object(ArrivedObject),
    Event(ReceivedEvent),
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrivedObject {
    /// Below the connection's root.
    pub path: String,
    pub uri: String,
    pub bytes: u64,
    /// Tells this content of the path from others: an entity tag, or size and time.
    pub version: String,
    pub modified_at: Timestamp,
}

/// A CloudEvent, specification 1.0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceivedEvent {
    pub id: String,
    pub source: String,
    pub event_type: String,
    pub subject: Option<String>,
    /// When it happened, as its sender says; else when it was received.
    pub time: Timestamp,
    pub data: serde_json::Value,
}

/// What became of an occurrence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OccurrenceAnswer {
    /// Its one Execution, made now or before.
    Execution { name: String },
    /// It starts nothing, now or later: why.
    Dropped { reason: String },
    /// The queue of the plan is full: tell of it again later.
    Full { reason: String },
}
