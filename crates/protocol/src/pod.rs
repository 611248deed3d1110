//! How an order or a request reaches a pod: as one environment variable, since the kubelet rewrites `$$` and `$(NAME)` in
//! plain text, and as an object of the store where it is too long for that.

use std::io::Read as _;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{
    AgentOrder, NewerFormat, ReportOutcome, ResultColumn, StoreLocation, StoredFile, TaskReport, WorkOrder,
    check_format,
};

/// Holds the work order, as [`encode_order`] writes it.
pub const ORDER_VARIABLE: &str = "PINTAIL_WORK_ORDER";
/// A longer text of [`encode_order`] is an object of the store, named by [`ORDER_OBJECT_VARIABLE`].
pub const ORDER_VARIABLE_BYTES: usize = 8 << 10;
/// Names the object that holds the text of [`encode_order`]: `<key below the store's root>#<blake3:hex of the text>`.
pub const ORDER_OBJECT_VARIABLE: &str = "PINTAIL_WORK_ORDER_OBJECT";
/// The store of that object, as people write it: `s3://bucket/prefix`, or a folder.
pub const STORE_VARIABLE: &str = "PINTAIL_STORE";
/// Holds a [`ReadRequest`], as [`encode_request`] writes it.
pub const READ_REQUEST_VARIABLE: &str = "PINTAIL_READ_REQUEST";

/// An order is SQL and names; rows of a manifest are the largest part, and its limit is far below this.
pub const ORDER_BYTES: usize = 16 << 20;

/// What a reader pod is to show or to try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadRequest {
    pub format: u32,
    pub store: StoreLocation,
    pub read: Read,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Read {
    /// The first rows of Parquet files, or of a query over them. Answered with one [`Preview`] as JSON.
    Preview {
        files: Vec<StoredFile>,
        limit: u32,
        /// One query. `None` means all rows.
        sql: Option<String>,
        /// The name under which the query sees the files.
        table: String,
    },
    /// As `Preview`, of a table that a task of a run committed.
    Committed {
        namespace: String,
        execution_uid: String,
        task: String,
        /// Key of one of the table's files. `None` means the first table.
        file: Option<String>,
        limit: u32,
        sql: Option<String>,
        table: String,
    },
    /// Whether the store can be written, and refuses to create an object twice. Answered with nothing.
    StoreCheck {
        /// A folder that is not there yet.
        folder: String,
    },
    /// The logs of all attempts of tasks so far, oldest first. Answered with text, each line as `<task>  <line>`.
    Log { namespace: String, execution_uid: String, tasks: Vec<String> },
}

/// Rows for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    pub columns: Vec<ResultColumn>,
    /// One entry a row, one text a column; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

