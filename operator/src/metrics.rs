//! What the operator counts, as `docs/reference/metrics.md` lists it. No label holds the name of an object: labels are
//! words of the program's own, so that their number is bounded.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Reconciles take milliseconds where nothing changes and seconds where the API server throttles.
const RECONCILE_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Steps are aimed at fractions of a second; minutes mean that something is stuck.
const STEP_SECONDS: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The counters of one operator. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    reconciles: IntCounterVec,
    reconcile_seconds: HistogramVec,
    pods_created: IntCounter,
    attempts: IntCounterVec,
    executions: IntCounterVec,
    executions_active: IntGauge,
    tasks_waiting: IntGaugeVec,
    step_seconds: HistogramVec,
    launches: IntCounterVec,
    launch_seconds: HistogramVec,
    api_requests: IntCounterVec,
    leader: IntGauge,
    /// Per uid of an execution that has not ended: how many of its tasks wait, by reason.
    active: Mutex<HashMap<String, BTreeMap<&'static str, i64>>>,
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// The object is as it should be for now.
    Done,
    /// The object was newer than what was read; it is reconciled again.
    Conflict,
    /// It failed, and is tried again later.
    Failed,
}

impl Reconciled {
    fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

impl Metrics {
    /// Counters that stand at zero.
    ///
    /// # Errors
    /// Where two of them have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let inner = Inner {
            reconciles: counters(&registry, "reconciles_total", "Reconciles that ended.", &["kind", "outcome"])?,
            reconcile_seconds: histograms(
                &registry,
                "reconcile_seconds",
                "Duration of a reconcile.",
                &["kind"],
                RECONCILE_SECONDS,
            )?,
            pods_created: register(
                &registry,
                IntCounter::new("pintail_pods_created_total", "Pods of task attempts that were created.")?,
            )?,
            attempts: counters(&registry, "attempts_total", "Task attempts that ended.", &["outcome"])?,
            executions: counters(&registry, "executions_total", "Executions that ended.", &["outcome"])?,
            executions_active: gauge(&registry, "executions_active", "Executions that have not ended.")?,
            tasks_waiting: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("pintail_tasks_waiting", "Tasks that wait for something outside the workflow."),
                    &["reason"],
                )?,
            )?,
            step_seconds: histograms(
                &registry,
                "step_seconds",
                "Time from what set a step off to the operator's answer.",
                &["step"],
                STEP_SECONDS,
            )?,
            launches: counters(&registry, "launches_total", "Executions that LaunchPlans created.", &["trigger"])?,
            launch_seconds: histograms(
                &registry,
                "launch_seconds",
                "Time from what happened to the creation of its Execution.",
                &["trigger"],
                STEP_SECONDS,
            )?,
            api_requests: counters(
                &registry,
                "api_requests_total",
                "Requests to the Kubernetes API.",
                &["verb", "resource", "code"],
            )?,
            leader: gauge(&registry, "leader", "1 where this replica leads, 0 where it stands by.")?,
            active: Mutex::default(),
            registry,
        };
        process_metrics(&inner.registry)?;
        Ok(Self(Arc::new(inner)))
    }

    /// A reconcile of `kind` (as in `Execution`) ended.
    pub fn reconciled(&self, kind: &'static str, outcome: Reconciled, elapsed: Duration) {
        self.0.reconciles.with_label_values(&[kind, outcome.label()]).inc();
        self.0.reconcile_seconds.with_label_values(&[kind]).observe(elapsed.as_secs_f64());
    }

    /// An Execution was created for an occurrence of a trigger (`schedule`, `artifacts`, `object`, `event`), so long after it
    /// happened.
    pub fn launched(&self, trigger: &'static str, lag: Option<Duration>) {
        self.0.launches.with_label_values(&[trigger]).inc();
        if let Some(lag) = lag {
            self.0.launch_seconds.with_label_values(&[trigger]).observe(lag.as_secs_f64());
        }
    }

    /// A pod was created for an attempt.
    pub fn pod_created(&self) {
        self.0.pods_created.inc();
    }

    /// An attempt was recorded as ended: `succeeded`, or the class of its failure in lower case.
    pub fn attempt_ended(&self, outcome: &'static str) {
        self.0.attempts.with_label_values(&[outcome]).inc();
    }

    /// An execution was recorded as ended: `succeeded`, `failed` or `cancelled`.
    pub fn execution_ended(&self, outcome: &'static str) {
        self.0.executions.with_label_values(&[outcome]).inc();
    }

    /// An execution has not ended, and so many of its tasks wait, by reason (as in `Unschedulable`).
    pub fn execution_active(&self, uid: &str, waiting: BTreeMap<&'static str, i64>) {
        let mut active = self.active();
        active.insert(uid.to_owned(), waiting);
        self.show(&active);
    }

    /// An execution has ended or is gone. It may have been so before.
    pub fn execution_inactive(&self, uid: &str) {
        let mut active = self.active();
        if active.remove(uid).is_some() {
            self.show(&active);
        }
    }

    /// The operator answered: `start` from the end of an attempt to the pod that it set off, `record` from its end to the
    /// written status.
    pub fn stepped(&self, step: &'static str, lag: Duration) {
        self.0.step_seconds.with_label_values(&[step]).observe(lag.as_secs_f64());
    }

    /// A request to the Kubernetes API was answered with this status, or not at all (`None`). `verb` and `resource` are
    /// those of the program, never of a user.
    pub(crate) fn api_request(&self, verb: &str, resource: &str, code: Option<u16>) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        self.0.api_requests.with_label_values(&[verb, resource, &code]).inc();
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
    }

    /// All of it, in the text format of Prometheus.
    ///
    /// # Errors
    /// Where a counter cannot be written as text.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }

    fn active(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<&'static str, i64>>> {
        self.0.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, active: &HashMap<String, BTreeMap<&'static str, i64>>) {
        self.0.executions_active.set(i64::try_from(active.len()).unwrap_or(i64::MAX));
        let mut reasons: BTreeMap<&str, i64> = BTreeMap::new();
        for (reason, count) in active.values().flatten() {
            *reasons.entry(reason).or_default() += count;
        }
        // A reason that nothing waits for any more has no line, rather than one of zero for ever.
        self.0.tasks_waiting.reset();
        for (reason, count) in reasons {
            self.0.tasks_waiting.with_label_values(&[reason]).set(count);
        }
    }
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    register(registry, IntCounterVec::new(Opts::new(format!("pintail_{name}"), help), labels)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(registry, IntGauge::new(format!("pintail_{name}"), help)?)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> Result<HistogramVec, prometheus::Error> {
    let options = HistogramOpts::new(format!("pintail_{name}"), help).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(options, labels)?)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Processor time, memory and open files of this process.
fn process_metrics(registry: &Registry) -> Result<(), prometheus::Error> {
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn used() -> Metrics {
        let metrics = Metrics::new().unwrap();
        metrics.reconciled("Execution", Reconciled::Done, Duration::from_millis(3));
        metrics.pod_created();
        metrics.attempt_ended("succeeded");
        metrics.execution_ended("succeeded");
        metrics.execution_active("uid", BTreeMap::from([("Unschedulable", 2)]));
        metrics.stepped("start", Duration::from_millis(30));
        metrics.launched("schedule", Some(Duration::from_millis(5)));
        metrics.api_request("create", "pods", Some(201));
        metrics.leads(true);
        metrics
    }

    #[test]
    fn the_page_lists_every_metric_with_its_labels_and_no_other() {
        let page = include_str!("../../docs/reference/metrics.md");
        let listed: BTreeSet<String> =
            page.lines().filter_map(|line| line.strip_prefix("| `")).map(first_two_columns).collect();
        let counted: BTreeSet<String> = used().0.registry.gather().iter().map(name_and_labels).collect();
        assert_eq!(listed, counted);
    }

    /// `name (labels)`, of a row without its beginning.
    fn first_two_columns(row: &str) -> String {
        let mut columns = row.split('|').map(|column| column.trim().replace('`', ""));
        format!("{} ({})", columns.next().unwrap(), columns.next().unwrap())
    }

    fn name_and_labels(family: &prometheus::proto::MetricFamily) -> String {
        let mut labels: Vec<_> =
            family.get_metric()[0].get_label().iter().map(|label| label.name().to_owned()).collect();
        labels.sort();
        format!("{} ({})", family.name(), labels.join(", "))
    }

    #[test]
    fn executions_that_ended_are_no_longer_active_and_wait_for_nothing() {
        let metrics = used();
        metrics.execution_active("other", BTreeMap::from([("Unschedulable", 1), ("QuotaExceeded", 1)]));
        let text = metrics.text().unwrap();
        assert!(text.contains("pintail_executions_active 2\n"), "{text}");
        assert!(text.contains("pintail_tasks_waiting{reason=\"Unschedulable\"} 3\n"), "{text}");

        metrics.execution_inactive("other");
        metrics.execution_inactive("other");
        let text = metrics.text().unwrap();
        assert!(text.contains("pintail_executions_active 1\n"), "{text}");
        assert!(text.contains("pintail_tasks_waiting{reason=\"Unschedulable\"} 2\n"), "{text}");
        assert!(!text.contains("QuotaExceeded"), "{text}");
    }
}
