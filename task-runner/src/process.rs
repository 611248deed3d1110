//! The edge of the process: the order's text, signals, the termination message.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pintail_protocol::{
    AGENT_OBJECT_VARIABLE, AGENT_VARIABLE, AgentOrder, DecodeError, ExitCode, FORMAT, ORDER_BYTES,
    ORDER_OBJECT_VARIABLE, ORDER_VARIABLE, READ_REQUEST_VARIABLE, ReadRequest, STORE_VARIABLE,
    TERMINATION_MESSAGE_BYTES, TerminationMessage, WorkOrder, decode_agent, decode_order, decode_request, parse_order,
};
use pintail_storage::{Store, parse_location};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::TaskFailure;
use crate::interrupt::Interrupt;
use crate::log::Log;
use crate::workspace::Environment;

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
    let limit = ORDER_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| invalid(format!("{} cannot be read: {error}", path.display())))?;
    if bytes.len() > ORDER_BYTES {
        return Err(invalid(format!("has more than {ORDER_BYTES} bytes")));
    }
    Ok(parse_order(&bytes)?)
}

/// Reads the order that the variables hold, or the object of the store that they name.
///
/// # Errors
/// `InvalidOrder`, `NewerFormat`; those of the store, where the order is there.
pub fn order_from_environment(environment: &Environment) -> Result<WorkOrder, TaskFailure> {
    Ok(decode_order(&order_text(environment, ORDER_VARIABLE, ORDER_OBJECT_VARIABLE)?)?)
}

/// Reads the agent's order that the variables hold, or the object of the store that they name.
///
/// # Errors
/// As [`order_from_environment`].
pub fn agent_order_from_environment(environment: &Environment) -> Result<AgentOrder, TaskFailure> {
    Ok(decode_agent(&order_text(environment, AGENT_VARIABLE, AGENT_OBJECT_VARIABLE)?)?)
}

fn order_text(environment: &Environment, variable: &str, object_variable: &str) -> Result<String, TaskFailure> {
    let missing = |name: &str| {
        let message = format!("the environment holds no order: the variable {name} is not set");
        TaskFailure::permanent("InvalidOrder", message)
    };
    if let Some(text) = environment.variable(variable) {
        return Ok(text.to_owned());
    }
    let name = environment.variable(object_variable).ok_or_else(|| missing(variable))?;
    let store = environment.variable(STORE_VARIABLE).ok_or_else(|| missing(STORE_VARIABLE))?;
    let store = Store::connect(&parse_location(store)?)?;
    Ok(crate::files::runtime()?.block_on(store.read_order(name))?)
}

/// Reads the request that a variable holds.
///
/// # Errors
/// `InvalidOrder`, `NewerFormat`.
pub fn request_from_environment(environment: &Environment) -> Result<ReadRequest, TaskFailure> {
    match environment.variable(READ_REQUEST_VARIABLE) {
        Some(text) => Ok(decode_request(text)?),
        None => {
            let message = format!("the environment holds no request: the variable {READ_REQUEST_VARIABLE} is not set");
            Err(TaskFailure::permanent("InvalidOrder", message))
        }
    }
}

impl From<DecodeError> for TaskFailure {
    fn from(error: DecodeError) -> Self {
        let reason = if matches!(error, DecodeError::NewerFormat(_)) { "NewerFormat" } else { "InvalidOrder" };
        Self::permanent(reason, error.to_string())
    }
}

/// The termination message: it is written once, by the end of the work or by what cuts it off.
#[derive(Default)]
pub struct LastWord {
    path: Option<PathBuf>,
    said: Mutex<bool>,
}

impl LastWord {
    /// `path` takes the message; without one nobody hears it.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, said: Mutex::default() }
    }

    /// Writes the message, unless one is written. Gives whether this one counts.
    pub fn say(&self, message: &TerminationMessage) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said {
            return false;
        }
        *said = true;
        if let Some(path) = &self.path
            && let Err(error) = std::fs::write(path, termination_text(message))
        {
            Log::default().error(&format!("could not write {}: {error}", path.display()));
        }
        true
    }
}

/// The message of work that failed without a report.
#[must_use]
pub fn unreported(failure: TaskFailure) -> TerminationMessage {
    TerminationMessage { format: FORMAT, failure: Some(failure.into()), report: None, digest: None, content: None }
}

/// Makes SIGTERM and SIGINT interrupt the work. A second signal, or a work that does not end, ends the process; the last
/// word is then that it was interrupted.
///
/// # Errors
/// Infrastructure, where the machine gives no thread or handle.
pub fn hear_signals(interrupt: Arc<Interrupt>, last_word: Arc<LastWord>) -> Result<(), TaskFailure> {
    let fail = |error: std::io::Error| TaskFailure::from_io(&error, "hear signals");
    let runtime = crate::files::runtime()?;
    let (terminate, stop) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate()).map_err(fail)?, signal(SignalKind::interrupt()).map_err(fail)?)
    };
    let listen = move || {
        runtime.block_on(interrupt_on(terminate, stop, &interrupt));
        if last_word.say(&unreported(TaskFailure::interrupted())) {
            std::process::exit(ExitCode::Interrupted as i32);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop).map_err(fail)
}

