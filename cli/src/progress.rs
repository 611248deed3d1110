//! What a person sees of a run under way: live lines on a terminal, one plain line a change elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use pintail_api as api;

/// Shows the tasks of one run on standard error.
pub struct Progress {
    /// State and attempt of each task as they were last shown.
    shown: BTreeMap<String, (String, Option<i32>)>,
    /// What the whole run was last seen waiting for.
    waiting: Option<String>,
    live: Option<Live>,
    /// Of the longest name of a task.
    width: usize,
    /// What a line begins with.
    before: String,
}

struct Live {
    bars: MultiProgress,
    running: BTreeMap<String, ProgressBar>,
}

impl Default for Progress {
    fn default() -> Self {
        let live =
            std::io::stderr().is_terminal().then(|| Live { bars: MultiProgress::new(), running: BTreeMap::new() });
        Self { shown: BTreeMap::new(), waiting: None, live, width: 0, before: "  ".to_owned() }
    }
}

impl Progress {
    /// For one of many runs: plain lines that begin with its name.
    pub fn of_many(run: &str) -> Self {
        Self { live: None, before: format!("{run}  "), ..Self::default() }
    }

    /// Shows what has changed since the last call.
    pub fn show(&mut self, status: &api::ExecutionStatus) {
        self.width = status.task_list.iter().map(|task| task.name.len()).max().unwrap_or(0);
        let waiting = waiting_for(status);
        if waiting != self.waiting {
            if let Some(reason) = &waiting {
                self.note(&format!("{}waiting: {reason}", self.before));
            }
            self.waiting = waiting;
        }
        for task in &status.task_list {
            let now = (task.state.clone(), task.attempt);
            if task.state == "Waiting" || self.shown.get(&task.name) == Some(&now) {
                continue;
            }
            self.shown.insert(task.name.clone(), now);
            self.change(task);
        }
    }

    /// A line of its own.
    pub fn note(&self, line: &str) {
        match &self.live {
            // Where the terminal is gone there is nobody to tell.
            Some(live) => drop(live.bars.println(line)),
            None => eprintln!("{line}"),
        }
    }

    fn change(&mut self, task: &api::TaskStatus) {
        let line = self.line(task);
        let Some(live) = &mut self.live else {
            eprintln!("{line}");
            return;
        };
        if task.state == "Running" {
            let bar = live.running.entry(task.name.clone()).or_insert_with(|| live.bars.add(spinner()));
            bar.set_message(line);
        } else {
            if let Some(bar) = live.running.remove(&task.name) {
                bar.finish_and_clear();
            }
            drop(live.bars.println(line));
        }
    }

    fn line(&self, task: &api::TaskStatus) -> String {
        let mut parts = Vec::new();
        if task.state != "Running" {
            parts.extend(task.duration.clone());
        }
        parts.extend(task.rows.map(|rows| format!("{} rows", grouped(rows))));
        parts.extend(task.attempt.filter(|attempt| *attempt > 1).map(|attempt| format!("attempt {attempt}")));
        parts.extend(task.reused_from.as_ref().map(|run| format!("taken over from {run}")));
        parts.extend(task.message.clone());
        format!("{}{:width$}  {:9}  {}", self.before, task.name, task.state, parts.join(", "), width = self.width)
            .trim_end()
            .to_owned()
    }
}

/// What a run as a whole waits for: its Workflow, a Secret, a place for a pod. Nothing while it goes on.
fn waiting_for(status: &api::ExecutionStatus) -> Option<String> {
    use api::{ConditionReason as Reason, ConditionStatus as Status};
    let succeeded = crate::render::succeeded(status)?;
    let waits = succeeded.status == Status::Unknown && !matches!(succeeded.reason, Reason::Pending | Reason::Running);
    let message = Some(succeeded.message.as_str()).filter(|message| !message.is_empty());
    waits.then(|| {
        message.map_or_else(|| succeeded.reason.to_string(), |message| format!("{}: {message}", succeeded.reason))
    })
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner}{msg}  {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A count with its thousands parted by commas.
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_parted() {
        assert_eq!([0, 999, 1000, 1_234_567, -1000].map(grouped), ["0", "999", "1,000", "1,234,567", "-1,000"]);
    }
}
