//! The steps of an operation: what the log says of each node, and what follows from it.

use chrono::TimeDelta;
use db_model::model::{Saga, SagaEvent};
use db_model::types::{SagaEventKind, SagaState};
use sagas::definition::{Definition, Kind};
use serde::Serialize;
use utoipa::ToSchema;

use super::{UNREADABLE, failure, of_operation};
use crate::api::problem::{ErrorCode, Problem};
use crate::api::value::Timestamp;

/// How a node of an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Has not begun.
    Pending,
    /// At work.
    Running,
    /// Done.
    Succeeded,
    /// Gave up, for `error`.
    Failed,
    /// What it did is being undone.
    Undoing,
    /// What it did is undone.
    Undone,
    /// What it did could not be undone, for `error`.
    UndoFailed,
}

impl NodeState {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoFailed => "undo_failed",
        }
    }
}

/// What a node of an operation may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Computes.
    Pure,
    /// Changes the database, once.
    Db,
    /// Calls out, at least once.
    External,
}

impl From<Kind> for NodeKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Pure => Self::Pure,
            Kind::Db => Self::Db,
            Kind::External => Self::External,
        }
    }
}

/// A step of an operation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Node {
    /// The name; of a step of a subsaga with that one's name and a dot before it.
    pub name: String,
    /// What it may do.
    pub kind: NodeKind,
    /// How it stands.
    pub state: NodeState,
    /// How often it was tried by the process that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0)]
    pub attempts: Option<i32>,
    /// What it took, in microseconds, all tries and the pauses between them together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0)]
    pub duration_us: Option<i64>,
    /// How often its undo was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0)]
    pub undo_attempts: Option<i32>,
    /// What its undo took, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0)]
    pub undo_duration_us: Option<i64>,
    /// Why it failed, or why it could not be undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<Problem>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub time_started: Option<Timestamp>,
    /// When it was done or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub time_finished: Option<Timestamp>,
    /// When its undo began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub time_undo_started: Option<Timestamp>,
    /// When its undo was done or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub time_undo_finished: Option<Timestamp>,
}

/// The nodes of a saga, and how they depend on each other.
pub(super) struct Shape {
    pub nodes: Vec<(String, NodeKind)>,
    pub edges: Vec<(usize, usize)>,
}

impl Shape {
    /// That of a definition; of a saga that this program does not know, what its log tells.
    pub fn of(definition: Option<&Definition>, saga: &Saga, events: &[SagaEvent]) -> Self {
        let Some(definition) = definition else {
            let last = events.iter().map(|event| event.node_id).max().unwrap_or(-1);
            // The success of the last node is no event.
            let last = last + i64::from(saga.last_attempts.is_some());
            let nodes = (0..=last).map(|id| (unknown(id), NodeKind::Db));
            return Self {
                nodes: nodes.collect(),
                edges: Vec::new(),
            };
        };
        let kinds = definition.node_kinds().map(NodeKind::from);
        Self {
            nodes: definition
                .node_names()
                .map(str::to_owned)
                .zip(kinds)
                .collect(),
            edges: definition.edges(),
        }
    }

    /// The name of the node that has this id in the log.
    pub fn name(&self, node_id: i64) -> String {
        let place = usize::try_from(node_id).ok();
        let node = place.and_then(|place| self.nodes.get(place));
        node.map_or_else(|| unknown(node_id), |(name, _)| name.clone())
    }
}

/// What a node is called of whose saga the definition is not known.
fn unknown(node_id: i64) -> String {
    format!("node-{node_id}")
}

/// The steps of a saga, in the order of its definition.
pub(super) fn nodes(saga: &Saga, events: &[SagaEvent], shape: &Shape) -> Vec<Node> {
    let mut nodes: Vec<Node> = shape
        .nodes
        .iter()
        .zip(0..)
        .map(|((name, kind), id)| recorded(saga, name, *kind, id, events))
        .collect();
    if saga.state == SagaState::Succeeded
        && let Some(last) = nodes.last_mut()
        && last.state == NodeState::Pending
    {
        succeed_with_the_saga(last, saga);
    }
    infer(saga, shape, &mut nodes);
    nodes
}

