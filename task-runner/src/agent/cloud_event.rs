//! CloudEvents 1.0 as HTTP carries them.

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use pintail_protocol::ReceivedEvent;
use serde_json::{Map, Value};

/// They go into names, conditions and expressions; the specification asks receivers to take 2048 bytes of a URI.
const ATTRIBUTE_BYTES: usize = 2048;

const JSON: &str = "application/json";
const STRUCTURED: &str = "application/cloudevents+json";
/// Of content types that hold one event or several.
const EVENTS: &str = "application/cloudevents";

/// Why a body is no event, and the status that says so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoEvent {
    pub status: StatusCode,
    pub reason: String,
}

fn bad(reason: impl Into<String>) -> NoEvent {
    NoEvent { status: StatusCode::BAD_REQUEST, reason: reason.into() }
}

fn unsupported(reason: impl Into<String>) -> NoEvent {
    NoEvent { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, reason: reason.into() }
}

/// Whether the attributes of an event stand in headers, `ce-…`.
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    !content_type(headers).starts_with(EVENTS)
}

/// Reads the event of a request that was received at `now`.
///
/// # Errors
/// What is wrong with it, without its content.
pub(super) fn read(headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<ReceivedEvent, NoEvent> {
    let media_type = content_type(headers);
    match media_type.as_str() {
        STRUCTURED => structured(body, now),
        other if other.starts_with("application/cloudevents-batch") => {
            Err(unsupported("a request holds one event: send each event of a batch by itself"))
        }
        other if other.starts_with(EVENTS) => {
            Err(unsupported(format!("of structured events, {STRUCTURED} is understood, not {other}")))
        }
        _ => binary(headers, &media_type, body, now),
    }
}

fn binary(headers: &HeaderMap, media_type: &str, body: &[u8], now: Timestamp) -> Result<ReceivedEvent, NoEvent> {
    let attribute = |name: &str| -> Result<Option<String>, NoEvent> {
        let Some(value) = headers.get(format!("ce-{name}")) else { return Ok(None) };
        let text = value.to_str().map_err(|_| bad(format!("the header ce-{name} is not ASCII: percent-encode it")))?;
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
        Ok(Some(decoded.map_err(|_| bad(format!("the header ce-{name} is not UTF-8")))?.into_owned()))
    };
    let data = data(media_type, body)?;
    event(&attribute, |name| format!("the header ce-{name}"), data, now)
}

fn structured(body: &[u8], now: Timestamp) -> Result<ReceivedEvent, NoEvent> {
    let mut fields: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| bad(format!("the body is not a JSON object: {}", place(&error))))?;
    let data = match (fields.remove("data"), fields.remove("data_base64")) {
        (Some(_), Some(_)) => return Err(bad("the event has data and data_base64: give one of them")),
        (Some(data), None) => data,
        (None, Some(Value::String(encoded))) => {
            let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| bad("data_base64 is not base64"))?;
            let media_type = fields.get("datacontenttype").and_then(Value::as_str).unwrap_or(JSON);
            self::data(&essence(media_type), &bytes)?
        }
        (None, Some(_)) => return Err(bad("data_base64 is not a text")),
        (None, None) => Value::Null,
    };
    let attribute = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(bad(format!("the attribute {name} is not a text"))),
    };
    event(&attribute, |name| format!("the attribute {name}"), data, now)
}

fn event(
    attribute: &dyn Fn(&str) -> Result<Option<String>, NoEvent>,
    shown: impl Fn(&str) -> String,
    data: Value,
    now: Timestamp,
) -> Result<ReceivedEvent, NoEvent> {
    let optional = |name: &str| -> Result<Option<String>, NoEvent> {
        match attribute(name)? {
            Some(text) if text.is_empty() => Err(bad(format!("{} is empty", shown(name)))),
            Some(text) if text.len() > ATTRIBUTE_BYTES => {
                Err(bad(format!("{} has more than {ATTRIBUTE_BYTES} bytes", shown(name))))
            }
            Some(text) if text.chars().any(char::is_control) => {
                Err(bad(format!("{} has a control character", shown(name))))
            }
            other => Ok(other),
        }
    };
    let required = |name: &str| optional(name)?.ok_or_else(|| bad(format!("{} is missing", shown(name))));
    if required("specversion")? != "1.0" {
        return Err(bad(format!("{} is not 1.0, the one that is understood", shown("specversion"))));
    }
    let time = match optional("time")? {
        Some(text) => text.parse().map_err(|_| bad(format!("{} is not a time as RFC 3339 has it", shown("time"))))?,
        None => now,
    };
    Ok(ReceivedEvent {
        id: required("id")?,
        source: required("source")?,
        event_type: required("type")?,
        subject: optional("subject")?,
        time,
        data,
    })
}

/// JSON as it is, text as a JSON string, nothing as null.
fn data(media_type: &str, bytes: &[u8]) -> Result<Value, NoEvent> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    if media_type == JSON || media_type.ends_with("+json") {
        return serde_json::from_slice(bytes).map_err(|error| bad(format!("the data is not JSON: {}", place(&error))));
    }
    if media_type.starts_with("text/") {
        let text = std::str::from_utf8(bytes).map_err(|_| bad("the data is not UTF-8"))?;
        return Ok(Value::String(text.to_owned()));
    }
    let shown = if media_type.is_empty() { "no content type" } else { media_type };
    Err(unsupported(format!("the data is JSON (content type {JSON}) or text (text/…), and this has {shown}")))
}

