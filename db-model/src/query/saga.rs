//! Changing saga rows.
//!
//! Every change names the fence: the executor and the generation under which it holds the saga. An
//! executor that lost the saga touches no row and is told so by the guard.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Double, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use serde_json::Value;
use uuid::Uuid;

use crate::batch::{Guard, Step};
use crate::schema::saga::dsl;
use crate::types::limits::PURGE_ROWS_MAX;
use crate::types::{ResourceKind, SagaState};

/// Under which right a process writes to a saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The saga.
    pub saga_id: Uuid,
    /// The executor that holds it.
    pub executor_id: Uuid,
    /// Since which take-over.
    pub generation: i64,
}

/// A saga to be added.
#[derive(Clone, Debug)]
pub struct NewSaga {
    /// The id.
    pub id: Uuid,
    /// The definition's name.
    pub name: &'static str,
    /// The definition's hash.
    pub definition_hash: String,
    /// The parameters.
    pub params: Value,
    /// Who runs it.
    pub executor_id: Uuid,
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
    /// When it was asked for.
    pub time: DateTime<Utc>,
}

/// Adds a saga in the state `running`, at generation 1.
///
/// The executor's id is read from its row, which must be alive: a process whose lease is over gives
/// NULL, and the insert fails with 23502 on `executor_id`. A second run of the same batch fails with
/// 23505 on `saga_pkey`, which says that the first one committed.
pub fn insert(saga: NewSaga) -> Step<()> {
    let insert = diesel::sql_query(
        "INSERT INTO saga (id, name, definition_hash, params, state, executor_id, generation, \
         request_id, project_id, resource_kind, resource_id, resource_name, time_created) \
         VALUES ($1, $2, $3, $4, 'running', \
         (SELECT id FROM executor WHERE id = $5 AND time_ended IS NULL \
         AND time_lease_expires > clock_timestamp()), 1, $6, $7, $8, $9, $10, $11)",
    )
    .bind::<SqlUuid, _>(saga.id)
    .bind::<Text, _>(saga.name)
    .bind::<Text, _>(saga.definition_hash)
    .bind::<Json, _>(saga.params)
    .bind::<SqlUuid, _>(saga.executor_id)
    .bind::<Text, _>(saga.request_id)
    .bind::<Nullable<SqlUuid>, _>(saga.project_id)
    .bind::<Text, _>(saga.resource_kind)
    .bind::<SqlUuid, _>(saga.resource_id)
    .bind::<Text, _>(saga.resource_name)
    .bind::<Timestamptz, _>(saga.time);
    Step::statement("saga.insert", insert)
        .key("saga_pkey")
        .locking()
}

/// How a saga stands from now on.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The state.
    pub state: SagaState,
    /// What it gave, if it succeeded.
    pub output: Option<Value>,
    /// Why it unwinds, failed or is stuck.
    pub error: Option<Value>,
    /// When it ended, if it did.
    pub time_finished: Option<DateTime<Utc>>,
}

impl Progress {
    /// A node has failed for this reason, and what was done is being undone.
    pub fn unwinding(error: &Option<Value>) -> Self {
        Self {
            state: SagaState::Unwinding,
            output: None,
            error: error.clone(),
            time_finished: None,
        }
    }
}

/// Records how a saga stands.
///
/// It does not ask for the state before: under one fence there is one writer, and a second run of
/// the same batch after a lost reply must find the same row.
pub fn progress(fence: Fence, progress: Progress) -> Step<()> {
    let update = diesel::update(dsl::saga)
        .filter(dsl::id.eq(fence.saga_id))
        .filter(dsl::executor_id.eq(fence.executor_id))
        .filter(dsl::generation.eq(fence.generation))
        .set((
            dsl::state.eq(progress.state),
            dsl::output.eq(progress.output),
            dsl::error.eq(progress.error),
            dsl::time_finished.eq(progress.time_finished),
        ));
    let guard = Guard::affected(1, "saga.progress");
    Step::guarded("saga.progress", update, guard).locking()
}

/// A saga that was taken over.
#[derive(Clone, Debug, QueryableByName)]
pub struct Adopted {
    /// The id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The definition's name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// The parameters.
    #[diesel(sql_type = Json)]
    pub params: Value,
    /// The new generation.
    #[diesel(sql_type = BigInt)]
    pub generation: i64,
    /// The request that asked for it.
    #[diesel(sql_type = Text)]
    pub request_id: String,
}

/// Takes over at most `limit` unfinished sagas that nobody runs: their owner is not alive, or it is
/// this executor, they are not among those that it is `running`, and they were asked for before
/// `settled`, as when the reply to an insert was lost together with the lease. Only definitions of
/// `definitions` (`name:hash`) are taken.
///
/// SKIP LOCKED leaves out a saga whose old owner still has a batch under way; the caller comes again.
/// The update asks once more whether the saga has ended, for it may have while this waited.
pub fn adopt(
    executor_id: Uuid,
    running: Vec<Uuid>,
    settled: DateTime<Utc>,
    definitions: Vec<String>,
    limit: i64,
) -> Step<Vec<Adopted>> {
    let update = diesel::sql_query(
        "UPDATE saga SET executor_id = $1, generation = generation + 1 \
         WHERE id IN (\
         SELECT s.id FROM saga s WHERE s.time_finished IS NULL \
         AND s.name || ':' || s.definition_hash = ANY($2) \
         AND ((s.executor_id = $1 AND s.id <> ALL($4) AND s.time_created < $5) \
         OR NOT EXISTS (SELECT 1 FROM executor e WHERE e.id = s.executor_id \
         AND e.time_ended IS NULL AND e.time_lease_expires > clock_timestamp())) \
         AND EXISTS (SELECT 1 FROM executor e WHERE e.id = $1 \
         AND e.time_ended IS NULL AND e.time_lease_expires > clock_timestamp()) \
         ORDER BY s.executor_id, s.id LIMIT $3 FOR UPDATE SKIP LOCKED) \
         AND time_finished IS NULL \
         RETURNING id, name, params, generation, request_id",
    )
    .bind::<SqlUuid, _>(executor_id)
    .bind::<Array<Text>, _>(definitions)
    .bind::<BigInt, _>(limit)
    .bind::<Array<SqlUuid>, _>(running)
    .bind::<Timestamptz, _>(settled);
    Step::rows("saga.adopt", update)
}

/// Removes sagas that succeeded or failed longer than `age` ago, each with its log, at most
/// [`PURGE_ROWS_MAX`], the oldest first; gives how many.
///
/// A row in transition names in `changed_by` the saga that is at work on it, which has not ended or is
/// stuck; neither goes. The late try of a batch of a saga that is gone meets no fence and aborts.
pub fn purge(age: Duration) -> Step<u64> {
    let delete = diesel::sql_query(format!(
        "WITH old AS MATERIALIZED (\
         SELECT id FROM saga WHERE state IN ('succeeded', 'failed') \
         AND time_finished < now() - make_interval(secs => $1) \
         ORDER BY time_finished, id LIMIT {PURGE_ROWS_MAX} FOR UPDATE SKIP LOCKED), \
         log AS (DELETE FROM saga_event WHERE saga_id IN (SELECT id FROM old)) \
         DELETE FROM saga WHERE id IN (SELECT id FROM old)",
    ))
    .bind::<Double, _>(age.as_secs_f64());
    Step::count("saga.purge", delete).locking()
}
