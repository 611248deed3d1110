//! Who is told of the end of a run, and what. The state of each is in the status of its Execution alone.
//!
//! ```text
//! the run ends      ─ notifications ─> status.notifications, Pending
//! each attempt      ─ notification_order ─> WorkOrder for a runner
//! the attempt ended ─ attempt_ended ─> Sent; or Pending until its next attempt; or Failed
//! ```

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use pintail_api as api;
use pintail_protocol as protocol;
use pintail_protocol::{Failure, FailureClass, StoreLocation};
use serde_json::{Map, Value, json};

use crate::connection::connection_target;
use crate::name;
use crate::run::Connections;

pub const PENDING: &str = "Pending";
pub const SENT: &str = "Sent";
pub const FAILED: &str = "Failed";

/// Between the attempts: a receiver that starts anew is back within minutes, and news of a run is of no use for ever.
const WAITS: [Duration; 4] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(900)];
/// How long one attempt may take: it sends one message.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);
/// What a status takes of a message.
const MESSAGE_BYTES: usize = 1024;
/// Of a reason in a message: enough for the first lines of any error.
const REASON_BYTES: usize = 2048;
const LOG_LINES: u32 = 20;
const LOG_BYTES: u32 = 4096;

/// Where an order's runner works.
#[derive(Clone, Copy, Debug)]
pub struct NotificationPlace<'a> {
    pub store: &'a StoreLocation,
    pub connections: &'a Connections,
    /// What a command needs to find the run, as in `pintail get -n data NAME`: ` -n data`, or nothing.
    pub flags: &'a str,
}

/// How the run ended, for those who are told. None while it is under way, and where nobody is told: it was cancelled, or
/// made way for others.
#[must_use]
pub fn phase_of(status: &api::ExecutionStatus) -> Option<api::NotificationPhase> {
    use api::ConditionReason as Reason;
    status.completion_time.as_ref()?;
    let succeeded = succeeded(status)?;
    match (succeeded.status, succeeded.reason) {
        (api::ConditionStatus::Unknown, _) | (_, Reason::Cancelled | Reason::Skipped | Reason::AlreadyStarted) => None,
        (api::ConditionStatus::True, _) => Some(api::NotificationPhase::Succeeded),
        (api::ConditionStatus::False, _) => Some(api::NotificationPhase::Failed),
    }
}

/// Whom a plan tells of the end that the status says.
#[must_use]
pub fn notifications(asked: &[api::PlanNotification], status: &api::ExecutionStatus) -> Vec<api::NotificationStatus> {
    let Some(phase) = phase_of(status) else { return Vec::new() };
    let told = asked.iter().filter(|asked| asked.phases.contains(&phase)).map(|asked| api::NotificationStatus {
        connection: asked.connection.clone(),
        to: asked.to.clone(),
        state: PENDING.to_owned(),
        ..api::NotificationStatus::default()
    });
    told.collect()
}

/// The name by which a notification goes where a task has its own. No task has it: theirs have no `-`.
#[must_use]
pub fn notification_task(index: usize) -> String {
    format!("notify-{index}")
}

/// Number of the attempt that is due or under way; none where there is no other.
#[must_use]
pub fn next_attempt(told: &api::NotificationStatus) -> Option<u32> {
    if told.state != PENDING {
        return None;
    }
    u32::try_from(told.attempt).ok()?.checked_add(1)
}

/// What is known of a notification after an attempt has ended.
#[must_use]
pub fn attempt_ended(
    told: &api::NotificationStatus,
    outcome: Result<(), &Failure>,
    now: Timestamp,
) -> api::NotificationStatus {
    let ended = usize::try_from(told.attempt).unwrap_or(usize::MAX).saturating_add(1);
    let mut after = told.clone();
    after.attempt = i32::try_from(ended).unwrap_or(i32::MAX);
    after.next_attempt_time = None;
    after.message =
        outcome.err().map(|failure| excerpt(&format!("{}: {}", failure.reason, failure.message), MESSAGE_BYTES));
    let wait = match outcome {
        Err(failure) if failure.class != FailureClass::Permanent => WAITS.get(ended - 1),
        _ => None,
    };
    let next = wait.map(|wait| now.checked_add(*wait).unwrap_or(Timestamp::MAX));
    after.next_attempt_time = next.map(|next| next.to_string());
    after.state = match outcome {
        Ok(()) => SENT,
        Err(_) if next.is_some() => PENDING,
        Err(_) => FAILED,
    }
    .to_owned();
    after
}

