//! `PUT /v1/projects/{project}/quota`

use axum::Json as Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use db_model::batch::Persistence;
use db_model::query::project_quota::{self, LimitsUpdate};
use db_model::query::{Change, event};

use super::view::{find, find_by_id, tag};
use crate::api::project::ProjectPath as PathDocs;
use crate::api::quota::{ProjectQuota, QuotaLimits};
use crate::app::App;
use crate::endpoint::only;
use crate::http::error::ApiError;
use crate::http::etag::IfMatchHeader;
use crate::http::extract::{Json, NoQuery, ProjectPath, Query};

/// Update a project's limits
///
/// Sets the limits that the body names. A limit may be lower than what is used: then nothing more
/// is given until enough is given back.
#[utoipa::path(
    put, path = "/v1/projects/{project}/quota", operation_id = "project_quota_update",
    tag = "quotas",
    params(PathDocs, IfMatchHeader),
    request_body = QuotaLimits,
    responses((status = 200, description = "The project's quota.", body = ProjectQuota, headers(
        ("ETag" = String, description = "The quota's new entity tag."),
    ))),
    extensions(("x-error-codes" = json!(["wrong_state"]))),
)]
pub async fn update(
    State(app): State<App>,
    headers: HeaderMap,
    path: ProjectPath,
    Query(NoQuery): Query<NoQuery>,
    Json(body): Json<QuotaLimits>,
) -> Result<Response, ApiError> {
    let limits = body.validate()?;
    let quota = find(&app, &path.project).await?;
    let generation = tag(&quota).if_match(&headers)?;
    let limits = LimitsUpdate {
        instances: limits.instances,
        vcpus: limits.vcpus,
        memory_bytes: limits.memory_bytes,
    };
    let id = quota.project_id;
    let update = project_quota::update(Change::new(), id, limits, generation)
        .commit_as(&app.database().writes, Persistence::Keyed);
    let quota = match update.await {
        Ok(rows) => only(rows)?,
        // The reply was lost, and a second try found the first: the quota as it is by now.
        Err(error) if event::is_recorded(&error) => find_by_id(&app, id).await?,
        Err(error) => return Err(error.into()),
    };
    let etag = tag(&quota).to_header();
    Ok(([(header::ETAG, etag)], Body(ProjectQuota::from(quota))).into_response())
}
