//! `DELETE /v1/projects/{project}`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sagas::saga::project_delete::{Output, Params, ProjectDelete as Saga};

use crate::api::project::ProjectPath as PathDocs;
use crate::app::App;
use crate::endpoint::{find_project, project_tag};
use crate::http::error::ApiError;
use crate::http::etag::IfMatchHeader;
use crate::http::extract::{NoQuery, ProjectPath, Query};
use crate::http::prefer::PreferHeader;
use crate::http::submit::{Caller, run};

/// Delete a project
///
/// A project with instances is not deleted: the answer names them. Its name is free again
/// afterwards, and the fleet's quota has the project back.
#[utoipa::path(
    delete, path = "/v1/projects/{project}", operation_id = "project_delete", tag = "projects",
    params(PathDocs, PreferHeader, IfMatchHeader),
    responses((status = 204, description = "The project is deleted.")),
    extensions(("x-error-codes" = json!(["not_empty", "wrong_state"]))),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    path: ProjectPath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let project = find_project(&app, &path.project).await?;
    let generation = project_tag(&project).if_match(&caller.headers)?;
    let params = Params::new(&project, generation);
    run::<Saga>(&app, &caller, params, |Output::V1 { .. }| {
        StatusCode::NO_CONTENT.into_response()
    })
    .await
}
