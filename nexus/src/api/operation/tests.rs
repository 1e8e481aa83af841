//! Sagas and logs of every kind, as callers see them.

use super::*;
use chrono::TimeDelta;
use db_model::types::SagaEventKind;
use serde_json::json;

fn saga(state: SagaState, error: Option<Value>) -> Saga {
    let time = DateTime::from_timestamp(1, 0).unwrap();
    let finished = !matches!(state, SagaState::Running | SagaState::Unwinding);
    Saga {
        id: Uuid::from_u128(1),
        name: "instance-create".into(),
        definition_hash: String::new(),
        params: json!({}),
        state,
        executor_id: Uuid::nil(),
        generation: 1,
        request_id: "request-1".into(),
        project_id: Some(Uuid::from_u128(2)),
        resource_kind: types::ResourceKind::Instance,
        resource_id: Uuid::from_u128(3),
        resource_name: "a".into(),
        output: None,
        error,
        time_created: time,
        time_finished: finished.then_some(time),
        last_attempts: None,
        last_duration_us: None,
    }
}

fn event(node_id: i64, kind: SagaEventKind, data: Option<Value>) -> SagaEvent {
    SagaEvent {
        saga_id: Uuid::from_u128(1),
        node_id,
        kind,
        data,
        time_recorded: at(2),
        phase: kind.phase(),
        sequence: 1,
        attempts: 3,
        duration_us: Some(500_000),
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn not_found(node: &str) -> Value {
    json!({"node": node, "step": null, "cause": {"refused":
        {"refusal": "not_found", "kind": "project", "id": Uuid::from_u128(2)}}})
}

#[test]
fn unwinding_looks_like_running_and_has_no_error_yet() {
    let operation = Operation::from(saga(SagaState::Unwinding, Some(not_found("charge"))));
    assert_eq!(operation.state, OperationState::Running);
    assert!(operation.error.is_none());
    let states = OperationState::Running.saga_states();
    assert_eq!(states, [SagaState::Running, SagaState::Unwinding]);
}

#[test]
fn a_failed_operation_has_the_problem_of_the_waiting_caller() {
    let error = Operation::from(saga(SagaState::Failed, Some(not_found("charge")))).error;
    let error = error.unwrap();
    assert_eq!((error.status, error.error_code), (404, ErrorCode::NotFound));
    assert_eq!(error.request_id, "request-1");
    assert_eq!(error.operation_id, Some(Uuid::from_u128(1)));
    let stuck = Operation::from(saga(SagaState::Stuck, Some(not_found("charge")))).error;
    assert_eq!(stuck.unwrap().error_code, ErrorCode::OperationStuck);
    let unreadable = Operation::from(saga(SagaState::Failed, Some(json!("?")))).error;
    assert_eq!(unreadable.unwrap().error_code, ErrorCode::Internal);
}

fn view(saga: Saga, events: &[SagaEvent]) -> OperationView {
    let definition = sagas::registry::builtin().find("instance-create").unwrap();
    OperationView::new(saga, events, Some(definition), at(3))
}

fn states(view: &OperationView) -> Vec<NodeState> {
    view.nodes.iter().map(|node| node.state).collect()
}

#[test]
fn nodes_are_told_by_their_last_event() {
    let events = [
        event(0, SagaEventKind::Succeeded, Some(json!(1))),
        event(1, SagaEventKind::Failed, None),
        event(0, SagaEventKind::UndoFinished, None),
    ];
    let saga = saga(SagaState::Failed, Some(not_found("stop")));
    let view = view(saga.clone(), &events);
    assert_eq!(states(&view), [NodeState::Undone, NodeState::Failed]);
    let [first, second] = &view.nodes[..] else {
        panic!("two nodes");
    };
    assert_eq!(
        second.error.as_ref().unwrap().error_code,
        ErrorCode::NotFound
    );
    assert_eq!(
        (first.attempts, first.duration_us),
        (Some(3), Some(500_000))
    );
    let began = first.time_started.unwrap().0;
    assert_eq!((at(2) - began).num_milliseconds(), 500);
    assert!(first.time_undo_finished.is_some());
    let edges = [Edge {
        from: "insert".into(),
        to: "stop".into(),
    }];
    assert_eq!(view.edges, edges);

    let unknown = OperationView::new(saga, &events, None, at(3));
    assert_eq!((unknown.nodes.len(), unknown.edges.len()), (2, 0));
}

#[test]
fn what_has_no_record_yet_follows_from_its_neighbours() {
    let done = [event(0, SagaEventKind::Succeeded, Some(json!(1)))];
    let running = |events: &[SagaEvent]| states(&view(saga(SagaState::Running, None), events));
    assert_eq!(running(&[]), [NodeState::Running, NodeState::Pending]);
    assert_eq!(running(&done), [NodeState::Succeeded, NodeState::Running]);
    let failed = [done[0].clone(), event(1, SagaEventKind::Failed, None)];
    let unwinding = view(saga(SagaState::Unwinding, None), &failed);
    assert_eq!(states(&unwinding), [NodeState::Undoing, NodeState::Failed]);

    // The success of the last node is the saga's row.
    let ended = Saga {
        last_attempts: Some(1),
        last_duration_us: Some(250_000),
        ..saga(SagaState::Succeeded, None)
    };
    let ended = view(ended, &done);
    assert_eq!(states(&ended), [NodeState::Succeeded; 2]);
    assert_eq!(ended.nodes[1].duration_us, Some(250_000));
    assert!(ended.nodes[1].time_started.unwrap().0 < ended.nodes[1].time_finished.unwrap().0);
}

#[test]
fn an_undo_that_was_given_up_and_tried_again_counts_no_more() {
    let mut events = vec![
        event(0, SagaEventKind::Succeeded, Some(json!(1))),
        event(1, SagaEventKind::Failed, None),
        event(0, SagaEventKind::UndoFailed, Some(not_found("insert"))),
    ];
    let stuck = view(saga(SagaState::Stuck, None), &events);
    assert_eq!(states(&stuck), [NodeState::UndoFailed, NodeState::Failed]);
    assert!(stuck.nodes[0].error.is_some());
    events[2].phase = 5;
    let retried = view(saga(SagaState::Unwinding, None), &events);
    assert_eq!(states(&retried), [NodeState::Undoing, NodeState::Failed]);
    assert!(retried.nodes[0].error.is_none());
}

#[test]
fn a_saga_is_stalled_when_its_log_was_silent_for_too_long() {
    let definition = sagas::registry::builtin().find("instance-create").unwrap();
    let patience = TimeDelta::from_std(definition.stalled_after).unwrap();
    let events = [event(0, SagaEventKind::Succeeded, None)];
    let stalled =
        |state, now| OperationView::new(saga(state, None), &events, Some(definition), now).stalled;
    let last = events[0].time_recorded;
    assert!(!stalled(SagaState::Running, last + patience));
    assert!(stalled(
        SagaState::Running,
        last + patience + TimeDelta::seconds(1)
    ));
    assert!(!stalled(SagaState::Stuck, last + patience * 2));
}

fn numbered(node_id: i64, kind: SagaEventKind, sequence: i64) -> SagaEvent {
    SagaEvent {
        sequence,
        ..event(node_id, kind, None)
    }
}

fn told(saga: &Saga, events: &[SagaEvent], known: bool) -> Vec<(i64, String, &'static str)> {
    let definition = sagas::registry::builtin().find("instance-create").unwrap();
    tell(saga, events, known.then_some(definition.as_ref()))
        .into_iter()
        .map(|event| (event.sequence, event.node, event.kind.as_str()))
        .collect()
}

#[test]
fn the_success_of_the_last_node_is_told_behind_the_log() {
    let ended = Saga {
        last_attempts: Some(2),
        last_duration_us: Some(7),
        ..saga(SagaState::Succeeded, None)
    };
    let first = numbered(0, SagaEventKind::Succeeded, 1);
    let last = (2, "stop".to_owned(), "succeeded");
    let whole = [(1, "insert".to_owned(), "succeeded"), last];
    assert_eq!(told(&ended, std::slice::from_ref(&first), true), whole);
    let last = tell(&ended, std::slice::from_ref(&first), None)
        .pop()
        .unwrap();
    assert_eq!((last.attempts, last.duration_us), (2, Some(7)));
    // Of a definition that this program does not know, by numbers.
    let unknown = told(&ended, std::slice::from_ref(&first), false);
    assert_eq!(unknown[1], (2, "node-1".to_owned(), "succeeded"));
    let view = OperationView::new(ended.clone(), std::slice::from_ref(&first), None, at(3));
    assert_eq!(view.nodes[1].state, NodeState::Succeeded);
    // Not twice when the log has it, and not while it is under way.
    let recorded = numbered(1, SagaEventKind::Succeeded, 2);
    assert_eq!(told(&ended, &[first.clone(), recorded], true), whole);
    assert_eq!(
        told(&saga(SagaState::Running, None), &[first], true),
        whole[..1]
    );
}

#[test]
fn events_are_told_up_to_the_first_gap() {
    let log = [2, 3, 5].map(|sequence| numbered(0, SagaEventKind::Started, sequence));
    let numbers = |after: i64, from: usize| -> Vec<i64> {
        let events = contiguous(log[from..].to_vec(), after);
        events.iter().map(|event| event.sequence).collect()
    };
    assert_eq!(numbers(0, 0), [0_i64; 0]);
    assert_eq!(numbers(1, 0), [2, 3]);
    assert_eq!(numbers(4, 2), [5]);
    assert_eq!(numbers(i64::MAX, 3), [0_i64; 0]);
}

#[test]
fn an_event_says_to_callers_what_the_problem_says_and_no_more() {
    let data = json!({"output": "nobody's business"});
    let succeeded = event(0, SagaEventKind::Succeeded, Some(data));
    let failed = event(1, SagaEventKind::Failed, Some(not_found("stop")));
    let events = tell(
        &saga(SagaState::Unwinding, None),
        &[succeeded, failed],
        None,
    );
    let shown = serde_json::to_value(&events).unwrap();
    assert!(!shown.to_string().contains("business"));
    assert_eq!(shown[1]["error"]["error_code"], "not_found");
    assert!(shown[1]["said"].is_null() && events[1].said.is_some());
}
