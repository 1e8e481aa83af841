//! `GET /v1/fleet/quota`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use db_model::model::FleetQuota as Row;
use db_model::read;

use crate::api::quota::FleetQuota;
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::etag::{IfNoneMatchHeader, Tag};
use crate::http::extract::{NoQuery, Query};

/// View the fleet's quota
///
/// How many projects there may be, and how many there are.
#[utoipa::path(
    get, path = "/v1/fleet/quota", operation_id = "fleet_quota_view", tag = "quotas",
    params(IfNoneMatchHeader),
    responses((status = 200, description = "The fleet's quota.", body = FleetQuota, headers(
        ("ETag" = String, description = "The quota's entity tag."),
    ))),
)]
pub async fn view(
    State(app): State<App>,
    headers: HeaderMap,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let quota = find(&app).await?;
    tag(&quota).view(&headers, Json(FleetQuota::from(quota)))
}

/// The fleet's quota, which the first start has made.
pub(super) async fn find(app: &App) -> Result<Row, ApiError> {
    let quota = read::quota::fleet(app.reads()).await?;
    quota.ok_or_else(|| ApiError::internal("the fleet has no quota row"))
}

/// The tag of the fleet's quota.
pub(super) fn tag(quota: &Row) -> Tag {
    Tag {
        id: quota.id,
        generation: quota.generation,
    }
}
