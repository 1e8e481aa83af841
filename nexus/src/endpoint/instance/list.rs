//! `GET /v1/projects/{project}/instances`

use axum::Json;
use axum::extract::State;
use db_model::read;

use crate::api::instance::{Instance, InstancePage};
use crate::api::page::{PageQuery, SortBy};
use crate::api::project::ProjectPath as PathDocs;
use crate::app::App;
use crate::endpoint::find_project;
use crate::http::error::ApiError;
use crate::http::extract::{ProjectPath, Query};
use crate::http::page::Page;

/// List a project's instances
///
/// A page of the project's instances, by name unless told otherwise.
#[utoipa::path(
    get, path = "/v1/projects/{project}/instances", operation_id = "instance_list",
    tag = "instances",
    params(PathDocs, PageQuery),
    responses((status = 200, description = "A page of instances.", body = InstancePage)),
)]
pub async fn list(
    State(app): State<App>,
    path: ProjectPath,
    Query(query): Query<PageQuery>,
) -> Result<Json<InstancePage>, ApiError> {
    let project = find_project(&app, &path.project).await?;
    let page = Page::new(query, &format!("instances of {}", project.id), SortBy::Name)?;
    let mut rows = read::instance::list(app.reads(), Some(project.id), &page.request).await?;
    let next_page = page.cut(&mut rows);
    Ok(Json(InstancePage {
        items: rows.into_iter().map(Instance::from).collect(),
        next_page,
    }))
}
