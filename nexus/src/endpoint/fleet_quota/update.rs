//! `PUT /v1/fleet/quota`

use axum::Json as Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use db_model::batch::Persistence;
use db_model::query::{Change, event, fleet_quota};

use super::view::{find, tag};
use crate::api::quota::{FleetLimits, FleetQuota};
use crate::app::App;
use crate::endpoint::only;
use crate::http::error::ApiError;
use crate::http::etag::IfMatchHeader;
use crate::http::extract::{Json, NoQuery, Query};

/// Update the fleet's limit
///
/// Sets how many projects there may be. The limit may be lower than what is used: then no project
/// is created until enough are deleted.
#[utoipa::path(
    put, path = "/v1/fleet/quota", operation_id = "fleet_quota_update", tag = "quotas",
    params(IfMatchHeader),
    request_body = FleetLimits,
    responses((status = 200, description = "The fleet's quota.", body = FleetQuota, headers(
        ("ETag" = String, description = "The quota's new entity tag."),
    ))),
)]
pub async fn update(
    State(app): State<App>,
    headers: HeaderMap,
    Query(NoQuery): Query<NoQuery>,
    Json(body): Json<FleetLimits>,
) -> Result<Response, ApiError> {
    let projects = body.validate()?;
    let quota = find(&app).await?;
    let generation = tag(&quota).if_match(&headers)?;
    let update = fleet_quota::update(Change::new(), projects, generation)
        .commit_as(&app.database().writes, Persistence::Keyed);
    let quota = match update.await {
        Ok(rows) => only(rows)?,
        // The reply was lost, and a second try found the first: the quota as it is by now.
        Err(error) if event::is_recorded(&error) => find(&app).await?,
        Err(error) => return Err(error.into()),
    };
    let etag = tag(&quota).to_header();
    Ok(([(header::ETAG, etag)], Body(FleetQuota::from(quota))).into_response())
}
