//! The edge of the process: the order's text, signals, the termination message.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pintail_protocol::{ExitCode, TERMINATION_MESSAGE_BYTES, TerminationMessage, WorkOrder, check_format};
use serde::Deserialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::TaskFailure;
use crate::interrupt::Interrupt;

/// Orders are one statement and names; rows of a manifest are the largest part, and its limit is far below this.
const ORDER_BYTES: u64 = 16 << 20;

/// How long a statement may take to notice that it was interrupted.
const GRACE: Duration = Duration::from_secs(5);

/// An interrupt that comes between two statements is lost, so it is repeated.
const REPEAT: Duration = Duration::from_millis(50);

/// Reads an order from a file, or from standard input for `-`.
///
/// # Errors
/// `InvalidOrder`, `NewerFormat`.
pub fn read_order(path: &Path) -> Result<WorkOrder, TaskFailure> {
    let invalid = |what: String| TaskFailure::permanent("InvalidOrder", format!("the work order {what}"));
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(ORDER_BYTES + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(ORDER_BYTES + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| invalid(format!("{} cannot be read: {error}", path.display())))?;
    if bytes.len() as u64 > ORDER_BYTES {
        return Err(invalid(format!("has more than {ORDER_BYTES} bytes")));
    }
    parse_order(&bytes)
}

/// The format first: a newer order may not even have the fields that this build wants.
fn parse_order(bytes: &[u8]) -> Result<WorkOrder, TaskFailure> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let invalid = |error: serde_json::Error| {
        let place = format!("line {} column {}", error.line(), error.column());
        TaskFailure::permanent("InvalidOrder", format!("the work order cannot be understood at {place}"))
    };
    let Format { format } = serde_json::from_slice(bytes).map_err(invalid)?;
    check_format("the work order", format).map_err(|error| TaskFailure::permanent("NewerFormat", error.to_string()))?;
    serde_json::from_slice(bytes).map_err(invalid)
}

/// Makes SIGTERM and SIGINT interrupt the work. A second signal, or a work that does not end, ends the process.
///
/// # Errors
/// Infrastructure, where the machine gives no thread or handle.
pub fn hear_signals(interrupt: Arc<Interrupt>) -> Result<(), TaskFailure> {
    let fail = |error: std::io::Error| TaskFailure::from_io(&error, "hear signals");
    let runtime = crate::files::runtime()?;
    let (terminate, stop) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate()).map_err(fail)?, signal(SignalKind::interrupt()).map_err(fail)?)
    };
    let listen = move || runtime.block_on(interrupt_on(terminate, stop, &interrupt));
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop).map_err(fail)
}

/// Makes the end of the process that started this one a SIGTERM, and ends now where it is gone already.
///
/// # Errors
/// `Interrupted` for that.
pub fn end_with_parent(parent_pid: i32) -> Result<(), TaskFailure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .map_err(|error| TaskFailure::from_io(&error.into(), "watch the parent process"))?;
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
    if parent == Some(parent_pid) { Ok(()) } else { Err(TaskFailure::interrupted()) }
}

async fn interrupt_on(mut terminate: Signal, mut stop: Signal, interrupt: &Interrupt) {
    tokio::select! { _ = terminate.recv() => {}, _ = stop.recv() => {} }
    let repeated = async {
        loop {
            interrupt.request();
            tokio::time::sleep(REPEAT).await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {},
        _ = stop.recv() => {},
        () = repeated => {},
        () = tokio::time::sleep(GRACE) => {},
    }
    std::process::exit(ExitCode::Interrupted as i32);
}

/// The message as JSON of at most [`TERMINATION_MESSAGE_BYTES`]; a long text is cut between two characters.
#[must_use]
pub fn termination_text(message: &TerminationMessage) -> String {
    let mut message = message.clone();
    loop {
        let text = serde_json::to_string(&message).unwrap_or_default();
        let excess = text.len().saturating_sub(TERMINATION_MESSAGE_BYTES);
        match &mut message.failure {
            Some(failure) if excess > 0 && failure.message.len() > '…'.len_utf8() => {
                // One byte takes at most six as JSON, so this never cuts too much.
                let keep = failure.message.trim_end_matches('…').len().saturating_sub(excess.div_ceil(6));
                failure.message.truncate(failure.message.floor_char_boundary(keep));
                failure.message.push('…');
            }
            _ => return text,
        }
    }
}

#[cfg(test)]
mod tests {
    use pintail_protocol::{Failure, FailureClass};

    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        for text in ["short".to_owned(), "é\n\"\u{1}".repeat(2000), "x".repeat(1 << 20)] {
            let failure = Failure { class: FailureClass::Permanent, reason: "BinderError".to_owned(), message: text };
            let message =
                TerminationMessage { format: 1, failure: Some(failure), report: Some("k".repeat(300)), digest: None };
            let text = termination_text(&message);
            assert!(text.len() <= TERMINATION_MESSAGE_BYTES);
            let read: TerminationMessage = serde_json::from_str(&text).unwrap();
            assert!(!read.failure.unwrap().message.is_empty());
        }
    }

    #[test]
    fn an_order_of_a_newer_format_is_told_apart_from_a_broken_one() {
        assert_eq!(parse_order(b"{\"format\": 99, \"new\": 1}").unwrap_err().reason, "NewerFormat");
        for broken in [&b"{"[..], b"", b"[]", b"{\"format\": 1}", b"\xff"] {
            assert_eq!(parse_order(broken).unwrap_err().reason, "InvalidOrder");
        }
    }
}