/// Where JSON breaks, without what stands there.
fn place(error: &serde_json::Error) -> String {
    format!("it breaks at line {} column {}", error.line(), error.column())
}

fn content_type(headers: &HeaderMap) -> String {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(essence).unwrap_or_default()
}

/// A content type without its parameters.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn read_with(headers: &[(&str, &str)], body: &str) -> Result<ReceivedEvent, NoEvent> {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let headers = HeaderMap::try_from(&headers.into_iter().collect::<std::collections::HashMap<_, _>>()).unwrap();
        read(&headers, body.as_bytes(), now())
    }

    const BINARY: [(&str, &str); 5] = [
        ("ce-specversion", "1.0"),
        ("ce-id", "7"),
        ("ce-source", "/shop"),
        ("ce-type", "com.example.order.created"),
        ("content-type", "application/json; charset=utf-8"),
    ];

    fn in_structure(body: &Value) -> Result<ReceivedEvent, NoEvent> {
        read_with(&[("content-type", "application/cloudevents+json; charset=UTF-8")], &body.to_string())
    }

    fn expected(data: Value) -> ReceivedEvent {
        ReceivedEvent {
            id: "7".to_owned(),
            source: "/shop".to_owned(),
            event_type: "com.example.order.created".to_owned(),
            subject: None,
            time: now(),
            data,
        }
    }

    #[test]
    fn an_event_is_the_same_in_both_modes() {
        let binary = read_with(&BINARY, "{\"order\":7}").unwrap();
        assert_eq!(binary, expected(json!({ "order": 7 })));
        let body = json!({
            "specversion": "1.0", "id": "7", "source": "/shop", "type": "com.example.order.created",
            "data": { "order": 7 }, "datacontenttype": "application/json", "other": 3,
        });
        assert_eq!(in_structure(&body).unwrap(), binary);
    }

    #[test]
    fn time_subject_and_encoded_headers_are_read() {
        let mut headers = BINARY.to_vec();
        headers.extend([("ce-time", "2026-05-01T12:00:00+02:00"), ("ce-subject", "caf%C3%A9 %22x%22")]);
        let event = read_with(&headers, "").unwrap();
        assert_eq!(event.time, "2026-05-01T10:00:00Z".parse().unwrap());
        assert_eq!(event.subject.as_deref(), Some("café \"x\""));
        assert_eq!(event.data, Value::Null);
    }

    #[test]
    fn text_is_data_too_and_base64_is_what_it_encodes() {
        let mut headers = BINARY;
        headers[4].1 = "text/plain";
        assert_eq!(read_with(&headers, "hello").unwrap().data, json!("hello"));
        let body = |media_type: &str, encoded: &str| {
            json!({
                "specversion": "1.0", "id": "7", "source": "/shop", "type": "com.example.order.created",
                "datacontenttype": media_type, "data_base64": encoded,
            })
        };
        assert_eq!(in_structure(&body("application/json", "eyJhIjoxfQ==")).unwrap().data, json!({ "a": 1 }));
        assert_eq!(in_structure(&body("text/csv", "YSxi")).unwrap().data, json!("a,b"));
        assert_eq!(in_structure(&body("image/png", "YSxi")).unwrap_err().status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_reason() {
        let with = |name: &'static str, value: &'static str| {
            BINARY.iter().map(|pair| if pair.0 == name { (name, value) } else { *pair }).collect::<Vec<_>>()
        };
        let without = |name: &str| BINARY.iter().filter(|pair| pair.0 != name).copied().collect::<Vec<_>>();
        for (headers, body, status, part) in [
            (without("ce-id"), "{}", 400, "ce-id is missing"),
            (without("ce-specversion"), "{}", 400, "ce-specversion is missing"),
            (with("ce-specversion", "0.3"), "{}", 400, "is not 1.0"),
            (with("ce-source", ""), "{}", 400, "ce-source is empty"),
            (with("ce-source", "%0A"), "{}", 400, "control character"),
            (with("ce-type", "%ff"), "{}", 400, "not UTF-8"),
            (with("content-type", "application/json"), "{canary", 400, "line 1 column 2"),
            (with("content-type", "application/x-www-form-urlencoded"), "a=1", 415, "application/json"),
            (without("content-type"), "canary", 415, "no content type"),
            (with("content-type", "application/cloudevents-batch+json"), "[]", 415, "by itself"),
            (with("content-type", "application/cloudevents+avro"), "", 415, "application/cloudevents+json"),
            (with("content-type", "application/cloudevents+json"), "[1]", 400, "not a JSON object"),
            (with("content-type", "application/cloudevents+json"), "{\"specversion\":\"1.0\"}", 400, "id is missing"),
            (
                with("content-type", "application/cloudevents+json"),
                "{\"specversion\":\"1.0\",\"id\":7}",
                400,
                "id is not a text",
            ),
        ] {
            let no_event = read_with(&headers, body).unwrap_err();
            assert_eq!(no_event.status.as_u16(), status, "{no_event:?}");
            assert!(no_event.reason.contains(part) && !no_event.reason.contains("canary"), "{no_event:?}");
        }
    }
}
