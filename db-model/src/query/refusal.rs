//! Reading the details that guards send along.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::batch::flight::ServerError;
use crate::constraint::{Blocker, Refusal};
use crate::types::ResourceKind;

fn detail<T: DeserializeOwned>(error: &ServerError) -> Option<T> {
    serde_json::from_str(error.detail.as_deref()?).ok()
}

#[derive(Deserialize)]
struct Exceeded {
    scope: String,
    scope_id: Uuid,
    resource: String,
    limit: i64,
    used: i64,
    requested: i64,
}

/// From `quota_exceeded`.
pub(super) fn quota_exceeded(error: &ServerError) -> Option<Refusal> {
    let Exceeded {
        scope,
        scope_id,
        resource,
        limit,
        used,
        requested,
    } = detail(error)?;
    Some(Refusal::QuotaExceeded {
        scope,
        scope_id,
        resource,
        limit,
        used,
        requested,
    })
}

#[derive(Deserialize)]
struct State {
    id: Uuid,
    state: Option<String>,
}

/// From `project_state` and `instance_state`: no state means that the row is gone.
pub(super) fn state(kind: ResourceKind, error: &ServerError) -> Option<Refusal> {
    let State { id, state } = detail(error)?;
    Some(match state {
        Some(state) => Refusal::WrongState { kind, id, state },
        None => Refusal::NotFound { kind, id },
    })
}

#[derive(Deserialize)]
struct Holder {
    id: Uuid,
    name: String,
}

/// From the name keys.
pub(super) fn name_taken(kind: ResourceKind, error: &ServerError) -> Option<Refusal> {
    let Holder { id, name } = detail(error)?;
    Some(Refusal::NameTaken { kind, name, id })
}

#[derive(Deserialize)]
struct NotEmpty {
    id: Uuid,
    instances: i64,
    first: Vec<Blocker>,
}

/// From `not_empty`.
pub(super) fn not_empty(error: &ServerError) -> Option<Refusal> {
    let NotEmpty {
        id,
        instances,
        first,
    } = detail(error)?;
    Some(Refusal::NotEmpty {
        id,
        instances,
        first,
    })
}

#[derive(Deserialize)]
struct Changed {
    kind: String,
    id: Uuid,
    expected: i64,
    found: i64,
}

/// From `generation`.
pub(super) fn changed(error: &ServerError) -> Option<Refusal> {
    let Changed {
        kind,
        id,
        expected,
        found,
    } = detail(error)?;
    Some(Refusal::Changed {
        kind,
        id,
        expected,
        found,
    })
}
