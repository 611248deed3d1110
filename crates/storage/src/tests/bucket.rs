use std::io::{Read, Write};
use std::net::TcpListener;

use super::server::{bucket_location, endpoint, variables};
use crate::{Store, StoreError, StoreErrorClass};

async fn refusal(endpoint: &str) -> StoreError {
    let error = Store::open_with(&bucket_location("no-such-bucket"), &variables(endpoint)).await.unwrap_err();
    for secret in ["key-of-tests", "secret-of-tests"] {
        assert!(!error.to_string().contains(secret), "{error}");
    }
    assert!(error.to_string().contains("s3://no-such-bucket/team/pintail/_format"), "{error}");
    error
}

/// Answers every request with the same words.
fn server_that_answers(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 16 << 10]).unwrap();
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_missing_bucket_is_named() {
    let error = refusal(endpoint()).await;
    assert_eq!(error.class(), StoreErrorClass::NotFound);
    assert!(error.to_string().contains("has no such bucket"), "{error}");
}

#[tokio::test]
async fn an_unreachable_bucket_names_the_server() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = refusal(&format!("http://{free}")).await;
    assert_eq!(error.class(), StoreErrorClass::Unreachable);
    assert!(error.to_string().contains(&format!("http://{free}: Connection refused")), "{error}");
}

#[tokio::test]
async fn a_refused_credential_is_named_but_not_shown() {
    let body = "<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>key-of-tests</AWSAccessKeyId></Error>";
    let error = refusal(&server_that_answers("403 Forbidden", body)).await;
    assert_eq!(error.class(), StoreErrorClass::Denied);
    assert!(error.to_string().contains("403 Forbidden, SignatureDoesNotMatch"), "{error}");
    assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
}

#[tokio::test]
async fn an_expired_credential_is_a_refusal_too() {
    let body = "<Error><Code>ExpiredToken</Code></Error>";
    let error = refusal(&server_that_answers("400 Bad Request", body)).await;
    assert_eq!(error.class(), StoreErrorClass::Denied);
}
