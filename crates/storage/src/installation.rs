use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{PutOnce, Store, StoreError, StoreErrorClass, layout};

/// A claim is tiny; more is something else.
const CLAIM_BYTES: usize = 4096;

/// Whose operator works in a store: two would sweep each other's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installation {
    Ours,
    /// The uid of the cluster that claimed it.
    Other(String),
}

/// `_installation`: the cluster that claimed the store.
#[derive(Serialize, Deserialize)]
struct Claim {
    cluster: String,
}

impl Store {
    /// Claims the store for a cluster, unless one has already. `cluster_uid` is the uid of its namespace `kube-system`.
    ///
    /// # Errors
    /// Where the claim can neither be read nor written.
    pub async fn claim_installation(&self, cluster_uid: &str) -> Result<Installation, StoreError> {
        let key = layout::INSTALLATION_KEY;
        let corrupt = |cause: String| StoreError::new(StoreErrorClass::Corrupt, "read", self.uri(key), cause);
        let ours = Claim { cluster: cluster_uid.to_owned() };
        let bytes = match self.get(key, CLAIM_BYTES).await? {
            Some(bytes) => bytes,
            None => {
                let claim = serde_json::to_vec(&ours).map_err(|error| corrupt(error.to_string()))?;
                match self.put_once(key, Bytes::from(claim.clone())).await? {
                    PutOnce::Created => return Ok(Installation::Ours),
                    PutOnce::Exists => self.get(key, CLAIM_BYTES).await?.unwrap_or(claim.into()),
                }
            }
        };
        let found: Claim = serde_json::from_slice(&bytes)
            .map_err(|error| corrupt(format!("it is not the claim of an installation ({error})")))?;
        Ok(if found.cluster == cluster_uid { Installation::Ours } else { Installation::Other(found.cluster) })
    }
}
