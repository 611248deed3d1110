use std::sync::Arc;

use serde_json::from_value;

use super::*;

fn execution(reason: &str, status: Value) -> api::Execution {
    let truth = if reason == "Succeeded" { "True" } else { "False" };
    let condition = |kind: &str| json!({ "type": kind, "status": truth, "reason": reason, "message": "", "lastTransitionTime": "2026-11-28T02:01:03Z" });
    let mut document = json!({
        "apiVersion": "pintail.dev/v1alpha1", "kind": "Execution",
        "metadata": { "name": "summary-abcdefghij", "namespace": "data", "uid": "u-1" },
        "spec": {
            "workflowRef": { "name": "retail-summary" },
            "inputs": { "password": "input-canary" },
            "trigger": {
                "plan": "summary", "name": "nightly", "occurrence": "2026-11-28T02:00:00Z", "time": "2026-11-28T02:00:00Z",
            },
        },
        "status": {
            "conditions": [condition("Succeeded")],
            "completionTime": "2026-11-28T02:01:03Z",
            "notifications": [
                { "connection": "mail", "to": ["data@example.com"], "state": "Pending", "attempt": 0 },
                { "connection": "chat", "state": "Pending", "attempt": 0 },
            ],
        },
    });
    if let (Some(old), Value::Object(new)) = (document["status"].as_object_mut(), status) {
        old.extend(new);
    }
    from_value(document).unwrap()
}

fn ran() -> Value {
    json!({
        "resolved": { "revision": "retail-summary-1a2b", "inputs": [{ "name": "password", "value": "input-canary" }] },
        "startTime": "2026-11-28T02:00:00Z", "duration": "1m3s", "progress": "4/4",
        "outputs": [
            { "name": "trends", "type": "table", "rows": 812, "artifact": "sales-trends-x" },
            { "name": "secret", "type": "scalar", "value": "output-canary" },
        ],
    })
}

fn failed() -> Value {
    let mut status = ran();
    let failure = |task: &str, attempt, reason: &str, message: &str| json!({ "task": task, "attempt": attempt, "reason": reason, "message": message });
    status["outputs"] = json!([]);
    status["progress"] = json!("2/4");
    status["taskList"] = json!([
        { "name": "recent", "state": "Succeeded", "attempt": 2 },
        { "name": "cleaned", "state": "Failed", "attempt": 1 },
    ]);
    status["failures"] = json!([
        failure("recent", 1, "Evicted", "the node evicted the pod"),
        failure("cleaned", 1, "BinderError", "query `result`: column \"totl\" not found\nCandidates: \"total\""),
    ]);
    status
}

fn connections() -> Connections {
    let mail = json!({
        "smtp": {
            "host": "mail.example.com", "from": "pintail@example.com",
            "usernameFrom": { "secretKeyRef": { "name": "mail", "key": "user" } },
            "passwordFrom": { "secretKeyRef": { "name": "mail", "key": "password" } },
        },
    });
    let chat = json!({ "webhook": { "urlFrom": { "secretKeyRef": { "name": "chat", "key": "url" } } } });
    let connection =
        |name: &str, spec| (name.to_owned(), Arc::new(api::Connection::new(name, from_value(spec).unwrap())));
    Connections::from([connection("mail", mail), connection("chat", chat)])
}

fn order(execution: &api::Execution, index: usize, attempt: u32) -> Result<protocol::WorkOrder, Failure> {
    let (store, connections) = (StoreLocation::S3 { bucket: "lake".to_owned(), prefix: String::new() }, connections());
    let place = NotificationPlace { store: &store, connections: &connections, flags: " -n data" };
    notification_order(execution, index, attempt, &place)
}

fn work(execution: &api::Execution) -> protocol::NotifyWork {
    match order(execution, 0, 1).unwrap().work {
        protocol::Work::Notify(work) => work,
        other => panic!("{other:?}"),
    }
}

fn text(execution: &api::Execution) -> String {
    let work = work(execution);
    format!("{}\n\n{}", work.subject, work.body)
}

fn failure(class: FailureClass) -> Failure {
    Failure { class, reason: "ConnectionFailed".to_owned(), message: "refused".to_owned() }
}

fn now() -> Timestamp {
    "2026-11-28T02:02:00Z".parse().unwrap()
}

#[test]
fn a_success_is_told_with_what_came_of_it() {
    insta::assert_snapshot!(text(&execution("Succeeded", ran())));
}

#[test]
fn a_failure_is_told_with_its_task_its_reason_and_where_to_look() {
    let execution = execution("TaskFailed", failed());
    insta::assert_snapshot!(text(&execution));
    let log = work(&execution).log.unwrap();
    assert_eq!((log.task.as_str(), log.lines), ("cleaned", 20));
}

