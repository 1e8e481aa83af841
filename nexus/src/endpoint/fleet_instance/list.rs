//! `GET /v1/instances`

use axum::Json;
use axum::extract::State;
use db_model::read;

use crate::api::instance::{Instance, InstancePage};
use crate::api::page::{PageQuery, SortBy};
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::extract::Query;
use crate::http::page::Page;

/// List all instances
///
/// A page of the instances of all projects, by name unless told otherwise.
#[utoipa::path(
    get, path = "/v1/instances", operation_id = "fleet_instance_list", tag = "instances",
    params(PageQuery),
    responses((status = 200, description = "A page of instances.", body = InstancePage)),
)]
pub async fn list(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<Json<InstancePage>, ApiError> {
    let page = Page::new(query, "instances", SortBy::Name)?;
    let mut rows = read::instance::list(app.reads(), None, &page.request).await?;
    let next_page = page.cut(&mut rows);
    Ok(Json(InstancePage {
        items: rows.into_iter().map(Instance::from).collect(),
        next_page,
    }))
}