/// The order of one attempt: equal but for its number whoever makes it, and with the same id of the message.
///
/// # Errors
/// A permanent failure where the Connection is missing or cannot be used, or there is no such notification.
pub fn notification_order(
    execution: &api::Execution,
    index: usize,
    attempt: u32,
    place: &NotificationPlace,
) -> Result<protocol::WorkOrder, Failure> {
    let permanent =
        |reason: &str, message: String| Failure { class: FailureClass::Permanent, reason: reason.to_owned(), message };
    let nothing = || permanent("NothingToTell", format!("the run has no notification {index}"));
    let status = execution.status.as_ref().ok_or_else(nothing)?;
    let told = status.notifications.get(index).ok_or_else(nothing)?;
    let phase = phase_of(status).ok_or_else(nothing)?;
    let connection = place.connections.get(&told.connection).ok_or_else(|| {
        permanent("ConnectionMissing", format!("there is no Connection {:?}", told.connection.replace('_', "-")))
    })?;
    let target = connection_target(&told.connection, &connection.spec)
        .map_err(|error| permanent("ConnectionInvalid", error.to_string()))?;
    let facts = Facts { execution, status, phase, flags: place.flags };
    let task = notification_task(index);
    let work = protocol::NotifyWork {
        connection: told.connection.clone(),
        to: told.to.clone(),
        subject: facts.subject(),
        body: facts.body(),
        attachments: Vec::new(),
        message_id: name::message_id(facts.uid(), &task),
        event: Some(facts.event()),
        log: facts.log(),
    };
    Ok(protocol::WorkOrder {
        format: protocol::FORMAT,
        identity: facts.identity(task, attempt),
        store: place.store.clone(),
        relations: Vec::new(),
        parameters: Vec::new(),
        files: Vec::new(),
        connections: vec![protocol::Connection {
            name: told.connection.clone(),
            mode: protocol::AccessMode::Write,
            target,
        }],
        work: protocol::Work::Notify(work),
        outputs: Vec::new(),
        resources: protocol::Resources::default(),
        reuse_key: String::new(),
        reuse: None,
    })
}

/// What a message is made of.
struct Facts<'a> {
    execution: &'a api::Execution,
    status: &'a api::ExecutionStatus,
    phase: api::NotificationPhase,
    flags: &'a str,
}

/// The task that decided that a run failed.
struct FailedTask<'a> {
    name: &'a str,
    failure: Option<&'a api::TaskFailure>,
}

