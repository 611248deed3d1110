//! What of a run is stored between two looks at it: the encoded `status.state`.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use pintail_api as api;
use pintail_engine::RecordedState;
use pintail_protocol::{FORMAT, FileIdentity, NewerFormat, check_format};
use serde::{Deserialize, Serialize};

/// Everything that a driver needs, beside the pinned inputs, to go on with a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub format: u32,
    pub engine: RecordedState,
    /// By task name: where its committed report is, and when it ran.
    pub tasks: BTreeMap<String, TaskRecord>,
    pub failures: Vec<api::TaskFailure>,
    /// By input name: the files that the first attempt found.
    pub pins: BTreeMap<String, Vec<FileIdentity>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Key of the committed report below the store's root.
    pub report: Option<String>,
    /// Its digest.
    pub digest: Option<String>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Since when every attempt has found a database locked by others.
    #[serde(default)]
    pub busy_since: Option<Timestamp>,
    /// The Execution whose result was taken over.
    pub reused_from: Option<String>,
}

/// A stored state that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    NewerFormat(#[from] NewerFormat),
    #[error("the recorded state of the run cannot be read: {0}")]
    Broken(String),
    /// Names and versions of the files that the run reads are most of it.
    #[error(
        "the state of the run has {0} bytes, and at most {STATE_BYTES} can be recorded: read fewer files, for example \
         by folders of their own or as Parquet made of many"
    )]
    TooLarge(usize),
}

/// `status.state` is never longer: the object must stay well below the API server's limit.
const STATE_BYTES: usize = 256 * 1024;
/// What a state may unpack to: a hundredfold is far beyond what task records compress to.
const UNPACKED_BYTES: u64 = 64 << 20;

impl RunRecord {
    /// As text for `status.state`: base64 of zstd of JSON.
    ///
    /// # Errors
    /// Where it is larger than `status.state` may be.
    pub fn encode(&self) -> Result<String, RecordError> {
        let broken = |error: &dyn std::fmt::Display| RecordError::Broken(error.to_string());
        let json = serde_json::to_vec(self).map_err(|error| broken(&error))?;
        let packed = zstd::bulk::compress(&json, 3).map_err(|error| broken(&error))?;
        let text = STANDARD.encode(packed);
        if text.len() > STATE_BYTES {
            return Err(RecordError::TooLarge(text.len()));
        }
        Ok(text)
    }

    /// Reads `status.state` back.
    ///
    /// # Errors
    /// A newer format, or text that no build wrote.
    pub fn decode(text: &str) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let broken = |error: &dyn std::fmt::Display| RecordError::Broken(error.to_string());
        let packed = STANDARD.decode(text).map_err(|error| broken(&error))?;
        let decoder = zstd::stream::read::Decoder::new(packed.as_slice()).map_err(|error| broken(&error))?;
        let mut json = Vec::new();
        decoder.take(UNPACKED_BYTES).read_to_end(&mut json).map_err(|error| broken(&error))?;
        let format: Format = serde_json::from_slice(&json).map_err(|error| broken(&error))?;
        check_format("the recorded state of the run", format.format)?;
        let record: Self = serde_json::from_slice(&json).map_err(|error| broken(&error))?;
        // From here on it is a record of this build.
        Ok(Self { format: FORMAT, ..record })
    }

    pub(crate) fn new(engine: RecordedState) -> Self {
        Self { format: FORMAT, engine, tasks: BTreeMap::new(), failures: Vec::new(), pins: BTreeMap::new() }
    }
}