#[test]
fn a_run_that_never_started_has_failed_and_has_no_log() {
    let mut execution = execution("StartDeadlineExceeded", json!({}));
    let conditions = &mut execution.status.as_mut().unwrap().conditions;
    conditions[0].message = "waited in vain: there is no Workflow retail-summary".to_owned();
    insta::assert_snapshot!(text(&execution));
    assert_eq!(work(&execution).log, None);
}

#[test]
fn programs_are_told_in_the_attributes_and_data_of_a_cloud_event() {
    insta::assert_json_snapshot!(work(&execution("TaskFailed", failed())).event);
}

#[test]
fn no_value_of_inputs_or_outputs_and_no_secret_is_in_an_order() {
    for (reason, status) in [("Succeeded", ran()), ("TaskFailed", failed())] {
        for index in [0, 1] {
            let order = serde_json::to_string(&order(&execution(reason, status.clone()), index, 1).unwrap()).unwrap();
            assert!(!order.contains("canary"), "{order}");
        }
    }
}

#[test]
fn every_attempt_has_the_id_of_its_message_and_every_message_another() {
    let execution = execution("Succeeded", ran());
    let id = |index, attempt| match order(&execution, index, attempt).unwrap() {
        protocol::WorkOrder { work: protocol::Work::Notify(work), identity, .. } => {
            assert_eq!((identity.task, identity.attempt), (format!("notify-{index}"), attempt));
            work.message_id
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(id(0, 1), id(0, 5));
    assert_ne!(id(0, 1), id(1, 1));
}

#[test]
fn only_who_asked_for_the_phase_is_told() {
    use api::NotificationPhase::{Failed, Succeeded};
    let asked = |phases: &[api::NotificationPhase], connection: &str| api::PlanNotification {
        phases: phases.to_vec(),
        connection: connection.to_owned(),
        to: Vec::new(),
    };
    let plan = [asked(&[Failed], "a"), asked(&[Succeeded], "b"), asked(&[Failed, Succeeded], "c")];
    let told = |reason: &str| -> Vec<String> {
        let status = execution(reason, ran()).status.unwrap();
        notifications(&plan, &status).into_iter().map(|told| told.connection).collect()
    };
    assert_eq!(told("Succeeded"), ["b", "c"]);
    for reason in ["TaskFailed", "InvalidInputs", "StartDeadlineExceeded", "PublishFailed"] {
        assert_eq!(told(reason), ["a", "c"], "{reason}");
    }
    for reason in ["Cancelled", "Skipped", "AlreadyStarted"] {
        assert_eq!(told(reason), Vec::<String>::new(), "{reason}");
    }
    let mut running = execution("Succeeded", ran()).status.unwrap();
    running.completion_time = None;
    assert_eq!(notifications(&plan, &running), []);
}

#[test]
fn a_message_is_tried_five_times_ever_later() {
    let mut told = api::NotificationStatus { state: PENDING.to_owned(), ..api::NotificationStatus::default() };
    let mut waits = Vec::new();
    while let Some(attempt) = next_attempt(&told) {
        told = attempt_ended(&told, Err(&failure(FailureClass::Transient)), now());
        assert_eq!(told.attempt, i32::try_from(attempt).unwrap());
        let next: Option<Timestamp> = told.next_attempt_time.as_deref().map(|time| time.parse().unwrap());
        waits.extend(next.map(|next| next.duration_since(now()).as_secs()));
    }
    assert_eq!(waits, [10, 60, 300, 900]);
    assert_eq!((told.state.as_str(), told.attempt), (FAILED, 5));
    assert_eq!(told.message.as_deref(), Some("ConnectionFailed: refused"));
}

#[test]
fn what_cannot_be_mended_fails_at_once_and_what_is_sent_is_sent() {
    let told = api::NotificationStatus { state: PENDING.to_owned(), attempt: 1, ..api::NotificationStatus::default() };
    let rejected = attempt_ended(&told, Err(&failure(FailureClass::Permanent)), now());
    assert_eq!((rejected.state.as_str(), rejected.attempt, rejected.next_attempt_time), (FAILED, 2, None));
    let again = attempt_ended(&told, Err(&failure(FailureClass::Busy)), now());
    assert_eq!(again.state, PENDING);
    let sent = attempt_ended(&again, Ok(()), now());
    assert_eq!((sent.state.as_str(), sent.attempt, sent.message, sent.next_attempt_time), (SENT, 3, None, None));
}

#[test]
fn a_missing_connection_is_told_by_the_name_of_its_object() {
    let mut execution = execution("Succeeded", ran());
    execution.status.as_mut().unwrap().notifications[0].connection = "news_letter".to_owned();
    let failure = order(&execution, 0, 1).unwrap_err();
    assert_eq!((failure.class, failure.reason.as_str()), (FailureClass::Permanent, "ConnectionMissing"));
    assert!(failure.message.contains("\"news-letter\""), "{}", failure.message);
}
