//! Changing saga rows.
//!
//! Every change names the fence: the executor and the generation under which it holds the saga. An
//! executor that lost the saga touches no row and is told so by the guard.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Bool, Double, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use serde_json::Value;
use uuid::Uuid;

use super::clock_timestamp;
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

/// How a saga stands from now on. The time of an end is the database's.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Every node is done.
    Succeeded {
        /// What it gave.
        output: Value,
        /// How often its last node was tried, unless that is recorded in the log.
        attempts: Option<i32>,
        /// What its last node took, in microseconds.
        duration_us: Option<i64>,
    },
    /// A node has failed for this reason, and what was done is being undone.
    Unwinding(Option<Value>),
    /// A node has failed, and everything is undone.
    Failed(Option<Value>),
    /// It waits for a person.
    Stuck(Option<Value>),
}

/// Records how a saga stands.
///
/// An end is for good: nothing changes a row that has ended, so the batch of a last node that arrives
/// late finds its saga unwinding or ended, and does nothing. Who ended it is told apart by the guard, for
/// a second run of the same batch after a lost reply: [`super::saga_event::Rejection::Ended`].
pub fn progress(fence: Fence, progress: Progress) -> Step<()> {
    let (state, output, error, attempts, duration_us) = match progress {
        Progress::Succeeded {
            output,
            attempts,
            duration_us,
        } => (
            SagaState::Succeeded,
            Some(output),
            None,
            attempts,
            duration_us,
        ),
        Progress::Unwinding(error) => (SagaState::Unwinding, None, error, None, None),
        Progress::Failed(error) => (SagaState::Failed, None, error, None, None),
        Progress::Stuck(error) => (SagaState::Stuck, None, error, None, None),
    };
    let time = case_when(
        state.is_over().into_sql::<Bool>(),
        clock_timestamp().nullable(),
    );
    // A saga that unwinds cannot succeed any more.
    let from: &[SagaState] = match state {
        SagaState::Succeeded => &[SagaState::Running],
        _ => &[SagaState::Running, SagaState::Unwinding],
    };
    let update = diesel::update(dsl::saga)
        .filter(dsl::id.eq(fence.saga_id))
        .filter(dsl::executor_id.eq(fence.executor_id))
        .filter(dsl::generation.eq(fence.generation))
        .filter(dsl::time_finished.is_null())
        .filter(dsl::state.eq_any(from))
        .set((
            dsl::state.eq(state),
            dsl::output.eq(output),
            dsl::error.eq(error),
            dsl::time_finished.eq(time),
            dsl::last_attempts.eq(attempts),
            dsl::last_duration_us.eq(duration_us),
        ));
    let guard = Guard::new("guard_saga_progress")
        .id(fence.saga_id)
        .id(fence.executor_id)
        .number(fence.generation);
    Step::guarded("saga.progress", update, guard).locking()
}

/// What a saga gave.
#[derive(Clone, Debug, QueryableByName)]
pub struct Given {
    /// Its output, if it succeeded.
    #[diesel(sql_type = Nullable<Json>)]
    pub output: Option<Value>,
}

/// What a saga gave, as the primary has it.
pub fn output(id: Uuid) -> Step<Vec<Given>> {
    let select = diesel::sql_query("SELECT output FROM saga WHERE id = $1").bind::<SqlUuid, _>(id);
    Step::rows("saga.output", select)
}

/// How many characters of a definition's hash are compared: rows of earlier versions hold more.
pub const DEFINITION_HASH_CHARACTERS: usize = 16;

