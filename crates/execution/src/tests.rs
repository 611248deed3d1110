//! Whole runs with a runner that is played: every committed report is made up here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use pintail_api as api;
use pintail_engine::{RunOutcome, TaskIndex};
use pintail_plan::manifest::{Object, parse_manifests};
use pintail_plan::{InputValue, Plan, Surroundings, bind_inputs, compile};
use pintail_protocol as protocol;
use pintail_protocol::{
    Destination, Failure, FailureClass, FileIdentity, NamedValue, PinnedInput, RelationSource, ReportOutcome, Results,
    StoreLocation, StoredFile, TableResult, TaskReport, ValuesResult, WorkOrder,
};
use serde_json::json;

use crate::*;

const MANIFESTS: &str = r#"
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: raw
spec:
  folder:
    path: /data
---
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: mail
spec:
  smtp:
    host: 127.0.0.1
    from: pintail@example.com
    usernameFrom:
      secretKeyRef:
        name: mail
        key: user
    passwordFrom:
      secretKeyRef:
        name: mail
        key: password
---
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata:
  name: check-orders
spec:
  inputs:
    - name: orders
      type: table
      columns:
        - name: id
          type: BIGINT
      default:
        connection: raw
        path: orders-$(inputs.month).csv
    - name: month
      type: VARCHAR
      default: "2026-10"
  tasks:
    - name: bad
      uses:
        - orders
      duckdb:
        query: SELECT * FROM orders WHERE id < 0
    - name: summary
      uses:
        - bad
      duckdb:
        kind: Values
        query: SELECT count(*) AS n, max(id) AS latest FROM bad
    - name: alert
      uses:
        - bad
      with:
        latest: $(tasks.summary.latest)
      when: $(tasks.summary.n > 0)
      notify:
        connection: mail
        to:
          - data@example.com
        subject: $(tasks.summary.n) bad orders of $(inputs.month)
        attach:
          - table: bad
            as: bad.csv
  outputs:
    - name: bad
      value: $(tasks.bad)
      publish:
        artifact: bad_orders
        partition:
          month: $(inputs.month)
"#;

/// Everything that a driver holds, with a clock that steps by a second.
struct World {
    run: Run,
    connections: Connections,
    now: Timestamp,
    started: Vec<WorkOrder>,
}

fn manifests(text: &str) -> (api::Workflow, Connections) {
    let parsed = parse_manifests("check.yaml", text);
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let (mut workflow, mut connections) = (None, Connections::new());
    for document in parsed.documents {
        match document.object {
            Object::Workflow(object) => workflow = Some(*object),
            Object::Connection(object) => {
                connections.insert(sql_name(&object.name_any()), Arc::new(*object));
            }
            other => panic!("{} is not used here", other.kind()),
        }
    }
    (workflow.unwrap(), connections)
}

fn plan_of(text: &str) -> (Plan, Connections) {
    let (workflow, connections) = manifests(text);
    let surroundings = Surroundings { connections: connections.clone(), config_maps: BTreeMap::new() };
    (compile(&workflow, &surroundings).unwrap(), connections)
}

fn context(uid: &str) -> RunContext {
    RunContext {
        namespace: "default".to_owned(),
        name: format!("check-orders-{uid}"),
        uid: uid.to_owned(),
        start_time: Timestamp::UNIX_EPOCH,
        started_by: None,
        store: StoreLocation::Folder { path: "/store".to_owned() },
    }
}

fn inputs(plan: &Plan) -> Vec<BoundInput> {
    let bound = bind_inputs(plan, &BTreeMap::new()).unwrap();
    let source = |value| match value {
        InputValue::Scalar(value) => BoundSource::Scalar(value),
        InputValue::Table(source) => BoundSource::Table(Box::new(source)),
    };
    bound.into_iter().map(|(name, value)| BoundInput { name, source: source(value) }).collect()
}

