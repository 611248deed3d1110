use std::path::Path;

use pintail_protocol::StoreLocation;

use crate::{StoreError, StoreErrorClass};

/// Reads a store's location as people write it: `s3://bucket/prefix`, or a folder. A relative folder counts from the
/// current one.
///
/// # Errors
/// Class `Invalid` for an empty text, a URL of another kind, or a bucket or prefix that cannot be one.
pub fn parse_location(text: &str) -> Result<StoreLocation, StoreError> {
    let invalid = |cause: &str| StoreError::new(StoreErrorClass::Invalid, "use", format!("store {text:?}"), cause);
    if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        if bucket.is_empty() || bucket.contains(['@', ':', '?']) {
            return Err(invalid("after s3:// comes the name of a bucket; credentials come from the environment"));
        }
        if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(invalid("its prefix has an empty part, `.` or `..`"));
        }
        return Ok(StoreLocation::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
    }
    if text.contains("://") {
        return Err(invalid("a store is a folder or s3://bucket/prefix"));
    }
    let path = std::path::absolute(Path::new(text)).map_err(|error| invalid(&error.to_string()))?;
    match path.to_str() {
        Some(path) => Ok(StoreLocation::Folder { path: path.to_owned() }),
        None => Err(invalid("its path is not UTF-8")),
    }
}
