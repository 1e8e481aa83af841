//! Sagas and logs of every kind, as callers see them.

use super::*;
use chrono::DateTime;
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
    }
}

fn event(node_id: i64, kind: &str, data: Option<Value>) -> SagaEvent {
    let time_recorded = DateTime::from_timestamp(2, 0).unwrap();
    SagaEvent {
        saga_id: Uuid::from_u128(1),
        node_id,
        kind: kind.into(),
        data,
        time_recorded,
    }
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

#[test]
fn nodes_are_told_by_their_last_event() {
    let events = vec![
        event(0, "started", None),
        event(0, "succeeded", Some(json!(1))),
        event(0, "undo_started", None),
        event(0, "undo_finished", None),
        event(1, "started", None),
        event(1, "failed", None),
    ];
    let names = ["charge", "finish", "later"];
    let names = names
        .iter()
        .enumerate()
        .map(|(index, name)| (index as i64, (*name).into()));
    let saga = saga(SagaState::Failed, Some(not_found("finish")));
    let view = OperationView::new(saga.clone(), events.clone(), Some(names.collect()));
    let states: Vec<_> = view.nodes.iter().map(|node| node.state).collect();
    assert_eq!(
        states,
        [NodeState::Undone, NodeState::Failed, NodeState::Pending]
    );
    assert_eq!(
        view.nodes[1].error.as_ref().unwrap().error_code,
        ErrorCode::NotFound
    );
    assert!(view.nodes[0].time_undo_finished.is_some());
    assert!(view.nodes[2].time_started.is_none());

    let unknown = OperationView::new(saga, events, None);
    assert_eq!(unknown.nodes.len(), 2);
}
