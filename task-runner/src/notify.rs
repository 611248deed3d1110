//! Sends a message, with files, to people (SMTP) or to a program (a webhook). At least once: a repeated attempt sends it
//! again under the same id.

use std::path::Path;

use pintail_protocol::{Attachment, ConnectionTarget, FormatOptions, LogTail, NotifyWork, TableFormat, WorkOrder};
use pintail_storage::StoreError;

use crate::export;
use crate::failure::{TaskFailure, with_pauses};
use crate::files::connection_of;
use crate::read::last_lines;
use crate::session::Session;
use crate::workspace::Environment;

mod mail;
mod webhook;

/// Bytes of all attachments together. Large mail services take messages of 25 MiB, and mail makes a file a third larger.
const ATTACHED_BYTES: u64 = 18 << 20;

/// The message with the end of a log below it. A log that cannot be read holds no message up.
pub(crate) fn with_log(
    work: &NotifyWork,
    read: impl FnOnce(&LogTail) -> Result<Vec<u8>, StoreError>,
    redact: impl FnOnce(&str) -> String,
) -> NotifyWork {
    let mut work = work.clone();
    let Some(tail) = &work.log else { return work };
    let below = match read(tail) {
        Ok(log) => last_of(log, tail),
        Err(error) => format!("It cannot be read: {error}\n"),
    };
    if !below.is_empty() {
        work.body.push_str(&redact(&format!("\nEnd of the log of task {}:\n{below}", tail.task)));
    }
    work
}

fn last_of(log: Vec<u8>, tail: &LogTail) -> String {
    let whole = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    let text = last_lines(log, whole(tail.bytes));
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(whole(tail.lines));
    lines.iter().skip(from).map(|line| format!("  {line}\n")).collect()
}

/// What goes with a message.
struct AttachedFile {
    name: String,
    media_type: &'static str,
    content: Vec<u8>,
}

/// Where the work is only tried, attachments are made and nothing is sent.
///
/// # Errors
/// `Rejected`, `InvalidAddress`, `TooLarge`, `AccessDenied`, `ConnectionFailed`, `SecretMissing`, or DuckDB's error by
/// its class.
pub(crate) fn notify(
    session: &Session,
    work: &NotifyWork,
    order: &WorkOrder,
    environment: &Environment,
) -> Result<(), TaskFailure> {
    let connection = connection_of(order, &work.connection)?;
    let owner = format!("connection `{}`", connection.name);
    match &connection.target {
        ConnectionTarget::Smtp { .. } if environment.rehearsal().is_some() => {
            attachments(session, &work.attachments, order).map(drop)
        }
        target @ ConnectionTarget::Smtp { .. } => {
            let server = mail::Server::open(target, environment, &owner)?;
            let attached = attachments(session, &work.attachments, order)?;
            server.send(work, attached).map_err(|failure| failure.on(&owner))
        }
        ConnectionTarget::Webhook { .. } if work.attachments.is_empty() && environment.rehearsal().is_some() => Ok(()),
        target @ ConnectionTarget::Webhook { .. } if work.attachments.is_empty() => {
            let send = || webhook::send(work, order, target, environment, &owner);
            reach(send).map_err(|failure| failure.on(&owner))
        }
        ConnectionTarget::Webhook { .. } => {
            let message = format!(
                "{owner} is a webhook, which takes no attachments: send them by mail, or export them and name their place"
            );
            Err(TaskFailure::permanent("WrongConnection", message))
        }
        _ => {
            let message = format!("{owner} takes no messages: use one of kind smtp or webhook");
            Err(TaskFailure::permanent("WrongConnection", message))
        }
    }
}

/// Sends, again where the server's name was not answered or nobody listened there: nothing is sent before that, so that it
/// costs no attempt of the task. Names and addresses of a cluster are behind for a while after its API server was away.
fn reach(send: impl Fn() -> Result<(), TaskFailure>) -> Result<(), TaskFailure> {
    // What the standard library and the system say of it; a failure does not keep the kind of its cause.
    let not_reached = ["failed to lookup address", "Connection refused"];
    with_pauses(|failure| not_reached.iter().any(|words| failure.message.contains(words)), send)
}

fn attachments(session: &Session, wanted: &[Attachment], order: &WorkOrder) -> Result<Vec<AttachedFile>, TaskFailure> {
    let mut attached = Vec::new();
    let mut bytes = 0;
    for attachment in wanted {
        let named = |failure: TaskFailure| failure.on(&format!("attachment `{}`", attachment.file_name));
        let file = attached_file(session, attachment, order, ATTACHED_BYTES - bytes).map_err(named)?;
        bytes += file.content.len() as u64;
        attached.push(file);
    }
    Ok(attached)
}

fn attached_file(
    session: &Session,
    attachment: &Attachment,
    order: &WorkOrder,
    bytes_left: u64,
) -> Result<AttachedFile, TaskFailure> {
    let name = attachment.file_name.clone();
    if name.is_empty() || name.contains(['/', '\\']) || name.chars().any(char::is_control) {
        return Err(TaskFailure::permanent("InvalidPath", "it needs a plain name, without a folder"));
    }
    let (media_type, content) = match attachment.format {
        Some(format) => {
            let path = session.scratch().join("attachment");
            export::write_file(session, &attachment.source, format, &FormatOptions::default(), &path)?;
            (media_type(format), read(&path, bytes_left)?)
        }
        None => {
            let binding = order.files.iter().find(|binding| binding.name == attachment.source);
            let path = binding.and_then(|binding| session.workspace().staged.get(&binding.file.key));
            let path = path.ok_or_else(|| {
                let message = format!("the order has no file `{}` for it", attachment.source);
                TaskFailure::infrastructure("InvalidOrder", message)
            })?;
            // Reports are the only files that tasks make.
            ("text/html; charset=utf-8", read(path, bytes_left)?)
        }
    };
    Ok(AttachedFile { name, media_type, content })
}

fn read(path: &Path, bytes_left: u64) -> Result<Vec<u8>, TaskFailure> {
    let failed = |error| TaskFailure::from_io(&error, &format!("read {}", path.display()));
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > bytes_left {
        let message = format!(
            "it has {bytes} bytes, and all attachments together may have {ATTACHED_BYTES}: attach fewer rows, or export the table and send its place"
        );
        return Err(TaskFailure::permanent("TooLarge", message));
    }
    std::fs::read(path).map_err(failed)
}

fn media_type(format: TableFormat) -> &'static str {
    match format {
        TableFormat::Csv => "text/csv; charset=utf-8",
        TableFormat::Parquet => "application/vnd.apache.parquet",
        TableFormat::Json => "application/x-ndjson",
    }
}

#[cfg(test)]
mod tests;