impl Facts<'_> {
    fn name(&self) -> &str {
        self.execution.metadata.name.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.execution.metadata.uid.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.execution.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn workflow(&self) -> &str {
        &self.execution.spec.workflow_ref.name
    }

    fn has_failed(&self) -> bool {
        self.phase == api::NotificationPhase::Failed
    }

    fn identity(&self, task: String, attempt: u32) -> protocol::Identity {
        let time = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        let start = time(self.status.start_time.as_deref()).or_else(|| time(self.status.completion_time.as_deref()));
        protocol::Identity {
            namespace: self.namespace().to_owned(),
            execution: self.name().to_owned(),
            execution_uid: self.uid().to_owned(),
            execution_start: start.unwrap_or(Timestamp::UNIX_EPOCH),
            workflow: self.workflow().to_owned(),
            revision: self.status.resolved.as_ref().map(|resolved| resolved.revision.clone()).unwrap_or_default(),
            task,
            item: None,
            attempt,
        }
    }

    fn failed_task(&self) -> Option<FailedTask<'_>> {
        let of = |name: &str| self.status.failures.iter().rfind(|failure| failure.task == name);
        let listed = self.status.task_list.iter().find(|task| self.has_failed() && task.state == "Failed");
        listed.map(|task| FailedTask { name: &task.name, failure: of(&task.name) })
    }

    /// Why the run ended as it did: the reason in one word, and for people.
    fn reason(&self) -> (&'static str, &str) {
        succeeded(self.status).map_or(("", ""), |found| (found.reason.word(), found.message.as_str()))
    }

    fn subject(&self) -> String {
        let verb = if self.has_failed() { "failed" } else { "succeeded" };
        let at = self.failed_task().map(|task| format!(" at task {}", task.name)).unwrap_or_default();
        format!("{} {verb}{at}: {}", self.workflow(), self.name())
    }

    fn body(&self) -> String {
        let verb = if self.has_failed() { "failed" } else { "succeeded" };
        let after = self.status.duration.as_ref().map(|duration| format!(" after {duration}")).unwrap_or_default();
        let mut text = format!("Run {} of workflow {} {verb}{after}.\n\n", self.name(), self.workflow());
        let mut line = |name: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                // A String takes everything.
                let _ = writeln!(text, "{:<11} {value}", format!("{name}:"));
            }
        };
        let started = self.execution.spec.trigger.as_ref();
        line("Plan", started.map(|started| started.plan.as_str()));
        line("Started by", started.map(started_by).as_deref());
        line("Started", Some(self.status.start_time.as_deref().unwrap_or("never")));
        line("Ended", self.status.completion_time.as_deref());
        line("Tasks", self.status.progress.as_deref());
        if let Some(task) = self.failed_task() {
            let attempt = task.failure.map_or_else(String::new, |failure| format!(", attempt {}", failure.attempt));
            line("Failed task", Some(&format!("{}{attempt}", task.name)));
        }
        for output in self.status.outputs.iter().filter(|_| !self.has_failed()) {
            line("Output", output_words(output).as_deref());
        }
        self.reason_below(&mut text);
        let (flags, name) = (self.flags, self.name());
        let _ = write!(text, "\nMore:\n  pintail get{flags} {name}\n");
        if self.has_failed() && self.status.resolved.is_some() {
            let _ = write!(text, "  pintail logs{flags} {name}\n  pintail retry{flags} {name}\n");
        }
        text
    }

    fn reason_below(&self, text: &mut String) {
        if !self.has_failed() {
            return;
        }
        let told = self.failed_task().and_then(|task| task.failure);
        let (reason, message) = match told {
            Some(failure) => (failure.reason.as_str(), failure.message.as_str()),
            None => self.reason(),
        };
        let _ = writeln!(text, "\n{reason}: {}", excerpt(message, REASON_BYTES));
    }

    fn log(&self) -> Option<protocol::LogTail> {
        let task = self.failed_task()?;
        Some(protocol::LogTail { task: task.name.to_owned(), lines: LOG_LINES, bytes: LOG_BYTES })
    }

    /// What programs are told. The source is the plan, so that a receiver can choose by it.
    fn event(&self) -> protocol::Event {
        let started = self.execution.spec.trigger.clone().unwrap_or_default();
        let mut data = Map::new();
        let mut set = |name: &str, value: Option<Value>| data.extend(value.map(|value| (name.to_owned(), value)));
        set("plan", Some(json!(started.plan)));
        set("trigger", started.name.map(Value::String));
        set("occurrence", Some(json!(started.occurrence)));
        set("status", Some(json!(self.phase)));
        set("reason", Some(json!(self.reason().0)));
        set("startTime", self.status.start_time.clone().map(Value::String));
        set("completionTime", self.status.completion_time.clone().map(Value::String));
        set("duration", self.status.duration.clone().map(Value::String));
        set("failedTask", self.failed_task().map(|task| json!(task.name)));
        let ended = self.status.completion_time.as_deref().and_then(|time| time.parse().ok());
        protocol::Event {
            event_type: format!("dev.pintail.execution.{}", if self.has_failed() { "failed" } else { "succeeded" }),
            source: format!("/namespaces/{}/launchplans/{}", self.namespace(), started.plan),
            subject: self.name().to_owned(),
            time: ended.unwrap_or(Timestamp::UNIX_EPOCH),
            data,
        }
    }
}

fn started_by(started: &api::StartedBy) -> String {
    match &started.name {
        Some(trigger) => format!("trigger {trigger}, {}", excerpt(&started.occurrence, MESSAGE_BYTES)),
        None => format!("a person, at {}", started.time),
    }
}

fn output_words(output: &api::OutputStatus) -> Option<String> {
    let rows = output.rows.map(|rows| format!(", {rows} rows")).unwrap_or_default();
    let published = output.artifact.as_ref().map(|artifact| format!(", published as {artifact}")).unwrap_or_default();
    Some(format!("{}{rows}{published}", output.name))
        .filter(|_| output.data_type == "table" || output.data_type == "file")
}

fn succeeded(status: &api::ExecutionStatus) -> Option<&api::Condition> {
    status.conditions.iter().find(|found| found.condition_type == api::ConditionType::Succeeded)
}

fn excerpt(text: &str, bytes: usize) -> String {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
