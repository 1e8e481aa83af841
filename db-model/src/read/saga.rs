//! Reading sagas and their logs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Double, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::page::{PageRequest, paged};
use super::{ReadError, rows};
use crate::model::{Saga, SagaEvent};
use crate::pool::ReadPool;
use crate::schema::{saga, saga_event};
use crate::types::SagaState;

/// Which sagas a list holds. Empty filters hold everything.
#[derive(Clone, Debug, Default)]
pub struct SagaFilter {
    /// Only in one of these states.
    pub states: Option<Vec<SagaState>>,
    /// Only of this definition.
    pub name: Option<String>,
    /// Only in or on this project.
    pub project_id: Option<Uuid>,
    /// Only of these.
    pub ids: Option<Vec<Uuid>>,
}

/// A saga by id.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn view(pool: &ReadPool, id: Uuid) -> Result<Option<Saga>, ReadError> {
    let query = saga::table
        .filter(saga::id.eq(id))
        .select(Saga::as_select());
    Ok(rows!(pool, "saga.view", query)?.pop())
}

/// The log of a saga, in the order of its sequence.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn events(pool: &ReadPool, id: Uuid) -> Result<Vec<SagaEvent>, ReadError> {
    let query = saga_event::table
        .filter(saga_event::saga_id.eq(id))
        .order(saga_event::sequence)
        .select(SagaEvent::as_select());
    rows!(pool, "saga_event.list", query)
}

/// The part of a saga's log behind a number, in the order of its sequence. While the saga goes on numbers may
/// be missing in it: batches of nodes side by side commit in any order.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn events_after(
    pool: &ReadPool,
    id: Uuid,
    after: i64,
) -> Result<Vec<SagaEvent>, ReadError> {
    let query = saga_event::table
        .filter(saga_event::saga_id.eq(id))
        .filter(saga_event::sequence.gt(after))
        .order(saga_event::sequence)
        .select(SagaEvent::as_select());
    rows!(pool, "saga_event.list_after", query)
}

/// The logs of several sagas, each in the order of its sequence.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn logs(pool: &ReadPool, ids: Vec<Uuid>) -> Result<Vec<SagaEvent>, ReadError> {
    let query = saga_event::table
        .filter(saga_event::saga_id.eq_any(ids))
        .order((saga_event::saga_id, saga_event::sequence))
        .select(SagaEvent::as_select());
    rows!(pool, "saga_event.list_several", query)
}

/// One page of sagas. Its order by name is by the resource's name.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn list(
    pool: &ReadPool,
    filter: &SagaFilter,
    page: &PageRequest,
) -> Result<Vec<Saga>, ReadError> {
    let mut query = saga::table.select(Saga::as_select()).into_boxed();
    if let Some(states) = &filter.states {
        query = query.filter(saga::state.eq_any(states.clone()));
    }
    if let Some(name) = &filter.name {
        query = query.filter(saga::name.eq(name.clone()));
    }
    if let Some(project_id) = filter.project_id {
        query = query.filter(saga::project_id.eq(project_id));
    }
    if let Some(ids) = &filter.ids {
        query = query.filter(saga::id.eq_any(ids.clone()));
    }
    let query = paged!(query, page, saga.resource_name, time_created, id);
    rows!(pool, "saga.list", query)
}

/// A saga of which nothing was recorded for longer than its kind allows.
#[derive(Clone, Debug, QueryableByName)]
pub struct Stalled {
    /// The id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The definition's name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// The process that runs it.
    #[diesel(sql_type = SqlUuid)]
    pub executor_id: Uuid,
    /// When something was recorded of it last.
    #[diesel(sql_type = Timestamptz)]
    pub time_recorded: DateTime<Utc>,
}

/// The unfinished sagas of which nothing was recorded for longer than `patience` says for their name.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn stalled(
    pool: &ReadPool,
    patience: &[(&'static str, Duration)],
) -> Result<Vec<Stalled>, ReadError> {
    let (names, seconds): (Vec<_>, Vec<_>) = patience
        .iter()
        .map(|(name, patience)| (*name, patience.as_secs_f64()))
        .unzip();
    let query = diesel::sql_query(
        "SELECT s.id, s.name, s.executor_id, l.time_recorded FROM saga s \
         JOIN unnest($1, $2) AS p (name, seconds) ON p.name = s.name \
         CROSS JOIN LATERAL (SELECT greatest(s.time_created, max(e.time_recorded)) AS time_recorded \
         FROM saga_event e WHERE e.saga_id = s.id) AS l \
         WHERE s.time_finished IS NULL \
         AND l.time_recorded < clock_timestamp() - make_interval(secs => p.seconds) \
         ORDER BY l.time_recorded, s.id",
    )
    .bind::<Array<Text>, _>(names)
    .bind::<Array<Double>, _>(seconds);
    rows!(pool, "saga.stalled", query)
}

#[derive(Debug, QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many sagas wait for a person.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn count_stuck(pool: &ReadPool) -> Result<i64, ReadError> {
    let query = diesel::sql_query("SELECT count(*) AS count FROM saga WHERE state = 'stuck'");
    let rows: Vec<Count> = rows!(pool, "saga.count_stuck", query)?;
    Ok(rows.first().map_or(0, |row| row.count))
}
