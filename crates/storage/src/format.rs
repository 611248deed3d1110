use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{PutOnce, Store, StoreError, StoreErrorClass, layout};

/// Format of the layout that this build reads and writes.
const STORE_FORMAT: u32 = pintail_protocol::of_build(1);

/// A format mark is tiny; more is something else.
const MARK_BYTES: usize = 4096;

/// `_format`: what the store's layout is.
#[derive(Serialize, Deserialize)]
struct Mark {
    format: u32,
}

/// Marks a store that is new, and refuses one that a newer build made.
pub(crate) async fn claim(store: &Store) -> Result<(), StoreError> {
    let key = layout::FORMAT_KEY;
    let bytes = match store.get(key, MARK_BYTES).await? {
        Some(bytes) => bytes,
        None => {
            let mark = Bytes::from(format!("{{\"format\":{STORE_FORMAT}}}\n"));
            match store.put_once(key, mark.clone()).await? {
                PutOnce::Created => mark,
                PutOnce::Exists => store.get(key, MARK_BYTES).await?.unwrap_or(mark),
            }
        }
    };
    let mark: Mark = serde_json::from_slice(&bytes).map_err(|error| {
        let cause = format!("it is not the format mark of a store ({error})");
        StoreError::new(StoreErrorClass::Corrupt, "read", store.uri(key), cause)
    })?;
    if mark.format > STORE_FORMAT {
        let cause = format!(
            "the store has format {}, but this build reads formats up to {STORE_FORMAT}: use a newer Pintail",
            mark.format
        );
        return Err(StoreError::new(StoreErrorClass::NewerFormat, "open", store.uri(""), cause));
    }
    Ok(())
}
