//! Operations: sagas as callers see them. The one file that maps the one to the other.

mod event;
mod node;

use chrono::{DateTime, Utc};
use db_model::model::{Saga, SagaEvent};
use db_model::types::limits::SAGA_STALLED_AFTER;
use db_model::types::{self, SagaState};
use sagas::Failure;
use sagas::definition::Definition;
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::problem::{ErrorCode, Problem};
use super::value::Timestamp;
use node::Shape;

pub use event::{OperationEvent, OperationEventKind, contiguous, tell};
pub use node::{Node, NodeKind, NodeState};

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// At work, or undoing what it did.
    Running,
    /// Done.
    Succeeded,
    /// Refused or failed; nothing of it is left.
    Failed,
    /// What it did could not be undone: a person has to look.
    Stuck,
}

impl OperationState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Running, Self::Succeeded, Self::Failed, Self::Stuck];

    /// The text in a query.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stuck => "stuck",
        }
    }

    /// The saga states that look so.
    pub fn saga_states(self) -> Vec<SagaState> {
        SagaState::ALL
            .iter()
            .copied()
            .filter(|&state| Self::from(state) == self)
            .collect()
    }
}

impl From<SagaState> for OperationState {
    fn from(state: SagaState) -> Self {
        match state {
            SagaState::Running | SagaState::Unwinding => Self::Running,
            SagaState::Succeeded => Self::Succeeded,
            SagaState::Failed => Self::Failed,
            SagaState::Stuck => Self::Stuck,
        }
    }
}

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// A project.
    Project,
    /// An instance.
    Instance,
}

impl From<types::ResourceKind> for ResourceKind {
    fn from(kind: types::ResourceKind) -> Self {
        match kind {
            types::ResourceKind::Project => Self::Project,
            types::ResourceKind::Instance => Self::Instance,
        }
    }
}

/// What an operation works on. It may be gone.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Resource {
    /// The kind.
    pub kind: ResourceKind,
    /// The id.
    pub id: Uuid,
    /// The name when the operation began.
    pub name: String,
}

/// A change that takes more than one step.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "0199c0de-0000-7000-8000-000000000003", "kind": "instance-create", "state": "running",
    "project_id": "0199c0de-0000-7000-8000-000000000001",
    "resource": {"kind": "instance", "id": "0199c0de-0000-7000-8000-000000000002", "name": "front-1"},
    "time_created": "2026-01-31T12:00:00.000000Z",
})))]
pub struct Operation {
    /// The id.
    pub id: Uuid,
    /// What it does, such as `instance-create`.
    pub kind: String,
    /// How it stands.
    pub state: OperationState,
    /// The project that it works in or on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub project_id: Option<Uuid>,
    /// What it works on.
    pub resource: Resource,
    /// Why it failed or is stuck: what a caller who waited was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<Problem>,
    /// When it was asked for.
    pub time_created: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub time_finished: Option<Timestamp>,
}

impl From<Saga> for Operation {
    fn from(saga: Saga) -> Self {
        let error = problem(&saga);
        Self {
            id: saga.id,
            kind: saga.name,
            state: saga.state.into(),
            project_id: saga.project_id,
            resource: Resource {
                kind: saga.resource_kind.into(),
                id: saga.resource_id,
                name: saga.resource_name,
            },
            error,
            time_created: saga.time_created.into(),
            time_finished: saga.time_finished.map(Timestamp),
        }
    }
}

/// An operation with its steps.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "0199c0de-0000-7000-8000-000000000003", "kind": "instance-create", "state": "succeeded",
    "project_id": "0199c0de-0000-7000-8000-000000000001",
    "resource": {"kind": "instance", "id": "0199c0de-0000-7000-8000-000000000002", "name": "front-1"},
    "time_created": "2026-01-31T12:00:00.000000Z", "time_finished": "2026-01-31T12:00:00.020000Z",
    "stalled": false,
    "nodes": [{
        "name": "insert", "kind": "db", "state": "succeeded", "attempts": 1, "duration_us": 3210,
        "time_started": "2026-01-31T12:00:00.001000Z", "time_finished": "2026-01-31T12:00:00.009000Z",
    }, {
        "name": "stop", "kind": "db", "state": "succeeded", "attempts": 1, "duration_us": 2950,
        "time_started": "2026-01-31T12:00:00.010000Z", "time_finished": "2026-01-31T12:00:00.020000Z",
    }],
    "edges": [{"from": "insert", "to": "stop"}],
})))]
pub struct OperationView {
    /// The operation.
    #[serde(flatten)]
    pub operation: Operation,
    /// Whether nothing was recorded of it for longer than its kind allows.
    pub stalled: bool,
    /// Its steps, in their order.
    pub nodes: Vec<Node>,
    /// Which step runs behind which. What no chain of these connects runs side by side.
    pub edges: Vec<Edge>,
}

