//! What a pass costs must follow from what changed; `make bench` measures it, and here the shape is checked.

use super::script::{at, node, restored};
use crate::state::RecordedState;
use crate::*;

const MANY: u32 = 20_000;

#[test]
fn twenty_thousand_items_run_to_the_end_and_record_in_little_room() {
    let mut task = node("a");
    task.locks.push(Lock { resource: "file".to_owned(), mode: LockMode::Shared });
    let graph = Graph { tasks: vec![task], on_failure: OnFailure::Finish, max_running: 100, held: false };
    let unstarted = RecordedState::unstarted(std::iter::once(MANY as usize));
    let mut decision = advance(&graph, RunState::restore(&graph, unstarted).unwrap(), &[], at(0));
    let mut started = 0;
    while decision.outcome.is_none() {
        started += decision.actions.len();
        let ended: Vec<Event> = decision.actions.iter().map(ended_well).collect();
        assert!(ended.len() <= 100);
        decision = advance(&graph, decision.state, &ended, at(1));
    }
    assert_eq!(started, MANY as usize);
    assert_eq!(decision.outcome, Some(RunOutcome::Succeeded));
    assert_eq!(decision.state.task(TaskIndex(0)).unwrap().counts.succeeded, MANY);
    assert!(serde_json::to_string(decision.state.recorded()).unwrap().len() < 200);
    assert_eq!(restored(&graph, &decision.state).recorded(), decision.state.recorded());
}

#[test]
fn twenty_thousand_writers_of_one_file_run_one_after_another() {
    let mut task = node("a");
    task.locks.push(Lock { resource: "file".to_owned(), mode: LockMode::Exclusive });
    let graph =
        Graph { tasks: vec![task; MANY as usize], on_failure: OnFailure::Finish, max_running: 100, held: false };
    let mut decision = advance(&graph, RunState::new(&graph), &[], at(0));
    for position in 0..MANY {
        let [action @ Action::Start { task, .. }] = decision.actions.as_slice() else {
            panic!("{:?}", decision.actions)
        };
        assert_eq!(task.0, position);
        decision = advance(&graph, decision.state, &[ended_well(action)], at(1));
    }
    assert_eq!(decision.outcome, Some(RunOutcome::Succeeded));
}

#[test]
fn a_chain_of_twenty_thousand_is_skipped_in_one_pass() {
    let tasks = (0..MANY).map(|position| {
        let mut task = node("a");
        if let Some(before) = position.checked_sub(1) {
            task.needs.push(Need { task: TaskIndex(before), kind: NeedKind::Result });
        }
        task
    });
    let graph = Graph { tasks: tasks.collect(), on_failure: OnFailure::Finish, max_running: 100, held: false };
    let state = advance(&graph, RunState::new(&graph), &[], at(0)).state;
    let failed = Event::Ended { task: TaskIndex(0), item: ItemIndex(0), attempt: 1, outcome: Outcome::Permanent };
    let decision = advance(&graph, state, &[failed], at(1));
    assert_eq!(decision.outcome, Some(RunOutcome::Failed(TaskIndex(0))));
    let last = decision.state.phase(TaskIndex(MANY - 1), ItemIndex(0));
    assert_eq!(last, Some(Phase::Skipped { why: SkipReason::Failed(TaskIndex(0)) }));
}

#[test]
fn a_recorded_state_that_claims_too_many_items_is_refused() {
    let text = r#"{"tasks":[{"items":[[19999,{"phase":"Waiting"}],[2,{"phase":"Cancelled"}]]}],"first_failure":null,"cancelled":false}"#;
    let error = serde_json::from_str::<RecordedState>(text).unwrap_err().to_string();
    assert!(error.contains("a task has more than 20000 items"), "{error}");
}

#[test]
fn a_recorded_state_of_another_graph_is_refused() {
    let graph =
        |count| Graph { tasks: vec![node("a"); count], on_failure: OnFailure::Finish, max_running: 1, held: false };
    let recorded = RunState::new(&graph(2)).recorded().clone();
    let error = RunState::restore(&graph(1), recorded).unwrap_err();
    assert_eq!(error, RestoreError::Tasks { recorded: 2, expected: 1 });
    let error = RunState::restore(&graph(1), RecordedState::unstarted([0].into_iter())).unwrap_err();
    assert_eq!(error, RestoreError::NoItems { task: "a".to_owned() });
}

#[test]
fn an_impossible_graph_waits_and_does_not_panic() {
    let mut lost = node("lost");
    lost.needs.push(Need { task: TaskIndex(9), kind: NeedKind::Order });
    let mut itself = node("itself");
    itself.needs.push(Need { task: TaskIndex(1), kind: NeedKind::Result });
    let graph = Graph { tasks: vec![lost, itself], on_failure: OnFailure::Finish, max_running: 0, held: false };
    let decision = advance(&graph, RunState::new(&graph), &[], at(0));
    assert_eq!((decision.actions.len(), decision.outcome), (0, None));
    let decision = advance(&Graph { tasks: Vec::new(), ..graph }, decision.state, &[Event::CancelRequested], at(0));
    assert!(decision.actions.is_empty());
}

fn ended_well(action: &Action) -> Event {
    let Action::Start { task, item, attempt } = *action else { panic!("{action:?}") };
    Event::Ended { task, item, attempt, outcome: Outcome::Succeeded }
}
