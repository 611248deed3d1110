use std::time::Duration;

use jiff::Timestamp;
use pintail_protocol::{ConnectionTarget, Event, NotifyWork, WebhookUrl, WorkOrder};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Url, redirect};
use serde_json::{Value, json};

use crate::failure::TaskFailure;
use crate::files::{CONNECT_TIMEOUT, runtime};
use crate::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};
use crate::workspace::Environment;

/// Of the whole request; receivers of messages answer before they work on them.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Posts the message as JSON, signed where the connection has a key. `text` is what Slack and its like show; the rest is for
/// programs. A CloudEvent is sent in binary mode: receivers that know nothing of it find a message like any other.
///
/// # Errors
/// `Rejected`, `AccessDenied`, `ConnectionFailed`, `InvalidConnection`, `SecretMissing`.
pub(super) fn send(
    work: &NotifyWork,
    order: &WorkOrder,
    target: &ConnectionTarget,
    environment: &Environment,
    owner: &str,
) -> Result<(), TaskFailure> {
    let ConnectionTarget::Webhook { url: Some(url), bearer_token, signing_key } = target else {
        return Err(TaskFailure::permanent("WrongConnection", "it is no webhook with a URL"));
    };
    let (text, is_secret) = match url {
        WebhookUrl::Plain(url) => (url.as_str(), false),
        WebhookUrl::Secret(variable) => (environment.secret(variable, owner)?, true),
    };
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| {
        TaskFailure::permanent("InvalidConnection", "its URL is none: it begins with http:// or https://")
    })?;
    // A secret URL is never shown; of another, what stands in the query may be a key all the same.
    let shown = match url.host_str() {
        Some(host) if !is_secret => format!("the webhook at {host}"),
        _ => "the webhook".to_owned(),
    };
    let body = message(work, order).to_string();
    let id = header(&work.message_id);
    let mut request = client()?.post(url).header(CONTENT_TYPE, "application/json").header("Idempotency-Key", &id);
    if let Some(variable) = bearer_token {
        request = request.bearer_auth(environment.secret(variable, owner)?);
    }
    if let Some(variable) = signing_key {
        request = signed(request, environment.secret(variable, owner)?, &id, &body)?;
    }
    if let Some(event) = &work.event {
        request = with_attributes(request, event, &work.message_id);
    }
    let status = runtime()?.block_on(async { request.body(body).send().await.map(|answer| answer.status()) }).map_err(
        |error| {
            let why = if error.is_timeout() { "no answer in time".to_owned() } else { crate::files::cause(&error) };
            TaskFailure::transient(
                "ConnectionFailed",
                format!("{shown} could not be reached: {why}: check the connection's URL and the network"),
            )
        },
    )?;
    let answered = format!("{shown} answered {status}");
    match status.as_u16() {
        200..=299 => Ok(()),
        300..=399 => Err(TaskFailure::permanent(
            "Rejected",
            format!("{answered}: redirects are not followed, give the address that it leads to"),
        )),
        401 | 403 => Err(TaskFailure::transient(
            "AccessDenied",
            format!("{answered}: check the connection's URL and bearer token"),
        )),
        408 | 429 | 500..=599 => {
            Err(TaskFailure::transient("ConnectionFailed", format!("{answered}: try again later")))
        }
        _ => Err(TaskFailure::permanent("Rejected", format!("{answered}: check the URL and what it accepts"))),
    }
}

fn signed(request: RequestBuilder, key: &str, id: &str, body: &str) -> Result<RequestBuilder, TaskFailure> {
    let seconds = Timestamp::now().as_second();
    let signature = sign(key, id, seconds, body.as_bytes())
        .map_err(|error| TaskFailure::permanent("InvalidConnection", error.to_string()))?;
    Ok(request.header(ID_HEADER, id).header(TIMESTAMP_HEADER, seconds).header(SIGNATURE_HEADER, signature))
}

fn client() -> Result<Client, TaskFailure> {
    // Another place than the one that was named gets neither message nor token.
    let builder =
        Client::builder().redirect(redirect::Policy::none()).connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT);
    builder.build().map_err(|error| TaskFailure::infrastructure("NetworkError", crate::files::cause(&error)))
}

fn with_attributes(request: RequestBuilder, event: &Event, id: &str) -> RequestBuilder {
    let attributes = [
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", header(id)),
        ("ce-type", header(&event.event_type)),
        ("ce-source", header(&event.source)),
        ("ce-subject", header(&event.subject)),
        ("ce-time", event.time.to_string()),
    ];
    attributes.into_iter().fold(request, |request, (name, value)| request.header(name, value))
}

fn message(work: &NotifyWork, order: &WorkOrder) -> Value {
    let text = if work.body.is_empty() { work.subject.clone() } else { format!("{}\n\n{}", work.subject, work.body) };
    let mut message = json!({
        "text": text,
        "id": work.message_id,
        "subject": work.subject,
        "body": work.body,
        "namespace": order.identity.namespace,
        "workflow": order.identity.workflow,
        "execution": order.identity.execution,
        "task": order.identity.task,
    });
    if let (Some(event), Some(message)) = (&work.event, message.as_object_mut()) {
        // It is of the whole run.
        message.remove("task");
        message.extend(event.data.clone());
    }
    message
}

fn header(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '-' }).collect()
}