impl World {
    fn new(uid: &str, reusable: Reusable) -> Self {
        let (plan, connections) = plan_of(MANIFESTS);
        let inputs = inputs(&plan);
        let run = Run::new(plan, context(uid), inputs, reusable).unwrap();
        Self { run, connections, now: Timestamp::UNIX_EPOCH, started: Vec::new() }
    }

    fn step(&mut self, seen: Vec<Seen>) -> Vec<Command> {
        self.now += SignedDuration::from_secs(1);
        let commands = self.run.step(seen, self.now, &self.connections);
        let orders = commands.iter().filter_map(|command| match command {
            Command::Start { order, .. } => Some((**order).clone()),
            Command::Stop { .. } => None,
        });
        self.started.extend(orders);
        commands
    }

    /// Plays a runner that succeeds until the run ends.
    fn finish(&mut self, bad_rows: u64) -> RunOutcome {
        let mut waiting = VecDeque::from(self.step(Vec::new()));
        while self.run.outcome().is_none() {
            let Some(Command::Start { task, attempt, order }) = waiting.pop_front() else {
                panic!("the run waits for nothing")
            };
            let result = Box::new(committed(&order, bad_rows));
            waiting.extend(self.step(vec![Seen::Committed { task, attempt, result }]));
        }
        self.run.outcome().unwrap()
    }

    fn order(&self, task: &str) -> &WorkOrder {
        self.started.iter().rfind(|order| order.identity.task == task).unwrap()
    }

    fn reusable(&self) -> Reusable {
        let names = self.run.plan.tasks.iter().map(|task| task.name.clone()).enumerate();
        let report = |(index, name): (usize, String)| {
            let report = self.run.report(TaskIndex(index as u32))?.clone();
            Some((
                name.clone(),
                CommittedReport { key: format!("{name}/report.json"), digest: "blake3:1".into(), report },
            ))
        };
        names.filter_map(report).collect()
    }
}

fn committed(order: &WorkOrder, bad_rows: u64) -> CommittedReport {
    let mut results = Results::default();
    for output in &order.outputs {
        if output.kind == protocol::OutputKind::Values {
            let value = |name: &str, data_type: &str, value| NamedValue {
                name: name.into(),
                data_type: data_type.into(),
                value,
            };
            let values = vec![value("n", "BIGINT", json!(bad_rows)), value("latest", "HUGEINT", json!("-1"))];
            results.values.push(ValuesResult { name: output.name.clone(), values });
        } else {
            let key = format!("{}/result.parquet", order.identity.task);
            let file = StoredFile { key, bytes: 10, digest: format!("blake3:{bad_rows}") };
            let columns = vec![protocol::ResultColumn { name: "id".into(), data_type: "BIGINT".into() }];
            results.tables.push(TableResult {
                name: output.name.clone(),
                files: vec![file],
                rows: bad_rows,
                bytes: 10,
                columns,
            });
        }
    }
    let found = |relation: &protocol::Relation| match relation.source {
        RelationSource::Files { .. } => {
            Some(PinnedInput { relation: relation.name.clone(), files: vec![found_file()] })
        }
        _ => None,
    };
    let report = TaskReport {
        format: protocol::FORMAT,
        identity: order.identity.clone(),
        pod_uid: "pod".to_owned(),
        reuse_key: order.reuse_key.clone(),
        started_at: Timestamp::UNIX_EPOCH,
        ended_at: Timestamp::UNIX_EPOCH,
        engine: "v1.5.5".to_owned(),
        inputs: order.relations.iter().filter_map(found).collect(),
        reused_from: None,
        outcome: ReportOutcome::Succeeded(results),
    };
    CommittedReport { key: format!("{}/report.json", order.identity.task), digest: "blake3:1".to_owned(), report }
}

fn found_file() -> FileIdentity {
    FileIdentity { path: "orders-2026-10.csv".to_owned(), bytes: 7, version: "1".to_owned() }
}

#[test]
fn an_order_is_whole() {
    let mut world = World::new("u1", Reusable::new());
    assert_eq!(world.finish(14), RunOutcome::Succeeded);
    insta::assert_json_snapshot!(world.started);
}

