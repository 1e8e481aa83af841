//! The events of an operation: its log, as those see it who follow it.

use db_model::model::{Saga, SagaEvent};
use db_model::types::{SagaEventKind, SagaState};
use sagas::definition::Definition;
use serde::Serialize;
use utoipa::ToSchema;

use super::failure;
use super::node::{self, Shape};
use crate::api::problem::Problem;
use crate::api::value::Timestamp;

/// What happened to a step of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationEventKind {
    /// It may have an effect from now on.
    Started,
    /// It is done.
    Succeeded,
    /// It gave up, for `error`.
    Failed,
    /// Its effect may be gone from now on.
    UndoStarted,
    /// What it did is undone.
    UndoFinished,
    /// What it did could not be undone, for `error`.
    UndoFailed,
}

impl OperationEventKind {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::UndoStarted => "undo_started",
            Self::UndoFinished => "undo_finished",
            Self::UndoFailed => "undo_failed",
        }
    }
}

impl From<SagaEventKind> for OperationEventKind {
    fn from(kind: SagaEventKind) -> Self {
        match kind {
            SagaEventKind::Started => Self::Started,
            SagaEventKind::Succeeded => Self::Succeeded,
            SagaEventKind::Failed => Self::Failed,
            SagaEventKind::UndoStarted => Self::UndoStarted,
            SagaEventKind::UndoFinished => Self::UndoFinished,
            SagaEventKind::UndoFailed => Self::UndoFailed,
        }
    }
}

/// Something that happened to a step of an operation.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "sequence": 1, "node": "insert", "kind": "succeeded", "attempts": 1, "duration_us": 3210,
    "time": "2026-01-31T12:00:00.009000Z",
})))]
pub struct OperationEvent {
    /// The place in the operation's log, from 1.
    #[schema(minimum = 1)]
    pub sequence: i64,
    /// The name of the step.
    pub node: String,
    /// What happened.
    pub kind: OperationEventKind,
    /// How often the step, or its undo, was tried.
    #[schema(minimum = 0)]
    pub attempts: i32,
    /// What it took, in microseconds, all tries and the pauses between them together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0)]
    pub duration_us: Option<i64>,
    /// Why it failed, or why it could not be undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<Problem>,
    /// When it was recorded.
    pub time: Timestamp,
    /// Why, in the words of the log of the service: for those who run it, not for callers.
    #[serde(skip)]
    pub said: Option<String>,
}

/// The log of a saga as events, in its order. Behind the last one comes, of a saga that succeeded, the success
/// of its last node, which is the saga's own row.
pub fn tell(
    saga: &Saga,
    events: &[SagaEvent],
    definition: Option<&Definition>,
) -> Vec<OperationEvent> {
    let shape = Shape::of(definition, saga, events);
    let told = events.iter().map(|event| recorded(saga, &shape, event));
    told.chain(ending(saga, events, &shape)).collect()
}

/// The events behind a number up to the first number that is missing: that one may still come, for numbers are
/// given before the batches commit. A reader that went on behind a gap would never hear of it.
pub fn contiguous(events: Vec<SagaEvent>, after: i64) -> Vec<SagaEvent> {
    let numbers = after.saturating_add(1)..;
    let numbered = events.into_iter().zip(numbers);
    numbered
        .take_while(|(event, number)| event.sequence == *number)
        .map(|(event, _)| event)
        .collect()
}

fn recorded(saga: &Saga, shape: &Shape, event: &SagaEvent) -> OperationEvent {
    let node = shape.name(event.node_id);
    let failed = matches!(
        event.kind,
        SagaEventKind::Failed | SagaEventKind::UndoFailed
    );
    let said = event.data.as_ref().filter(|_| failed).and_then(failure);
    OperationEvent {
        sequence: event.sequence,
        error: failed.then(|| node::problem(saga, &node, event)),
        node,
        kind: event.kind.into(),
        attempts: event.attempts,
        duration_us: event.duration_us,
        time: event.time_recorded.into(),
        said: said.map(|failure| failure.to_string()),
    }
}

fn ending(saga: &Saga, events: &[SagaEvent], shape: &Shape) -> Option<OperationEvent> {
    let time = saga
        .time_finished
        .filter(|_| saga.state == SagaState::Succeeded)?;
    let last = i64::try_from(shape.nodes.len()).ok()?.checked_sub(1)?;
    let is_recorded =
        |event: &SagaEvent| event.node_id == last && event.kind == SagaEventKind::Succeeded;
    if events.iter().any(is_recorded) {
        return None;
    }
    let sequence = events.iter().map(|event| event.sequence).max();
    Some(OperationEvent {
        sequence: sequence.unwrap_or_default() + 1,
        node: shape.name(last),
        kind: OperationEventKind::Succeeded,
        attempts: saga.last_attempts.unwrap_or(1),
        duration_us: saga.last_duration_us,
        error: None,
        time: time.into(),
        said: None,
    })
}
