//! What `pintail serve` says: lines on standard error for people, objects on standard output for programs.

use jiff::Timestamp;
use kube::ResourceExt;
use pintail_api as api;
use serde_json::{Value, json};

use crate::arguments::ServeOutput;
use crate::output::print_text;
use crate::render::{display_status, started_by, succeeded};

pub struct Say {
    output: ServeOutput,
}

impl Say {
    pub fn new(output: ServeOutput) -> Self {
        Self { output }
    }

    /// Something happened, and a run is there for it.
    pub fn created(&self, run: &api::Execution) {
        let occurrence = run.spec.trigger.as_ref().map(|started| started.occurrence.as_str()).unwrap_or_default();
        let line = format!("{}  {occurrence}  starts {}", started_by(run), run.name_any());
        self.event("Created", &line, json!({ "execution": run.name_any(), "trigger": run.spec.trigger }));
    }

    /// A run has ended.
    pub fn ended(&self, run: &api::Execution) {
        let status = run.status.as_ref();
        let duration = status.and_then(|status| status.duration.clone()).unwrap_or_default();
        let message = status.and_then(succeeded).map(|found| found.message.clone()).unwrap_or_default();
        let line = format!("{}  {}  {duration}", run.name_any(), display_status(run));
        let line = if message.is_empty() { line } else { format!("{}  {message}", line.trim_end()) };
        let object = json!({
            "execution": run.name_any(), "status": display_status(run), "message": message, "trigger": run.spec.trigger,
        });
        self.event("Ended", line.trim_end(), object);
    }

    /// Something happened that starts no run.
    pub fn dropped(&self, plan: &str, trigger: &str, message: &str) {
        let object = json!({ "plan": plan, "name": trigger, "message": message });
        self.event("Dropped", &format!("{plan}/{trigger}  starts nothing: {message}"), object);
    }

    /// Something hinders the work, and is tried again.
    pub fn trouble(&self, message: &str) {
        self.event("Trouble", &format!("warning: {message}"), json!({ "message": message }));
    }

    pub fn serving(&self, line: &str, plans: &[String], address: Option<String>) {
        self.event("Serving", line, json!({ "plans": plans, "address": address }));
    }

    fn event(&self, event: &str, line: &str, mut object: Value) {
        eprintln!("{line}");
        if self.output == ServeOutput::Json
            && let Some(fields) = object.as_object_mut()
        {
            fields.insert("event".to_owned(), json!(event));
            fields.insert("time".to_owned(), json!(Timestamp::now().to_string()));
            print_text(&format!("{object}\n"));
        }
    }
}