/// What the log says of a node.
fn recorded(saga: &Saga, name: &str, kind: NodeKind, id: i64, events: &[SagaEvent]) -> Node {
    let event = |kind: SagaEventKind| {
        events
            .iter()
            .find(|event| event.node_id == id && event.kind == kind && event.is_current())
    };
    let (succeeded, failed) = (
        event(SagaEventKind::Succeeded),
        event(SagaEventKind::Failed),
    );
    let (undone, undo_failed) = (
        event(SagaEventKind::UndoFinished),
        event(SagaEventKind::UndoFailed),
    );
    let (started, undo_started) = (
        event(SagaEventKind::Started),
        event(SagaEventKind::UndoStarted),
    );
    // The last thing that happened to a node decides.
    let states = [
        (undo_failed, NodeState::UndoFailed),
        (undone, NodeState::Undone),
        (undo_started, NodeState::Undoing),
        (failed, NodeState::Failed),
        (succeeded, NodeState::Succeeded),
        (started, NodeState::Running),
    ];
    let state = states
        .into_iter()
        .find_map(|(event, state)| event.map(|_| state))
        .unwrap_or(NodeState::Pending);
    let (outcome, undo) = (succeeded.or(failed), undone.or(undo_failed));
    Node {
        name: name.to_owned(),
        kind,
        state,
        attempts: outcome.map(|event| event.attempts),
        duration_us: outcome.and_then(|event| event.duration_us),
        undo_attempts: undo.map(|event| event.attempts),
        undo_duration_us: undo.and_then(|event| event.duration_us),
        error: undo_failed
            .or(failed)
            .map(|event| problem(saga, name, event)),
        time_started: started.map(recorded_at).or_else(|| outcome.and_then(begun)),
        time_finished: outcome.map(recorded_at),
        time_undo_started: undo_started
            .map(recorded_at)
            .or_else(|| undo.and_then(begun)),
        time_undo_finished: undo.map(recorded_at),
    }
}

fn recorded_at(event: &SagaEvent) -> Timestamp {
    Timestamp(event.time_recorded)
}

fn begun(event: &SagaEvent) -> Option<Timestamp> {
    let duration = TimeDelta::microseconds(event.duration_us?);
    Some(Timestamp(event.time_recorded - duration))
}

/// The success of the last node is the saga's own row.
fn succeed_with_the_saga(node: &mut Node, saga: &Saga) {
    node.state = NodeState::Succeeded;
    node.attempts = saga.last_attempts;
    node.duration_us = saga.last_duration_us;
    node.time_finished = saga.time_finished.map(Timestamp);
    let begun = |at, us| Timestamp(at - TimeDelta::microseconds(us));
    node.time_started = saga
        .time_finished
        .zip(saga.last_duration_us)
        .map(|(at, us)| begun(at, us));
}

/// What a node does whose batch is not there yet follows from its neighbours.
fn infer(saga: &Saga, shape: &Shape, nodes: &mut [Node]) {
    let states: Vec<_> = nodes.iter().map(|node| node.state).collect();
    let all = |mut neighbours: Box<dyn Iterator<Item = usize> + '_>,
               test: fn(NodeState) -> bool| {
        neighbours.all(|neighbour| test(states[neighbour]))
    };
    for (place, node) in nodes.iter_mut().enumerate() {
        let before = shape
            .edges
            .iter()
            .filter(|edge| edge.1 == place)
            .map(|edge| edge.0);
        let behind = shape
            .edges
            .iter()
            .filter(|edge| edge.0 == place)
            .map(|edge| edge.1);
        let is_over = |state| {
            !matches!(
                state,
                NodeState::Succeeded | NodeState::Undoing | NodeState::Running
            )
        };
        match (saga.state, node.state) {
            (SagaState::Running, NodeState::Pending)
                if all(Box::new(before), |state| state == NodeState::Succeeded) =>
            {
                node.state = NodeState::Running;
            }
            (SagaState::Unwinding, NodeState::Succeeded)
                if node.kind == NodeKind::Db && all(Box::new(behind), is_over) =>
            {
                node.state = NodeState::Undoing;
            }
            _ => {}
        }
    }
}

/// Why a node failed: by its event, or else by the saga's failure, when that is the node's.
pub(super) fn problem(saga: &Saga, name: &str, event: &SagaEvent) -> Problem {
    let of_saga = || {
        saga.error
            .as_ref()
            .and_then(failure)
            .filter(|failure| failure.node == name)
    };
    let problem = match event.data.as_ref().and_then(failure).or_else(of_saga) {
        Some(failure) => Problem::of_failure(&failure),
        None => Problem::new(ErrorCode::Internal, UNREADABLE),
    };
    of_operation(problem, saga)
}
