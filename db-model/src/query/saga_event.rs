//! Writing the saga log.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Json, Nullable, SmallInt, Text, Uuid as SqlUuid};
use serde_json::Value;
use uuid::Uuid;

use super::saga::Fence;
use crate::batch::{BatchError, Step};
use crate::model::SagaEvent;
use crate::schema::saga_event::dsl;
use crate::types::SagaEventKind;

/// The key that says that this has been recorded of the node before, or what rules it out.
pub const KEY: &str = "saga_event_pkey";

/// An event to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// The node's place in the definition.
    pub node_id: i64,
    /// What happened.
    pub kind: SagaEventKind,
    /// Its place in the saga's log.
    pub sequence: i64,
    /// How often the node was tried.
    pub attempts: i32,
    /// From the first try until now, in microseconds.
    pub duration_us: Option<i64>,
    /// The output or the error.
    pub data: Option<Value>,
}

/// Records an event, if the fence holds.
///
/// The saga's id is read from its row, under a share lock that keeps the row's owner until the
/// commit. A wrong owner gives NULL, which aborts the whole batch with 23502: a join that inserts no
/// row would not. An event that stands there already aborts it with 23505 on [`KEY`]: the node's
/// effect and its event committed together, so the effect is there too. So does a success after a
/// failure, and a failure after a success: a batch that arrives late changes nothing that was decided,
/// and nothing is decided against one that has arrived.
pub fn insert(fence: Fence, event: &NewEvent) -> Step<()> {
    let insert = diesel::sql_query(
        "INSERT INTO saga_event (saga_id, node_id, kind, phase, sequence, attempts, duration_us, data) \
         SELECT (SELECT id FROM saga WHERE id = $1 AND executor_id = $2 AND generation = $3 \
         AND time_finished IS NULL FOR SHARE), $4, $5, $6, $7, $8, $9, $10",
    )
    .bind::<SqlUuid, _>(fence.saga_id)
    .bind::<SqlUuid, _>(fence.executor_id)
    .bind::<BigInt, _>(fence.generation)
    .bind::<BigInt, _>(event.node_id)
    .bind::<Text, _>(event.kind)
    .bind::<SmallInt, _>(event.kind.phase())
    .bind::<BigInt, _>(event.sequence)
    .bind::<Integer, _>(event.attempts)
    .bind::<Nullable<BigInt>, _>(event.duration_us)
    .bind::<Nullable<Json>, _>(event.data.clone());
    Step::statement("saga_event.insert", insert)
        .key(KEY)
        .locking()
}

/// Records an event of a saga whose row is written or changed by an earlier step of the same batch, which is
/// the fence then.
pub fn insert_with_saga(saga_id: Uuid, event: &NewEvent) -> Step<()> {
    let insert = diesel::insert_into(dsl::saga_event).values((
        dsl::saga_id.eq(saga_id),
        dsl::node_id.eq(event.node_id),
        dsl::kind.eq(event.kind),
        dsl::phase.eq(event.kind.phase()),
        dsl::sequence.eq(event.sequence),
        dsl::attempts.eq(event.attempts),
        dsl::duration_us.eq(event.duration_us),
        dsl::data.eq(event.data.clone()),
    ));
    Step::statement("saga_event.insert", insert)
        .key(KEY)
        .locking()
}

/// Lets the undos of a saga that were given up be tried again. What was recorded of them stays, for people
/// to read. Stands behind [`super::saga::retry`], which holds the saga's row.
pub fn retry_undos(saga_id: Uuid) -> Step<()> {
    let update = diesel::sql_query(
        "UPDATE saga_event e SET phase = (SELECT greatest(max(o.phase), 4) + 1 FROM saga_event o \
         WHERE o.saga_id = e.saga_id AND o.node_id = e.node_id) \
         WHERE e.saga_id = $1 AND e.kind = 'undo_failed' AND e.phase = 4",
    )
    .bind::<SqlUuid, _>(saga_id);
    Step::statement("saga_event.retry_undos", update).locking()
}

/// The log of a saga.
pub fn list(saga_ids: Vec<Uuid>) -> Step<Vec<SagaEvent>> {
    let select = dsl::saga_event
        .filter(dsl::saga_id.eq_any(saga_ids))
        .order((dsl::saga_id, dsl::sequence))
        .select(SagaEvent::as_select());
    Step::rows("saga_event.list", select)
}

/// How the log took an event that it did not record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The event stands there already, or one that rules it out.
    Recorded,
    /// The saga has ended, and this process is who ended it.
    Ended,
    /// The process does not hold the saga any more.
    Fenced,
}

/// Tells the rejections of [`insert`] and of [`super::saga::progress`] from every other error.
pub fn rejection(error: &BatchError) -> Option<Rejection> {
    let server = error.server()?;
    let constraint = server.constraint.as_deref();
    if matches!(error, BatchError::Recorded { .. }) && constraint == Some(KEY) {
        return Some(Rejection::Recorded);
    }
    let label = error.step()?.label;
    match (label, server.sqlstate.as_str(), constraint) {
        ("saga_event.insert", "23502", _) if server.column.as_deref() == Some("saga_id") => {
            Some(Rejection::Fenced)
        }
        ("saga.progress", "NX001", Some("saga_ended")) => Some(Rejection::Ended),
        ("saga.progress", "NX001", _) => Some(Rejection::Fenced),
        _ => None,
    }
}
