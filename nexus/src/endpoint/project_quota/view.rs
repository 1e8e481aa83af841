//! `GET /v1/projects/{project}/quota`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use db_model::model::ProjectQuota as Row;
use db_model::read;
use db_model::types::NameOrId;
use uuid::Uuid;

use crate::api::project::ProjectPath as PathDocs;
use crate::api::quota::ProjectQuota;
use crate::app::App;
use crate::endpoint::find_project;
use crate::http::error::ApiError;
use crate::http::etag::{IfNoneMatchHeader, Tag};
use crate::http::extract::{NoQuery, ProjectPath, Query};

/// View a project's quota
///
/// What the project's instances may use together, and what they use.
#[utoipa::path(
    get, path = "/v1/projects/{project}/quota", operation_id = "project_quota_view", tag = "quotas",
    params(PathDocs, IfNoneMatchHeader),
    responses((status = 200, description = "The project's quota.", body = ProjectQuota, headers(
        ("ETag" = String, description = "The quota's entity tag."),
    ))),
)]
pub async fn view(
    State(app): State<App>,
    headers: HeaderMap,
    path: ProjectPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let quota = find(&app, &path.project).await?;
    tag(&quota).view(&headers, Json(ProjectQuota::from(quota)))
}

/// The quota of the project, or 404.
pub(super) async fn find(app: &App, which: &NameOrId) -> Result<Row, ApiError> {
    let project = find_project(app, which).await?;
    find_by_id(app, project.id).await
}

/// The quota of a project that there is or was.
pub(super) async fn find_by_id(app: &App, project_id: Uuid) -> Result<Row, ApiError> {
    let quota = read::quota::project(app.reads(), project_id).await?;
    quota.ok_or_else(|| ApiError::internal(format!("project {project_id} has no quota row")))
}

/// The tag of a project's quota.
pub(super) fn tag(quota: &Row) -> Tag {
    Tag {
        id: quota.project_id,
        generation: quota.generation,
    }
}
