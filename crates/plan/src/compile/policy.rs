//! Retries, timeouts and resources: of the task, else of `spec.defaults`, else Pintail's own.

use std::time::Duration;

use pintail_api as api;
use pintail_engine::{Backoff, RetryPolicy};

use super::Compiler;
use super::task::Draft;
use crate::model::PlannedResources;
use crate::problem::{FieldPath, Problem};
use crate::{Rule, quantity};

const TIMEOUT: Duration = Duration::from_secs(3600);
/// DuckDB starts in less, and fails in ways that are hard to understand.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
const SCRATCH_BYTES_MIN: u64 = 1 << 20;

pub(super) struct Policy {
    pub retries: RetryPolicy,
    pub timeout: Duration,
    pub resources: PlannedResources,
}

impl Compiler<'_> {
    pub(super) fn policy(&mut self, draft: &Draft) -> Policy {
        let task = draft.task;
        let defaults = self.workflow.spec.defaults.as_ref();
        let default_path = FieldPath::root().field("spec").field("defaults");
        // What is wrong in the defaults is reported once, not for every task.
        let report_defaults = draft.index.0 == 0;
        let problems_before = self.problems.len();
        let default = defaults.map(|defaults| {
            let resources =
                defaults.resources.as_ref().map(|given| self.resources(given, &default_path.field("resources")));
            let retries = defaults.retries.as_ref().map(|given| self.retries(given, &default_path.field("retries")));
            let timeout = defaults.timeout.as_ref().and_then(|given| self.timeout(given, &default_path));
            (retries, timeout, resources)
        });
        if !report_defaults {
            self.problems.truncate(problems_before);
        }
        let (default_retries, default_timeout, default_resources) = default.unwrap_or_default();
        let retries = task.retries.as_ref().map(|given| self.retries(given, &draft.path.field("retries")));
        let timeout = task.timeout.as_ref().and_then(|given| self.timeout(given, &draft.path));
        let own = task.resources.as_ref().map(|given| self.resources(given, &draft.path.field("resources")));
        let (own, other) = (own.unwrap_or_default(), default_resources.unwrap_or_default());
        Policy {
            retries: retries.or(default_retries).unwrap_or_default(),
            timeout: timeout.or(default_timeout).unwrap_or(TIMEOUT),
            resources: PlannedResources {
                cpu_millis: own.cpu_millis.or(other.cpu_millis),
                memory_bytes: own.memory_bytes.or(other.memory_bytes),
                scratch_bytes: own.scratch_bytes.or(other.scratch_bytes),
            },
        }
    }

    fn retries(&mut self, given: &api::Retries, path: &FieldPath) -> RetryPolicy {
        let own = Backoff::default();
        let path = path.field("backoff");
        let backoff = given.backoff.clone().unwrap_or_default();
        let initial = backoff.initial.as_ref().and_then(|text| self.duration(text, &path.field("initial")));
        let max = backoff.max.as_ref().and_then(|text| self.duration(text, &path.field("max")));
        let factor = backoff.factor.and_then(|factor| u32::try_from(factor).ok());
        let initial_or_own = initial.unwrap_or_else(|| max.map_or(own.initial, |max| max.min(own.initial)));
        let max_or_own = max.unwrap_or_else(|| own.max.max(initial_or_own));
        if initial_or_own > max_or_own {
            let message = "the first wait is longer than the longest";
            self.problem(Rule::InvalidDuration, &path.field("max"), message);
        }
        RetryPolicy {
            limit: u32::try_from(given.limit).unwrap_or_default(),
            backoff: Backoff { initial: initial_or_own, factor: factor.unwrap_or(own.factor), max: max_or_own },
        }
    }

    fn timeout(&mut self, text: &str, path: &FieldPath) -> Option<Duration> {
        let path = path.field("timeout");
        let timeout = self.duration(text, &path)?;
        if timeout.is_zero() {
            self.problem(Rule::InvalidDuration, &path, "a timeout of nothing ends every attempt");
        }
        Some(timeout)
    }

    pub(super) fn duration(&mut self, text: &str, path: &FieldPath) -> Option<Duration> {
        quantity::duration(text).map_err(|message| self.problem(Rule::InvalidDuration, path, message)).ok()
    }

    fn resources(&mut self, given: &api::Resources, path: &FieldPath) -> PlannedResources {
        let cpu_millis = given.cpu.as_ref().and_then(|text| {
            let path = path.field("cpu");
            quantity::cpu_millis(text).map_err(|message| self.problem(Rule::InvalidQuantity, &path, message)).ok()
        });
        let memory = given.memory.as_ref().map(|text| (text, "memory", MEMORY_BYTES_MIN));
        let scratch = given.ephemeral_storage.as_ref().map(|text| (text, "ephemeralStorage", SCRATCH_BYTES_MIN));
        let mut bytes = |given: Option<(&String, &str, u64)>| {
            let (text, field, bytes_min) = given?;
            quantity::bytes(text, bytes_min)
                .map_err(|(message, meant)| {
                    self.report(Problem::new(Rule::InvalidQuantity, path.field(field), message).suggest(meant));
                })
                .ok()
        };
        PlannedResources { cpu_millis, memory_bytes: bytes(memory), scratch_bytes: bytes(scratch) }
    }
}
