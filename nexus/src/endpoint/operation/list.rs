//! `GET /v1/operations`

use axum::Json;
use axum::extract::State;
use db_model::read;
use db_model::read::saga::SagaFilter;

use crate::api::operation::{Operation, OperationFilter, OperationPage, OperationState};
use crate::api::page::{PageQuery, SortBy};
use crate::app::App;
use crate::endpoint::find_project_id;
use crate::http::error::ApiError;
use crate::http::extract::Query;
use crate::http::page::Page;

/// List operations
///
/// A page of the operations, the newest first unless told otherwise; by name means by the name of
/// what they work on.
#[utoipa::path(
    get, path = "/v1/operations", operation_id = "operation_list", tag = "operations",
    params(PageQuery, OperationFilter),
    responses((status = 200, description = "A page of operations.", body = OperationPage)),
    extensions(("x-error-codes" = json!(["not_found"]))),
)]
pub async fn list(
    State(app): State<App>,
    Query((query, filter)): Query<(PageQuery, OperationFilter)>,
) -> Result<Json<OperationPage>, ApiError> {
    let project_id = match &filter.project {
        Some(text) => Some(find_project_id(&app, text).await?),
        None => None,
    };
    let scope = format!(
        "operations state={} kind={} project={}",
        filter.state.map_or("", OperationState::as_str),
        filter.kind.as_deref().unwrap_or_default(),
        project_id.unwrap_or_default(),
    );
    let page = Page::new(query, &scope, SortBy::TimeCreatedDescending)?;
    let filter = SagaFilter {
        states: filter.state.map(OperationState::saga_states),
        name: filter.kind,
        project_id,
        ids: None,
    };
    let mut rows = read::saga::list(app.reads(), &filter, &page.request).await?;
    let next_page = page.cut(&mut rows);
    Ok(Json(OperationPage {
        items: rows.into_iter().map(Operation::from).collect(),
        next_page,
    }))
}