#[test]
fn a_finished_run_has_a_status_and_an_artifact() {
    let mut world = World::new("u1", Reusable::new());
    world.finish(14);
    let mut status = world.run.status(&[], world.now).unwrap();
    assert!(status.state.take().is_some());
    insta::assert_json_snapshot!(json!({ "status": status, "artifacts": world.run.artifacts() }));
}

#[test]
fn a_condition_that_gives_false_skips_its_task() {
    let mut world = World::new("u1", Reusable::new());
    assert_eq!(world.finish(0), RunOutcome::Succeeded);
    let status = world.run.status(&[], world.now).unwrap();
    let alert = status.task_list.iter().find(|task| task.name == "alert").unwrap();
    assert_eq!((alert.state.as_str(), alert.message.as_deref()), ("Skipped", Some("its condition gave false")));
}

#[test]
fn a_restored_run_goes_on_where_it_was() {
    let mut world = World::new("u1", Reusable::new());
    world.step(Vec::new());
    let order = world.order("bad").clone();
    let result = Box::new(committed(&order, 14));
    let expected = world.step(vec![Seen::Committed { task: TaskIndex(0), attempt: 1, result }]);

    let encoded = world.run.record().unwrap().encode().unwrap();
    let record = RunRecord::decode(&encoded).unwrap();
    let reports = world.reusable().into_iter().map(|(name, result)| (name, result.report)).collect();
    let (plan, connections) = plan_of(MANIFESTS);
    let inputs = inputs(&plan);
    let mut restored = Run::restore(plan, context("u1"), inputs, Reusable::new(), record, reports).unwrap();
    assert_eq!(restored.step(Vec::new(), world.now, &connections), expected);
}

#[test]
fn a_record_of_a_newer_format_is_refused_by_name() {
    let mut record = World::new("u1", Reusable::new()).run.record().unwrap();
    record.format = protocol::FORMAT + 1;
    let error = RunRecord::decode(&record.encode().unwrap()).unwrap_err();
    assert!(matches!(error, RecordError::NewerFormat(_)), "{error}");
}

#[test]
fn a_retry_takes_over_what_is_equal_and_lets_the_runner_look_at_files() {
    let mut before = World::new("u1", Reusable::new());
    before.finish(14);
    let mut after = World::new("u2", before.reusable());
    let commands = after.step(Vec::new());
    // The first task reads files outside the store: only the runner can see whether they are the same.
    let [Command::Start { task, attempt, order }] = commands.as_slice() else { panic!("{commands:?}") };
    let candidate = order.reuse.as_ref().unwrap();
    assert_eq!(candidate.report, "bad/report.json");
    // What follows depends on committed content alone and is taken over without a process.
    let result = Box::new(committed(order, 14));
    let commands = after.step(vec![Seen::Committed { task: *task, attempt: *attempt, result }]);
    assert!(commands.is_empty(), "{commands:?}");
    assert_eq!(after.run.outcome(), Some(RunOutcome::Succeeded));
    let status = after.run.status(&[], after.now).unwrap();
    let alert = status.task_list.iter().find(|task| task.name == "alert").unwrap();
    assert_eq!(alert.reused_from.as_deref(), Some("check-orders-u1"));
}

#[test]
fn a_retry_with_other_content_takes_nothing_over() {
    let mut before = World::new("u1", Reusable::new());
    before.finish(14);
    let mut after = World::new("u2", before.reusable());
    after.step(Vec::new());
    let order = after.order("bad").clone();
    let result = Box::new(committed(&order, 15));
    let commands = after.step(vec![Seen::Committed { task: TaskIndex(0), attempt: 1, result }]);
    assert!(matches!(commands.as_slice(), [Command::Start { order, .. }] if order.reuse.is_none()), "{commands:?}");
}

