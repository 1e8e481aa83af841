//! `GET /v1/version`

use axum::Json;

use crate::api::version::Version;
use crate::http::extract::{NoQuery, Query};

/// View the version
///
/// What runs here.
#[utoipa::path(
    get, path = "/v1/version", operation_id = "version_view", tag = "service",
    responses((status = 200, description = "The version.", body = Version)),
)]
pub async fn view(Query(NoQuery): Query<NoQuery>) -> Json<Version> {
    Json(Version::CURRENT)
}
