//! Orders that are too long for the environment of their pod.

use bytes::Bytes;
use pintail_protocol::ORDER_BYTES;

use crate::{Store, StoreError, StoreErrorClass, digest, layout};

impl Store {
    /// Stores the text of an order and gives its name, as a pod's environment has it: `<key>#<blake3:hex>`. Again, for
    /// the same text, it gives the same name.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn put_order(&self, namespace: &str, execution_uid: &str, text: String) -> Result<String, StoreError> {
        let digest = digest(text.as_bytes());
        self.put_text(layout::order(namespace, execution_uid, &digest)?, digest, text).await
    }

    /// As [`Store::put_order`], of an agent.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn put_agent_order(&self, namespace: &str, text: String) -> Result<String, StoreError> {
        let digest = digest(text.as_bytes());
        self.put_text(layout::agent_order(namespace, &digest)?, digest, text).await
    }

    async fn put_text(&self, key: String, digest: String, text: String) -> Result<String, StoreError> {
        self.put_once(&key, Bytes::from(text)).await?;
        Ok(format!("{key}#{digest}"))
    }

    /// Reads the text that `name` names, exactly as it was stored.
    ///
    /// # Errors
    /// Class `Invalid` where `name` is no such name, `NotFound` where there is no object, `Corrupt` where it has changed.
    pub async fn read_order(&self, name: &str) -> Result<String, StoreError> {
        let (key, expected) = name.split_once('#').unwrap_or((name, ""));
        let fail = |class, cause: String| StoreError::new(class, "read", self.uri(key), cause);
        if !expected.starts_with("blake3:") {
            return Err(fail(StoreErrorClass::Invalid, "its name holds no digest after a `#`".to_owned()));
        }
        let Some(bytes) = self.get(key, ORDER_BYTES).await? else {
            return Err(fail(StoreErrorClass::NotFound, "there is no such object".to_owned()));
        };
        let found = digest(&bytes);
        if found != expected {
            let cause = format!("its content has digest {found}, but {expected} was recorded");
            return Err(fail(StoreErrorClass::Corrupt, cause));
        }
        String::from_utf8(bytes.into()).map_err(|error| fail(StoreErrorClass::Corrupt, error.to_string()))
    }
}
