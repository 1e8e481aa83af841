//! `GET /v1/projects`

use axum::Json;
use axum::extract::State;
use db_model::read;

use crate::api::page::{PageQuery, SortBy};
use crate::api::project::{Project, ProjectPage};
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::extract::Query;
use crate::http::page::Page;

/// List projects
///
/// A page of the projects, by name unless told otherwise.
#[utoipa::path(
    get, path = "/v1/projects", operation_id = "project_list", tag = "projects",
    params(PageQuery),
    responses((status = 200, description = "A page of projects.", body = ProjectPage)),
)]
pub async fn list(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<Json<ProjectPage>, ApiError> {
    let page = Page::new(query, "projects", SortBy::Name)?;
    let mut rows = read::project::list(app.reads(), &page.request).await?;
    let next_page = page.cut(&mut rows);
    Ok(Json(ProjectPage {
        items: rows.into_iter().map(Project::from).collect(),
        next_page,
    }))
}
