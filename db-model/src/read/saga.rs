//! Reading sagas and their logs.

use diesel::prelude::*;
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

/// The log of a saga, in the order of its nodes and of recording.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn events(pool: &ReadPool, id: Uuid) -> Result<Vec<SagaEvent>, ReadError> {
    let query = saga_event::table
        .filter(saga_event::saga_id.eq(id))
        .order((saga_event::node_id, saga_event::time_recorded))
        .select(SagaEvent::as_select());
    rows!(pool, "saga_event.list", query)
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
    let query = paged!(query, page, saga.resource_name, time_created, id);
    rows!(pool, "saga.list", query)
}
