//! A saga and the events of its log.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use crate::types::{ResourceKind, SagaState};

/// A row of `saga`.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = crate::schema::saga, check_for_backend(diesel::pg::Pg))]
pub struct Saga {
    /// The id; also the operation's.
    pub id: Uuid,
    /// The definition's name, such as `project-create`.
    pub name: String,
    /// The definition's hash; an executor runs only definitions that it has.
    pub definition_hash: String,
    /// The parameters, as the definition versions them.
    pub params: Value,
    /// How it stands.
    pub state: SagaState,
    /// The process that runs it.
    pub executor_id: Uuid,
    /// Raised by each take-over; with `executor_id` the fence.
    pub generation: i64,
    /// The request that asked for it.
    pub request_id: String,
    /// The project that it works in or on.
    pub project_id: Option<Uuid>,
    /// What it works on.
    pub resource_kind: ResourceKind,
    /// The id of what it works on.
    pub resource_id: Uuid,
    /// The name of what it works on.
    pub resource_name: String,
    /// What it gave, once it succeeded.
    pub output: Option<Value>,
    /// Why it failed or is stuck.
    pub error: Option<Value>,
    /// When it was asked for.
    pub time_created: DateTime<Utc>,
    /// When it ended.
    pub time_finished: Option<DateTime<Utc>>,
}

/// A row of `saga_event`.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = crate::schema::saga_event, check_for_backend(diesel::pg::Pg))]
pub struct SagaEvent {
    /// The saga.
    pub saga_id: Uuid,
    /// The node's index in the saga's graph.
    pub node_id: i64,
    /// What happened: `started`, `succeeded`, `failed`, `undo_started`, `undo_finished`, `undo_failed`.
    pub kind: String,
    /// The output or the error.
    pub data: Option<Value>,
    /// When the event was drawn.
    pub time_recorded: DateTime<Utc>,
}
