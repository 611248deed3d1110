//! Markers: which Execution an occurrence has started. They outlive their Executions, and refuse a second.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{PutOnce, Store, StoreError, StoreErrorClass};

const FORMAT: u32 = 1;
/// A marker holds the name of an object of another store at most, of 2 KiB.
const MARKER_BYTES: usize = 64 << 10;

/// `<namespace>/triggers/<plan>/<trigger>/<occurrence>`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    format: u32,
    /// Name of the Execution; empty where the marker is damaged.
    pub execution: String,
    /// Its uid.
    pub uid: String,
    /// For people: the name of the object is a digest of it.
    pub occurrence: String,
}

impl Marker {
    #[must_use]
    pub fn new(execution: &str, uid: &str, occurrence: &str) -> Self {
        Self { format: FORMAT, execution: execution.to_owned(), uid: uid.to_owned(), occurrence: occurrence.to_owned() }
    }
}

impl Store {
    /// Claims an occurrence for the Execution of the marker. False where another has it. `key` comes from
    /// [`crate::layout::trigger_marker`].
    ///
    /// # Errors
    /// Where the marker can neither be read nor written.
    pub async fn claim_occurrence(&self, key: &str, marker: &Marker) -> Result<bool, StoreError> {
        match self.put_once(key, self.text_of(key, marker)?).await? {
            PutOnce::Created => Ok(true),
            // It may be this Execution's own, written before a restart.
            PutOnce::Exists => Ok(self.marker(key).await?.is_none_or(|found| found.uid == marker.uid)),
        }
    }

    /// As [`Store::claim_occurrence`]; where the Execution has the occurrence, the marker is as new as if written now.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn renew_occurrence(&self, key: &str, marker: &Marker) -> Result<(), StoreError> {
        let text = self.text_of(key, marker)?;
        if self.put_once(key, text.clone()).await? == PutOnce::Exists
            && self.marker(key).await?.is_some_and(|found| found.uid == marker.uid)
        {
            self.put(key, text).await?;
        }
        Ok(())
    }

    fn text_of(&self, key: &str, marker: &Marker) -> Result<Bytes, StoreError> {
        let text = serde_json::to_vec(marker);
        text.map(Bytes::from)
            .map_err(|error| StoreError::new(StoreErrorClass::Invalid, "write", self.uri(key), error.to_string()))
    }

    /// The marker of an occurrence that has started an Execution.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn marker(&self, key: &str) -> Result<Option<Marker>, StoreError> {
        // One that is damaged still says that there was one.
        let decode = |bytes: Bytes| serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(self.get(key, MARKER_BYTES).await?.map(decode))
    }
}
