//! `POST /v1/projects`

use axum::extract::State;
use axum::response::Response;
use sagas::saga::project_create::{Output, Params, ProjectCreate as Saga};

use crate::api::project::{Project, ProjectCreate};
use crate::app::App;
use crate::endpoint::project_tag;
use crate::http::error::ApiError;
use crate::http::extract::{Json, NoQuery, Query};
use crate::http::prefer::PreferHeader;
use crate::http::submit::{Caller, created, run};

/// Create a project
///
/// Charges the fleet's quota and makes the project with a quota of its own. Limits that the body
/// does not name are the configured defaults.
#[utoipa::path(
    post, path = "/v1/projects", operation_id = "project_create", tag = "projects",
    params(PreferHeader),
    request_body = ProjectCreate,
    responses((status = 201, description = "The project.", body = Project, headers(
        ("Location" = String, description = "The path of the project."),
        ("ETag" = String, description = "The project's entity tag."),
    ))),
    extensions(("x-error-codes" = json!(["name_taken", "quota_exceeded"]))),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Query(NoQuery): Query<NoQuery>,
    Json(body): Json<ProjectCreate>,
) -> Result<Response, ApiError> {
    let (name, description, limits) = body.validate(app.project_limits())?;
    let params = Params::new(name, description, limits);
    run::<Saga>(&app, &caller, params, |Output::V1(project)| {
        let path = format!("/v1/projects/{}", project.id);
        created(path, project_tag(&project), Project::from(project))
    })
    .await
}