#[test]
fn files_that_a_failed_attempt_found_are_pinned_for_the_next() {
    let mut world = World::new("u1", Reusable::new());
    world.step(Vec::new());
    let report = Box::new(committed(world.order("bad"), 1).report);
    let failure = Failure { class: FailureClass::Infrastructure, reason: "Lost".into(), message: "gone".into() };
    let seen = Seen::Failed { task: TaskIndex(0), attempt: 1, failure, report: Some(report), at: world.now };
    assert!(world.step(vec![seen]).is_empty());
    world.now = world.run.wake().unwrap();
    world.step(Vec::new());
    let order = world.order("bad");
    assert_eq!(order.identity.attempt, 2);
    let RelationSource::Files { pinned, .. } = &order.relations[0].source else { panic!("{:?}", order.relations) };
    assert_eq!(pinned.as_deref(), Some([found_file()].as_slice()));
}

#[test]
fn an_expression_that_fails_fails_its_task_with_its_text() {
    let text = MANIFESTS.replace("$(tasks.summary.n > 0)", "$(tasks.summary.n / 0 > 0)");
    let (plan, connections) = plan_of(&text);
    let inputs = inputs(&plan);
    let run = Run::new(plan, context("u1"), inputs, Reusable::new()).unwrap();
    let mut world = World { run, connections, now: Timestamp::UNIX_EPOCH, started: Vec::new() };
    assert_eq!(world.finish(14), RunOutcome::Failed(TaskIndex(2)));
    let status = world.run.status(&[], world.now).unwrap();
    assert_eq!(status.failures[0].reason, "ConditionFailed");
    assert!(status.failures[0].message.contains("tasks.summary.n / 0"), "{}", status.failures[0].message);
    assert!(world.run.artifacts().is_empty(), "a failed run publishes nothing");
}

#[test]
fn a_published_result_goes_to_its_dataset_from_the_start() {
    let mut world = World::new("u1", Reusable::new());
    world.step(Vec::new());
    let Destination::Artifact { dataset, artifact_id } = &world.order("bad").outputs[0].destination else {
        panic!("{:?}", world.order("bad").outputs)
    };
    let month = BTreeMap::from([("month".to_owned(), "2026-10".to_owned())]);
    assert_eq!((dataset.as_str(), artifact_id), ("bad_orders", &artifact_name("bad_orders", "u1", "bad", &month)));
}

#[test]
fn a_connection_that_is_gone_fails_the_task_that_needs_it() {
    let mut world = World::new("u1", Reusable::new());
    world.connections.remove("raw");
    assert!(world.step(Vec::new()).is_empty());
    assert_eq!(world.run.outcome(), Some(RunOutcome::Failed(TaskIndex(0))));
    let status = world.run.status(&[], world.now).unwrap();
    assert_eq!(status.failures[0].message, "there is no Connection \"raw\"");
}

const LOAD: &str = r#"
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: shop
spec:
  duckdb:
    path: /data/shop.duckdb
    busyTimeout: 10s
---
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata:
  name: fill
spec:
  tasks:
    - name: fill
      writes:
        - shop
      duckdb:
        query: SELECT 1 AS one
        load:
          into: shop.ones
          mode: Replace
"#;

#[test]
fn a_locked_database_is_waited_for_as_long_as_its_connection_allows() {
    let (plan, connections) = plan_of(LOAD);
    let run = Run::new(plan, context("u1"), Vec::new(), Reusable::new()).unwrap();
    let mut world = World { run, connections, now: Timestamp::UNIX_EPOCH, started: Vec::new() };
    world.step(Vec::new());
    let mut first = None;
    while world.run.outcome().is_none() {
        let attempt = world.order("fill").identity.attempt;
        let failure = Failure { class: FailureClass::Busy, reason: "Busy".into(), message: "locked by 7".into() };
        first.get_or_insert(world.now);
        world.step(vec![Seen::Failed { task: TaskIndex(0), attempt, failure, report: None, at: world.now }]);
        world.now = world.run.wake().unwrap_or(world.now);
        world.step(Vec::new());
    }
    let waited = world.now.duration_since(first.unwrap()).as_secs();
    assert!((10..20).contains(&waited), "waited {waited} s");
    let status = world.run.status(&[], world.now).unwrap();
    assert_eq!(status.failures.len(), 1, "waiting is no failure: {:?}", status.failures);
    assert!(status.failures[0].message.contains("busyTimeout"), "{}", status.failures[0].message);
}