/// A saga that was taken over.
#[derive(Clone, Debug, QueryableByName)]
pub struct Adopted {
    /// The id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The definition's name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// The definition's hash.
    #[diesel(sql_type = Text)]
    pub definition_hash: String,
    /// The project that it works in or on.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub project_id: Option<Uuid>,
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

/// Takes over at most `limit` unfinished sagas whose owner was declared dead. Only definitions of
/// `definitions` (`name:hash`) are taken.
///
/// That a lease has run out is not enough: its owner may wake and renew it until somebody ends it, and must
/// not go on living without its sagas.
///
/// SKIP LOCKED leaves out a saga whose old owner still has a batch under way; the caller comes again.
/// The update asks once more whether the saga has ended, for it may have while this waited.
pub fn adopt_orphans(
    executor_id: Uuid,
    definitions: Vec<String>,
    limit: i64,
) -> Step<Vec<Adopted>> {
    let update = diesel::sql_query(adoption(
        "s.executor_id <> $1 \
         AND s.executor_id <> ALL (ARRAY(SELECT e.id FROM executor e WHERE e.time_ended IS NULL))",
    ))
    .bind::<SqlUuid, _>(executor_id)
    .bind::<Array<Text>, _>(definitions)
    .bind::<BigInt, _>(limit);
    Step::rows("saga.adopt", update)
}

/// Takes over at most `limit` sagas that are this executor's own already and not among those that it is
/// `running`, and that were asked for before `settled`: the reply to their insert was lost, or the reply
/// to the batch that adopted them.
pub fn adopt_forgotten(
    executor_id: Uuid,
    running: Vec<Uuid>,
    settled: DateTime<Utc>,
    definitions: Vec<String>,
    limit: i64,
) -> Step<Vec<Adopted>> {
    let update = diesel::sql_query(adoption(
        "s.executor_id = $1 AND s.id = ANY (ARRAY(\
         SELECT o.id FROM saga o WHERE o.executor_id = $1 AND o.time_finished IS NULL \
         AND o.time_created < $5 EXCEPT SELECT unnest($4)))",
    ))
    .bind::<SqlUuid, _>(executor_id)
    .bind::<Array<Text>, _>(definitions)
    .bind::<BigInt, _>(limit)
    .bind::<Array<SqlUuid>, _>(running)
    .bind::<Timestamptz, _>(settled);
    Step::rows("saga.adopt", update)
}

/// Every part is written so that it is evaluated once, whatever the statistics say: they say that next to
/// nothing is unfinished, and plans for next to nothing are quadratic when thousands are. The page is
/// locked before the update, and the update asks by the state, for which there is no index to go through
/// instead of the page.
fn adoption(nobody_runs_it: &str) -> String {
    format!(
        "WITH page AS MATERIALIZED (\
         SELECT s.id FROM saga s WHERE s.time_finished IS NULL \
         AND s.name || ':' || left(s.definition_hash, {DEFINITION_HASH_CHARACTERS}) = ANY($2) \
         AND {nobody_runs_it} \
         AND EXISTS (SELECT 1 FROM executor e WHERE e.id = $1 \
         AND e.time_ended IS NULL AND e.time_lease_expires > clock_timestamp()) \
         ORDER BY s.executor_id, s.id LIMIT $3 FOR UPDATE SKIP LOCKED) \
         UPDATE saga SET executor_id = $1, generation = generation + 1 FROM page \
         WHERE saga.id = page.id AND state IN ('running', 'unwinding') \
         RETURNING saga.id, name, definition_hash, project_id, params, generation, request_id"
    )
}

/// A saga that goes on because a person said so.
#[derive(Clone, Debug, QueryableByName)]
pub struct Retried {
    /// The id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// How it stands now.
    #[diesel(sql_type = Text)]
    pub state: SagaState,
}

/// Takes an unfinished or stuck saga from whoever holds it, so that the next executor that looks adopts it;
/// gives nothing when there is none or it is over.
///
/// The generation rises at once: a live executor that still works on it can write nothing any more. No
/// executor has the id 0, so nobody is asked whether it is alive.
pub fn retry(id: Uuid) -> Step<Vec<Retried>> {
    let update = diesel::sql_query(
        "UPDATE saga SET generation = generation + 1, executor_id = $2, time_finished = NULL, \
         state = CASE WHEN EXISTS (SELECT 1 FROM saga_event e WHERE e.saga_id = $1 AND e.kind = 'failed') \
         THEN 'unwinding' ELSE 'running' END \
         WHERE id = $1 AND state IN ('running', 'unwinding', 'stuck') RETURNING id, state",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<SqlUuid, _>(Uuid::nil());
    Step::rows("saga.retry", update).locking()
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