/// A text that should hold a document of ours and does not. Says nothing of its content, which may hold data.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("{0} is not base64url of zstd")]
    Encoding(&'static str),
    #[error("{0} has more than {ORDER_BYTES} bytes")]
    TooLarge(&'static str),
    #[error("{what} cannot be understood at line {line} column {column}")]
    Invalid { what: &'static str, line: usize, column: usize },
    #[error(transparent)]
    NewerFormat(#[from] NewerFormat),
}

/// A document that cannot be written as text.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be encoded: {cause}")]
pub struct EncodeError {
    what: &'static str,
    cause: String,
}

const ORDER: &str = "the work order";
const REQUEST: &str = "the read request";
const REPORT: &str = "the report";
const AGENT: &str = "the agent's order";

/// The order as base64url (no padding) of zstd of JSON: the same text for the same order.
///
/// # Errors
/// Where it has more than [`ORDER_BYTES`] of JSON.
pub fn encode_order(order: &WorkOrder) -> Result<String, EncodeError> {
    encode(ORDER, order)
}

/// Reads what [`encode_order`] wrote.
///
/// # Errors
/// Where it is something else, is too large, or has a newer format.
pub fn decode_order(text: &str) -> Result<WorkOrder, DecodeError> {
    parse(ORDER, &unpack(ORDER, text)?)
}

/// Reads an order from JSON.
///
/// # Errors
/// As [`decode_order`].
pub fn parse_order(json: &[u8]) -> Result<WorkOrder, DecodeError> {
    parse(ORDER, json)
}

/// The request as text, encoded as an order is.
///
/// # Errors
/// As [`encode_order`].
pub fn encode_request(request: &ReadRequest) -> Result<String, EncodeError> {
    encode(REQUEST, request)
}

/// Reads what [`encode_request`] wrote.
///
/// # Errors
/// As [`decode_order`].
pub fn decode_request(text: &str) -> Result<ReadRequest, DecodeError> {
    parse(REQUEST, &unpack(REQUEST, text)?)
}

/// The agent's order as text, encoded as an order is.
///
/// # Errors
/// As [`encode_order`].
pub fn encode_agent(order: &AgentOrder) -> Result<String, EncodeError> {
    encode(AGENT, order)
}

/// Reads what [`encode_agent`] wrote.
///
/// # Errors
/// As [`decode_order`].
pub fn decode_agent(text: &str) -> Result<AgentOrder, DecodeError> {
    parse(AGENT, &unpack(AGENT, text)?)
}

/// A committed report as text, encoded as an order is; none where it holds something of the data, which only the store may.
#[must_use]
pub fn encode_report(report: &TaskReport) -> Option<String> {
    let ReportOutcome::Succeeded(results) = &report.outcome else { return None };
    let only_names = results.values.is_empty() && results.load.is_none() && results.written.is_empty();
    only_names.then(|| encode(REPORT, report).ok()).flatten()
}

/// The bytes of a report, as the store has them, from what [`encode_report`] wrote.
///
/// # Errors
/// Where it is something else or is too large.
pub fn unpack_report(text: &str) -> Result<Vec<u8>, DecodeError> {
    unpack(REPORT, text)
}

fn encode(what: &'static str, document: &impl Serialize) -> Result<String, EncodeError> {
    let fail = |cause: String| EncodeError { what, cause };
    let json = serde_json::to_vec(document).map_err(|error| fail(error.to_string()))?;
    if json.len() > ORDER_BYTES {
        return Err(fail(format!("it has {} bytes, more than {ORDER_BYTES}", json.len())));
    }
    let packed =
        zstd::bulk::compress(&json, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(|error| fail(error.to_string()))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(packed))
}

/// Never makes more of a text than it may be: a few bytes of zstd can be gigabytes.
fn unpack(what: &'static str, text: &str) -> Result<Vec<u8>, DecodeError> {
    let encoding = || DecodeError::Encoding(what);
    let packed = BASE64_URL_SAFE_NO_PAD.decode(text.trim_ascii_end()).map_err(|_| encoding())?;
    let decoder = zstd::stream::read::Decoder::new(packed.as_slice()).map_err(|_| encoding())?;
    let mut json = Vec::new();
    decoder.take(ORDER_BYTES as u64 + 1).read_to_end(&mut json).map_err(|_| encoding())?;
    if json.len() > ORDER_BYTES { Err(DecodeError::TooLarge(what)) } else { Ok(json) }
}

/// The format first: a newer document may not even have the fields that this build wants.
fn parse<T: DeserializeOwned>(what: &'static str, json: &[u8]) -> Result<T, DecodeError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let invalid = |error: serde_json::Error| DecodeError::Invalid { what, line: error.line(), column: error.column() };
    let Format { format } = serde_json::from_slice(json).map_err(invalid)?;
    check_format(what, format)?;
    serde_json::from_slice(json).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FORMAT, Results, ValuesResult};

    fn request() -> ReadRequest {
        ReadRequest {
            format: FORMAT,
            store: StoreLocation::S3 { bucket: "lake".to_owned(), prefix: String::new() },
            read: Read::Preview {
                files: Vec::new(),
                limit: 10,
                sql: Some("SELECT '$$', '$(HOME)', 'é\n' FROM result".to_owned()),
                table: "result".to_owned(),
            },
        }
    }

    #[test]
    fn what_was_encoded_is_read_back_from_a_text_that_the_kubelet_leaves_alone() {
        let text = encode_request(&request()).unwrap();
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{text}");
        assert_eq!(decode_request(&text).unwrap(), request());
        assert_eq!(text, encode_request(&request()).unwrap());
    }

    #[test]
    fn a_report_goes_with_the_pod_unless_it_holds_something_of_the_data() {
        let mut report: TaskReport = serde_json::from_value(serde_json::json!({
            "format": FORMAT, "pod_uid": "p", "reuse_key": "", "engine": "v1", "inputs": [],
            "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:00Z",
            "identity": {
                "namespace": "data", "execution": "e", "execution_uid": "u", "execution_start": "2026-01-01T00:00:00Z",
                "workflow": "w", "revision": "w-1", "task": "t", "item": null, "attempt": 1
            },
            "outcome": { "Succeeded": { "tables": [], "values": [], "files": [], "load": null, "written": [] } }
        }))
        .unwrap();
        let text = encode_report(&report).unwrap();
        assert_eq!(unpack_report(&text).unwrap(), serde_json::to_vec(&report).unwrap());
        let values = vec![ValuesResult { name: "result".to_owned(), values: Vec::new() }];
        report.outcome = ReportOutcome::Succeeded(Results { values, ..Results::default() });
        assert_eq!(encode_report(&report), None);
    }

    #[test]
    fn a_text_that_unpacks_to_too_much_is_refused() {
        let bomb = zstd::bulk::compress(&vec![b' '; ORDER_BYTES + 1], 0).unwrap();
        assert!(bomb.len() < 10_000);
        let error = decode_order(&BASE64_URL_SAFE_NO_PAD.encode(bomb)).unwrap_err();
        assert_eq!(error, DecodeError::TooLarge("the work order"));
    }

    #[test]
    fn a_broken_text_is_told_by_where_it_breaks_and_not_by_what_it_holds() {
        for broken in ["", "%", "c2VjcmV0", "KLUv"] {
            assert!(decode_order(broken).is_err(), "{broken}");
            assert!(!decode_order(broken).unwrap_err().to_string().contains("secret"));
        }
        let pack = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(zstd::bulk::compress(json.as_bytes(), 0).unwrap());
        let newer = decode_order(&pack("{\"format\": 99, \"new\": 1}")).unwrap_err();
        assert!(matches!(newer, DecodeError::NewerFormat(_)), "{newer}");
        for broken in ["{", "", "[]", "{\"format\": 1}"] {
            let error = decode_order(&pack(broken)).unwrap_err();
            assert!(matches!(error, DecodeError::Invalid { .. }), "{error}");
        }
    }
}
