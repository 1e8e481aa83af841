//! `GET /v1/operations/{operation}`

use axum::Json;
use axum::extract::State;
use db_model::read;

use crate::api::operation::{OperationPath as PathDocs, OperationView};
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::extract::{NoQuery, OperationPath, Query};

/// View an operation
///
/// The operation as it stands, with its steps, their errors and their times.
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
    // A saga that has ended has a log: this one was purged, log and row, between the two reads.
    if saga.time_finished.is_some() && events.is_empty() {
        return Err(ApiError::not_found("operation", path.operation));
    }
    let names = sagas::registry::nodes(&saga.name);
    Ok(Json(OperationView::new(saga, events, names)))
}
