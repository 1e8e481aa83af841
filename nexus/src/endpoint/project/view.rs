//! `GET /v1/projects/{project}`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::api::project::{Project, ProjectPath as PathDocs};
use crate::app::App;
use crate::endpoint::{find_project, project_tag};
use crate::http::error::ApiError;
use crate::http::etag::IfNoneMatchHeader;
use crate::http::extract::{NoQuery, ProjectPath, Query};

/// View a project
///
/// The project as it stands, by its name or its id.
#[utoipa::path(
    get, path = "/v1/projects/{project}", operation_id = "project_view", tag = "projects",
    params(PathDocs, IfNoneMatchHeader),
    responses((status = 200, description = "The project.", body = Project, headers(
        ("ETag" = String, description = "The project's entity tag."),
    ))),
)]
pub async fn view(
    State(app): State<App>,
    headers: HeaderMap,
    path: ProjectPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let project = find_project(&app, &path.project).await?;
    project_tag(&project).view(&headers, Json(Project::from(project)))
}