/// A token that SIGTERM or SIGINT cancels. Called within a runtime.
///
/// # Errors
/// Infrastructure, where the machine gives no handle.
pub fn cancelled_by_signals() -> Result<CancellationToken, TaskFailure> {
    let fail = |error: std::io::Error| TaskFailure::from_io(&error, "hear signals");
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut stop = signal(SignalKind::interrupt()).map_err(fail)?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = stop.recv() => {} }
        cancelled.cancel();
    });
    Ok(token)
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

/// Ends when the process should.
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
}

/// The message as JSON of at most [`TERMINATION_MESSAGE_BYTES`]: without a report that is too long, and a long text is cut
/// between two characters.
#[must_use]
pub fn termination_text(message: &TerminationMessage) -> String {
    let mut message = message.clone();
    loop {
        let text = serde_json::to_string(&message).unwrap_or_default();
        let excess = text.len().saturating_sub(TERMINATION_MESSAGE_BYTES);
        if excess > 0 && message.content.take().is_some() {
            continue;
        }
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

    fn message(text: &str, content: Option<String>) -> TerminationMessage {
        let failure =
            Failure { class: FailureClass::Permanent, reason: "BinderError".to_owned(), message: text.to_owned() };
        TerminationMessage { format: 1, failure: Some(failure), report: Some("k".repeat(300)), digest: None, content }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        for text in ["short".to_owned(), "é\n\"\u{1}".repeat(2000), "x".repeat(1 << 20)] {
            let text = termination_text(&message(&text, None));
            assert!(text.len() <= TERMINATION_MESSAGE_BYTES);
            let read: TerminationMessage = serde_json::from_str(&text).unwrap();
            assert!(!read.failure.unwrap().message.is_empty());
        }
    }

    #[test]
    fn a_report_goes_along_only_where_there_is_room_for_it() {
        for (bytes, goes_along) in [(1000, true), (TERMINATION_MESSAGE_BYTES, false)] {
            let whole = message("short", Some("r".repeat(bytes)));
            let read: TerminationMessage = serde_json::from_str(&termination_text(&whole)).unwrap();
            assert_eq!(read.content.is_some(), goes_along);
            assert_eq!(TerminationMessage { content: whole.content.clone(), ..read }, whole);
        }
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Environment::new(variables.collect(), PathBuf::new())
    }

    #[test]
    fn an_order_comes_from_a_variable_or_from_the_object_that_one_names() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        let order = crate::tests::empty_order(folder.path());
        let text = pintail_protocol::encode_order(&order).unwrap();
        assert_eq!(order_from_environment(&environment(&[(ORDER_VARIABLE, &text)])).unwrap(), order);
        let name = crate::files::runtime().unwrap().block_on(async {
            let store = Store::open(&order.store).await.unwrap();
            store.put_order("default", "uid", text).await.unwrap()
        });
        let of_object = |name: &str| {
            order_from_environment(&environment(&[(ORDER_OBJECT_VARIABLE, name), (STORE_VARIABLE, place)]))
        };
        assert_eq!(of_object(&name).unwrap(), order);
        assert_eq!(of_object(&format!("{name}0")).unwrap_err().reason, "StoreCorrupt");
        assert_eq!(of_object("default/runs/uid/_orders/none#blake3:0").unwrap_err().reason, "StoreNotFound");
    }

    #[test]
    fn an_environment_without_an_order_names_what_is_missing() {
        let failure = |variables: &[(&str, &str)]| order_from_environment(&environment(variables)).unwrap_err();
        assert!(failure(&[]).message.contains(ORDER_VARIABLE));
        assert!(failure(&[(ORDER_OBJECT_VARIABLE, "a#blake3:0")]).message.contains(STORE_VARIABLE));
        let broken = failure(&[(ORDER_VARIABLE, "hunter2!")]);
        assert_eq!((broken.class, broken.reason), (FailureClass::Permanent, "InvalidOrder"));
        assert!(!broken.message.contains("hunter2"));
    }

    #[test]
    fn only_the_first_last_word_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("termination-log");
        let last_word = LastWord::new(Some(path.clone()));
        assert!(last_word.say(&unreported(TaskFailure::interrupted())));
        assert!(!last_word.say(&unreported(TaskFailure::busy("locked"))));
        let read: TerminationMessage = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(read.failure.unwrap().reason, "Interrupted");
    }
}
