//! `GET /v1/operations/{operation}`

use axum::Json;
use axum::extract::State;
use db_model::read;
use db_model::types::time;

use crate::api::operation::{OperationPath as PathDocs, OperationView};
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::extract::{NoQuery, OperationPath, Query};

/// View an operation
///
/// The operation as it stands: its steps and how they depend on each other, what became of each, how often
/// it was tried and what it took, and its error with where that came from.
#[utoipa::path(
    get, path = "/v1/operations/{operation}", operation_id = "operation_view", tag = "operations",
    params(PathDocs),
    responses((status = 200, description = "The operation.", body = OperationView)),
)]
pub async fn view(
    State(app): State<App>,
    path: OperationPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Json<OperationView>, ApiError> {
    let saga = read::saga::view(app.reads(), path.operation).await?;
    let saga = saga.ok_or_else(|| ApiError::not_found("operation", path.operation))?;
    let events = read::saga::events(app.reads(), saga.id).await?;
    let registry = app.executor().registry();
    let definition = registry.of_row(&saga.name, &saga.definition_hash).cloned();
    // A saga of several nodes that has ended has a log: this one was purged between the two reads.
    let has_log = definition
        .as_ref()
        .is_none_or(|definition| definition.node_names().count() > 1);
    if saga.time_finished.is_some() && events.is_empty() && has_log {
        return Err(ApiError::not_found("operation", path.operation));
    }
    Ok(Json(OperationView::new(
        saga,
        &events,
        definition.as_deref(),
        time::now(),
    )))
}