#[test]
fn a_task_took_as_long_as_its_report_says() {
    let (plan, connections) = plan_of(LOAD);
    let run = Run::new(plan, context("u1"), Vec::new(), Reusable::new()).unwrap();
    let mut world = World { run, connections, now: Timestamp::UNIX_EPOCH, started: Vec::new() };
    world.step(Vec::new());
    // As a kubelet tells it, in whole seconds.
    let at = world.now;
    world.step(vec![Seen::Started { task: TaskIndex(0), attempt: 1, at }]);
    let mut result = committed(world.order("fill"), 1);
    result.report.started_at = at + SignedDuration::from_millis(600);
    result.report.ended_at = at + SignedDuration::from_millis(900);
    world.step(vec![Seen::Committed { task: TaskIndex(0), attempt: 1, result: Box::new(result) }]);
    let status = world.run.status(&[], world.now).unwrap();
    assert_eq!(status.task_list[0].duration.as_deref(), Some("300ms"));
}

#[test]
fn a_long_failure_is_cut_to_what_an_api_server_takes() {
    let (plan, connections) = plan_of(LOAD);
    let run = Run::new(plan, context("u1"), Vec::new(), Reusable::new()).unwrap();
    let mut world = World { run, connections, now: Timestamp::UNIX_EPOCH, started: Vec::new() };
    world.step(Vec::new());
    let failure = Failure { class: FailureClass::Permanent, reason: "BinderError".into(), message: "x".repeat(3000) };
    world.step(vec![Seen::Failed { task: TaskIndex(0), attempt: 1, failure, report: None, at: world.now }]);
    let status = world.run.status(&[], world.now).unwrap();
    let message = status.task_list[0].message.clone().unwrap();
    assert!(message.starts_with("BinderError: xxx") && message.len() <= 1024, "{}", message.len());
    assert_eq!(status.failures[0].message.len(), 3000);
}

#[test]
fn a_run_that_is_restored_has_waited_for_a_lock_all_the_same() {
    let (plan, connections) = plan_of(LOAD);
    let run = Run::new(plan, context("u1"), Vec::new(), Reusable::new()).unwrap();
    let mut world = World { run, connections, now: Timestamp::UNIX_EPOCH, started: Vec::new() };
    world.step(Vec::new());
    for _ in 0..100 {
        let attempt = world.order("fill").identity.attempt;
        let failure = Failure { class: FailureClass::Busy, reason: "Busy".into(), message: "locked by 7".into() };
        world.step(vec![Seen::Failed { task: TaskIndex(0), attempt, failure, report: None, at: world.now }]);
        if world.run.outcome().is_some() {
            break;
        }
        world.now = world.run.wake().unwrap_or(world.now);
        let record = RunRecord::decode(&world.run.record().unwrap().encode().unwrap()).unwrap();
        let plan = plan_of(LOAD).0;
        world.run = Run::restore(plan, context("u1"), Vec::new(), Reusable::new(), record, BTreeMap::new()).unwrap();
        world.step(Vec::new());
    }
    assert!(world.run.outcome().is_some(), "it waits for ever");
}

#[test]
fn an_attempt_that_took_too_long_is_said_to_have() {
    let (plan, connections) = plan_of(&LOAD.replace("      writes:", "      timeout: 2s\n      writes:"));
    let run = Run::new(plan, context("u1"), Vec::new(), Reusable::new()).unwrap();
    let mut world = World { run, connections, now: Timestamp::UNIX_EPOCH, started: Vec::new() };
    world.step(Vec::new());
    world.step(vec![Seen::Started { task: TaskIndex(0), attempt: 1, at: world.now }]);
    world.now = world.run.wake().unwrap();
    let commands = world.step(Vec::new());
    assert!(matches!(commands.as_slice(), [Command::Stop { .. }]), "{commands:?}");
    let failure = Failure { class: FailureClass::Interrupted, reason: "Interrupted".into(), message: "told to".into() };
    world.step(vec![Seen::Failed { task: TaskIndex(0), attempt: 1, failure, report: None, at: world.now }]);
    let status = world.run.status(&[], world.now).unwrap();
    assert_eq!(status.failures[0].reason, "Timeout");
    assert!(status.failures[0].message.contains("`timeout` of 2s"), "{}", status.failures[0].message);
}