/// That a step runs behind another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Edge {
    /// The name of the one in front.
    pub from: String,
    /// The name of the one behind it.
    pub to: String,
}

impl OperationView {
    /// A saga with its log at a time. The definition is `None` for a saga that this program does not know.
    pub fn new(
        saga: Saga,
        events: &[SagaEvent],
        definition: Option<&Definition>,
        now: DateTime<Utc>,
    ) -> Self {
        let shape = Shape::of(definition, &saga, events);
        let nodes = node::nodes(&saga, events, &shape);
        let edges = shape.edges.iter().map(|(from, to)| Edge {
            from: shape.nodes[*from].0.clone(),
            to: shape.nodes[*to].0.clone(),
        });
        let last = events.iter().map(|event| event.time_recorded).max();
        let last = last.map_or(saga.time_created, |last| last.max(saga.time_created));
        let patience = definition.map_or(SAGA_STALLED_AFTER, |definition| definition.stalled_after);
        let stalled = saga.time_finished.is_none()
            && (now - last)
                .to_std()
                .is_ok_and(|silence| silence > patience);
        Self {
            stalled,
            edges: edges.collect(),
            nodes,
            operation: saga.into(),
        }
    }
}

/// A page of operations.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({"items": [{
    "id": "0199c0de-0000-7000-8000-000000000003", "kind": "instance-create", "state": "succeeded",
    "project_id": "0199c0de-0000-7000-8000-000000000001",
    "resource": {"kind": "instance", "id": "0199c0de-0000-7000-8000-000000000002", "name": "front-1"},
    "time_created": "2026-01-31T12:00:00.000000Z", "time_finished": "2026-01-31T12:00:00.020000Z",
}], "next_page": null})))]
pub struct OperationPage {
    /// The operations, in the order that was asked for.
    pub items: Vec<Operation>,
    /// The `page_token` of the next page; null at the end of the list.
    pub next_page: Option<String>,
}

/// The path of one operation.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what http::extract::path reads")]
pub struct OperationPath {
    /// The operation's id.
    #[param(example = "0199c0de-0000-7000-8000-000000000003")]
    operation: Uuid,
}

/// Which operations a list holds.
#[derive(Clone, Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OperationFilter {
    /// Only those that stand so.
    #[param(inline, nullable = false)]
    pub state: Option<OperationState>,
    /// Only those that do this, such as `instance-create`.
    #[param(nullable = false)]
    pub kind: Option<String>,
    /// Only those in or on this project: its name, or its id, which may be a deleted one's.
    #[param(
        nullable = false,
        max_length = 63,
        pattern = "^([a-z]([a-z0-9-]*[a-z0-9])?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
    )]
    pub project: Option<String>,
}

/// What a caller who waited for the saga was told.
fn problem(saga: &Saga) -> Option<Problem> {
    // While it unwinds the failure may stand in the row, but it is not yet the answer.
    saga.time_finished?;
    let error = saga.error.as_ref()?;
    let problem = match (failure(error), saga.state) {
        (Some(failure), SagaState::Stuck) => Problem::of_stuck(&failure),
        (Some(failure), _) => Problem::of_failure(&failure),
        (None, SagaState::Stuck) => Problem::new(ErrorCode::OperationStuck, UNREADABLE),
        (None, _) => Problem::new(ErrorCode::Internal, UNREADABLE),
    };
    Some(of_operation(problem, saga))
}

/// A newer program may have written what this one does not know.
const UNREADABLE: &str = "this version of the service cannot read why";

fn failure(error: &Value) -> Option<Failure> {
    serde_json::from_value(error.clone()).ok()
}

fn of_operation(problem: Problem, saga: &Saga) -> Problem {
    Problem {
        request_id: saga.request_id.clone(),
        operation_id: Some(saga.id),
        ..problem
    }
}

#[cfg(test)]
mod tests;
