//! Writing the saga log.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use serde_json::Value;
use uuid::Uuid;

use super::saga::Fence;
use crate::batch::{BatchError, Step};
use crate::model::SagaEvent;
use crate::schema::saga_event::dsl;

/// The key that says that an event has been recorded before.
pub const KEY: &str = "saga_event_pkey";

/// The key that says that a node has an outcome: it has succeeded or it has failed, never both.
pub const OUTCOME_KEY: &str = "saga_event_outcome_key";

/// An event to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// The node's index in the saga's graph.
    pub node_id: i64,
    /// What happened, as the column's CHECK names it.
    pub kind: &'static str,
    /// The output or the error.
    pub data: Option<Value>,
    /// When.
    pub time: DateTime<Utc>,
}

/// Records an event, if the fence holds.
///
/// The saga's id is read from its row, under a share lock that keeps the row's owner until the
/// commit. A wrong owner gives NULL, which aborts the whole batch with 23502: a join that inserts no
/// row would not. An event that stands there already aborts it with 23505 on [`KEY`]: the node's
/// effect and its event committed together, so the effect is there too. On [`OUTCOME_KEY`] fails a
/// success after a failure, and a failure after a success: a batch that arrives late changes nothing
/// that was decided, and nothing is decided against one that has arrived.
pub fn insert(fence: Fence, event: &NewEvent) -> Step<()> {
    let insert = diesel::sql_query(
        "INSERT INTO saga_event (saga_id, node_id, kind, data, time_recorded) \
         SELECT (SELECT id FROM saga WHERE id = $1 AND executor_id = $2 AND generation = $3 \
         AND time_finished IS NULL FOR SHARE), $4, $5, $6, $7",
    )
    .bind::<SqlUuid, _>(fence.saga_id)
    .bind::<SqlUuid, _>(fence.executor_id)
    .bind::<BigInt, _>(fence.generation)
    .bind::<BigInt, _>(event.node_id)
    .bind::<Text, _>(event.kind)
    .bind::<Nullable<Json>, _>(event.data.clone())
    .bind::<Timestamptz, _>(event.time);
    Step::statement("saga_event.insert", insert)
        .key(KEY)
        .locking()
}

/// The log of a saga.
pub fn list(saga_ids: Vec<Uuid>) -> Step<Vec<SagaEvent>> {
    let select = dsl::saga_event
        .filter(dsl::saga_id.eq_any(saga_ids))
        .order((dsl::saga_id, dsl::node_id, dsl::time_recorded))
        .select(SagaEvent::as_select());
    Step::rows("saga_event.list", select)
}

/// How the log took an event that it did not record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The event stands there already, or one that rules it out.
    Recorded,
    /// The process does not hold the saga any more.
    Fenced,
}

/// Tells the two rejections of [`insert`] and of [`super::saga::progress`] from every other error.
pub fn rejection(error: &BatchError) -> Option<Rejection> {
    let server = error.server()?;
    let constraint = server.constraint.as_deref();
    if matches!(error, BatchError::Recorded { .. }) && constraint == Some(KEY) {
        return Some(Rejection::Recorded);
    }
    let label = error.step()?.label;
    match (label, server.sqlstate.as_str()) {
        (_, "23505") if constraint == Some(OUTCOME_KEY) => Some(Rejection::Recorded),
        ("saga_event.insert", "23502") if server.column.as_deref() == Some("saga_id") => {
            Some(Rejection::Fenced)
        }
        ("saga.progress", "NX001") => Some(Rejection::Fenced),
        _ => None,
    }
}
