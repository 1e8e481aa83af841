//! A saga and the events of its log.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use crate::types::{ResourceKind, SagaEventKind, SagaState};

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
    /// How often its last node was tried; its success is this row. `None` for any other end.
    pub last_attempts: Option<i32>,
    /// What its last node took, in microseconds.
    pub last_duration_us: Option<i64>,
}

/// A row of `saga_event`.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = crate::schema::saga_event, check_for_backend(diesel::pg::Pg))]
pub struct SagaEvent {
    /// The saga.
    pub saga_id: Uuid,
    /// The node's place in the definition.
    pub node_id: i64,
    /// What happened.
    pub kind: SagaEventKind,
    /// The output or the error.
    pub data: Option<Value>,
    /// When it was recorded, by the database's clock.
    pub time_recorded: DateTime<Utc>,
    /// Which part of the node's life it decides: see [`SagaEventKind::phase`]. A greater one than any is an
    /// undo that was given up and has been tried again since.
    pub phase: i16,
    /// Its place in the saga's log, from 1.
    pub sequence: i64,
    /// How often the node's action or undo was tried.
    pub attempts: i32,
    /// From the first try until the record was sent, in microseconds.
    pub duration_us: Option<i64>,
}

impl SagaEvent {
    /// Whether it says how its node stands, and not how it once stood before a person had it tried again.
    pub fn is_current(&self) -> bool {
        self.phase == self.kind.phase()
    }
}
