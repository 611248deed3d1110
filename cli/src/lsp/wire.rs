//! Messages as they go over stdin and stdout: JSON-RPC behind a header with its length.

use std::io::{BufRead, Read, Write};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A message may not be larger: it holds at most the text of one file.
const MESSAGE_BYTES: u64 = 64 << 20;
const HEADER_BYTES: u64 = 4096;

/// What a client sends. Answers to our own requests have no method.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Incoming {
    /// Only of a request.
    pub id: Option<Value>,
    pub method: Option<String>,
    pub params: Value,
}

/// Why a request is not answered.
#[derive(Debug)]
pub struct Refusal {
    pub code: i32,
    pub message: String,
}

impl Refusal {
    pub const PARSE_ERROR: i32 = -32700;
    pub const INVALID_REQUEST: i32 = -32600;
    pub const METHOD_NOT_FOUND: i32 = -32601;
    pub const INVALID_PARAMETERS: i32 = -32602;
    pub const INTERNAL_ERROR: i32 = -32603;
    pub const NOT_INITIALIZED: i32 = -32002;

    pub fn new(code: i32, message: impl ToString) -> Self {
        Self { code, message: message.to_string() }
    }
}

/// The next message; a refusal where it cannot be read, and the one behind it can; `None` at the end.
pub fn read(input: &mut impl BufRead) -> std::io::Result<Option<Result<Incoming, Refusal>>> {
    let mut length = None;
    loop {
        let mut line = Vec::new();
        if input.by_ref().take(HEADER_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line);
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<u64>().ok();
        } else if line.trim().is_empty() {
            break;
        }
    }
    let Some(length) = length else {
        return Ok(Some(Err(Refusal::new(Refusal::PARSE_ERROR, "a message has no Content-Length"))));
    };
    if length > MESSAGE_BYTES {
        std::io::copy(&mut input.take(length), &mut std::io::sink())?;
        let message = format!("the message has {length} bytes; at most {MESSAGE_BYTES} are read");
        return Ok(Some(Err(Refusal::new(Refusal::INVALID_REQUEST, message))));
    }
    let mut body = Vec::new();
    if input.take(length).read_to_end(&mut body)? as u64 != length {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&body).map_err(|error| Refusal::new(Refusal::PARSE_ERROR, error))))
}

/// The way to the client, for every thread.
pub struct Client(Mutex<Box<dyn Write + Send>>);

impl Client {
    pub fn new(output: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(output)))
    }

    pub fn notify(&self, method: &str, parameters: &impl Serialize) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": parameters }));
    }

    /// Asks for something whose answer is not waited for.
    pub fn request(&self, id: &str, method: &str, parameters: &impl Serialize) {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": parameters }));
    }

    pub fn answer(&self, id: &Value, answer: Result<Value, Refusal>) {
        self.send(&match answer {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(Refusal { code, message }) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
            }
        });
    }

    fn send(&self, message: &Value) {
        let body = message.to_string();
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that reads no more closes our input as well, and that ends us.
        let _ = write!(output, "Content-Length: {}\r\n\r\n{body}", body.len()).and_then(|()| output.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_refused_and_the_next_message_is_read() {
        let good = "{\"method\":\"exit\"}";
        let text =
            format!("garbage\r\n\r\nContent-Length: 3\r\n\r\n{{{{{{content-length: {}\r\n\r\n{good}", good.len());
        let mut input = text.as_bytes();
        for _ in 0..2 {
            let refusal = read(&mut input).unwrap().unwrap().unwrap_err();
            assert_eq!(refusal.code, Refusal::PARSE_ERROR);
        }
        assert_eq!(read(&mut input).unwrap().unwrap().unwrap().method.as_deref(), Some("exit"));
        assert!(read(&mut input).unwrap().is_none());
    }
}
