//! `GET /v1/projects/{project}/instances/{instance}`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::api::instance::{Instance, InstancePath as PathDocs};
use crate::app::App;
use crate::endpoint::{find_instance, instance_tag};
use crate::http::error::ApiError;
use crate::http::etag::IfNoneMatchHeader;
use crate::http::extract::{InstancePath, NoQuery, Query};

/// View an instance
///
/// The instance as it stands, what may be asked of it now, and the operation that is at work on it.
#[utoipa::path(
    get, path = "/v1/projects/{project}/instances/{instance}", operation_id = "instance_view",
    tag = "instances",
    params(PathDocs, IfNoneMatchHeader),
    responses((status = 200, description = "The instance.", body = Instance, headers(
        ("ETag" = String, description = "The instance's entity tag."),
    ))),
)]
pub async fn view(
    State(app): State<App>,
    headers: HeaderMap,
    path: InstancePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let instance = find_instance(&app, &path.project, &path.instance).await?;
    instance_tag(&instance).view(&headers, Json(Instance::from(instance)))
}
