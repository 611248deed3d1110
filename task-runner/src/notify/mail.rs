use std::time::Duration;

use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Attachment, Body, Mailbox, Message, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::{Error, SmtpTransport};
use lettre::{Transport, address::AddressError};
use pintail_protocol::{ConnectionTarget, MailEncryption, NotifyWork};

use super::{AttachedFile, reach};
use crate::failure::TaskFailure;
use crate::workspace::Environment;

/// Of one answer; some servers take their time to look at a message.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A server's own words, as far as they help.
const ANSWER_LETTERS: usize = 200;

/// A mail server, not yet spoken to.
pub(super) struct Server {
    transport: SmtpTransport,
    from: Mailbox,
    /// `host:port`, for messages.
    address: String,
}

impl Server {
    /// `target` is an SMTP one.
    ///
    /// # Errors
    /// `SecretMissing`, `InvalidAddress` of the sender, `InvalidConnection`.
    pub fn open(target: &ConnectionTarget, environment: &Environment, owner: &str) -> Result<Self, TaskFailure> {
        let ConnectionTarget::Smtp { host, port, encryption, from, username, password } = target else {
            return Err(TaskFailure::permanent("WrongConnection", format!("{owner} is not a mail server")));
        };
        let builder = match encryption {
            MailEncryption::None => Ok(SmtpTransport::builder_dangerous(host)),
            MailEncryption::StartTls => SmtpTransport::starttls_relay(host),
            MailEncryption::Tls => SmtpTransport::relay(host),
        };
        let builder = builder.map_err(|error| {
            TaskFailure::permanent("InvalidConnection", format!("{owner}: the host `{host}` cannot be used: {error}"))
        })?;
        let mut builder = builder.port(*port).timeout(Some(TIMEOUT));
        match (username, password) {
            (Some(username), Some(password)) => {
                let (username, password) = (environment.secret(username, owner)?, environment.secret(password, owner)?);
                builder = builder.credentials(Credentials::new(username.to_owned(), password.to_owned()));
            }
            (None, None) => {}
            _ => {
                let message = format!("{owner} has one of usernameFrom and passwordFrom: give both or neither");
                return Err(TaskFailure::permanent("InvalidConnection", message));
            }
        }
        let from = from.parse().map_err(|error: AddressError| {
            TaskFailure::permanent(
                "InvalidAddress",
                format!("{owner}: the sender `{from}` is no mail address: {error}"),
            )
        })?;
        Ok(Self { transport: builder.build(), from, address: format!("{host}:{port}") })
    }

    /// # Errors
    /// `InvalidAddress`, `Rejected`, `AccessDenied`, `ConnectionFailed`.
    pub fn send(&self, work: &NotifyWork, attached: Vec<AttachedFile>) -> Result<(), TaskFailure> {
        let message = self.message(work, attached)?;
        reach(|| self.transport.send(&message).map(|_| ()).map_err(|error| self.failure(&error)))
    }

    fn message(&self, work: &NotifyWork, attached: Vec<AttachedFile>) -> Result<Message, TaskFailure> {
        let invalid = |why: String| TaskFailure::permanent("InvalidAddress", why);
        let mut builder = Message::builder().from(self.from.clone()).subject(one_line(&work.subject));
        // The same for every attempt, so that a mail program can show a repeat as one.
        builder = builder.message_id(Some(format!("<{}@pintail>", identifier(&work.message_id)))).date_now();
        for (index, address) in work.to.iter().enumerate() {
            // Told by its place: an address may come from the data.
            let mailbox = address.trim().parse::<Mailbox>().map_err(|error| {
                invalid(format!("recipient {} of {} is no mail address: {error}", index + 1, work.to.len()))
            })?;
            builder = builder.to(mailbox);
        }
        if work.to.is_empty() {
            return Err(invalid("the message has no recipient: give `to`".to_owned()));
        }
        let mut parts = MultiPart::mixed().singlepart(SinglePart::plain(work.body.clone()));
        for file in attached {
            let media_type = ContentType::parse(file.media_type)
                .map_err(|error| TaskFailure::infrastructure("InvalidMessage", error.to_string()))?;
            // In base64 every byte arrives as it is; in text, line ends may not.
            let body = Body::new_with_encoding(file.content, ContentTransferEncoding::Base64)
                .map_err(|_| TaskFailure::infrastructure("InvalidMessage", "an attachment could not be encoded"))?;
            parts = parts.singlepart(Attachment::new(file.name).body(body, media_type));
        }
        builder.multipart(parts).map_err(|error| {
            TaskFailure::permanent("InvalidMessage", format!("the message could not be put together: {error}"))
        })
    }

    fn failure(&self, error: &Error) -> TaskFailure {
        // 530, 534, 535: the server wants another name or password, or wants one at all.
        let denied = matches!(error.status().map(u16::from), Some(530 | 534 | 535));
        let mut cause = error as &dyn std::error::Error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let cause: String = one_line(&cause.to_string()).chars().take(ANSWER_LETTERS).collect();
        let failed = match error.status() {
            Some(code) => format!("the mail server {} answered {code}: {cause}", self.address),
            None => format!("the mail server {} could not be used: {cause}", self.address),
        };
        if denied {
            TaskFailure::transient("AccessDenied", format!("{failed}: check the connection's user name and password"))
        } else if error.is_permanent() {
            TaskFailure::permanent("Rejected", format!("{failed}: check the addresses and what the server accepts"))
        } else if error.is_transient() {
            TaskFailure::transient("ConnectionFailed", format!("{failed}: try again later"))
        } else if error.is_client() {
            TaskFailure::permanent("Rejected", format!("{failed}: check the connection's `encryption` and credentials"))
        } else {
            TaskFailure::transient(
                "ConnectionFailed",
                format!("{failed}: check the connection's host, port and `encryption`, and the network"),
            )
        }
    }
}

/// Text for a header.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Letters that a message's id may have without quotes.
fn identifier(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    text.chars().map(|letter| if plain(letter) { letter } else { '-' }).collect()
}