#[test]
fn an_attempt_that_ran_out_of_time_while_nobody_looked_is_said_to_have() {
    for (seconds, reason) in [(2, "Timeout"), (1, "Interrupted")] {
        let (plan, connections) = plan_of(&LOAD.replace("      writes:", "      timeout: 2s\n      writes:"));
        let run = Run::new(plan, context("u1"), Vec::new(), Reusable::new()).unwrap();
        let mut world = World { run, connections, now: Timestamp::UNIX_EPOCH, started: Vec::new() };
        world.step(Vec::new());
        let started = Seen::Started { task: TaskIndex(0), attempt: 1, at: world.now };
        world.now += SignedDuration::from_secs(seconds);
        let failure =
            Failure { class: FailureClass::Interrupted, reason: "Interrupted".into(), message: "told to".into() };
        let ended = Seen::Failed { task: TaskIndex(0), attempt: 1, failure, report: None, at: world.now };
        world.step(vec![started, ended]);
        let status = world.run.status(&[], world.now).unwrap();
        assert_eq!(status.failures[0].reason, reason);
        assert_eq!(status.task_list[0].state == "Failed", reason == "Timeout", "a timeout costs a retry of the task");
    }
}

const TWO_READERS: &str = r#"
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: raw
spec:
  folder:
    path: /data
---
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: lake
spec:
  duckdb:
    path: /data/lake.duckdb
---
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata:
  name: two-readers
spec:
  inputs:
    - name: orders
      type: table
      default:
        connection: raw
        path: "*.csv"
  tasks:
    - name: loaded
      uses:
        - orders
      writes:
        - lake
      duckdb:
        query: SELECT * FROM orders
        load:
          into: lake.orders
          mode: Append
    - name: counted
      uses:
        - orders
      duckdb:
        query: SELECT count(*) AS n FROM orders
    - name: total
      uses:
        - loaded
      duckdb:
        query: SELECT count(*) AS n FROM loaded
"#;

fn two_readers(uid: &str, reusable: Reusable) -> World {
    let (plan, connections) = plan_of(TWO_READERS);
    let inputs = inputs(&plan);
    let run = Run::new(plan, context(uid), inputs, reusable).unwrap();
    World { run, connections, now: Timestamp::UNIX_EPOCH, started: Vec::new() }
}

#[test]
fn two_tasks_that_found_different_files_of_one_input_do_not_both_count() {
    let mut world = two_readers("u1", Reusable::new());
    world.step(Vec::new());
    let first = Box::new(committed(world.order("loaded"), 1));
    let mut second = Box::new(committed(world.order("counted"), 1));
    second.report.inputs[0].files[0].version = "2".to_owned();
    world.step(vec![Seen::Committed { task: TaskIndex(0), attempt: 1, result: first }]);
    world.step(vec![Seen::Committed { task: TaskIndex(1), attempt: 1, result: second }]);
    let status = world.run.status(&[], world.now).unwrap();
    assert_eq!(status.failures[0].reason, "InputChanged", "{:?}", status.failures);
}

#[test]
fn what_reads_a_table_is_taken_over_only_if_its_load_was() {
    let mut before = two_readers("u1", Reusable::new());
    before.finish(1);
    for loaded_again in [true, false] {
        let mut after = two_readers("u2", before.reusable());
        after.step(Vec::new());
        let mut result = Box::new(committed(after.order("loaded"), 1));
        if !loaded_again {
            result.report.reused_from = Some("check-orders-u1".to_owned());
        }
        let commands = after.step(vec![Seen::Committed { task: TaskIndex(0), attempt: 1, result }]);
        assert_eq!(commands.is_empty(), !loaded_again, "{commands:?}");
    }
}
