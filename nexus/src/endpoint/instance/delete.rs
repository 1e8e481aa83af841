//! `DELETE /v1/projects/{project}/instances/{instance}`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sagas::saga::instance_delete::{InstanceDelete as Saga, Output, Params};

use crate::api::instance::InstancePath as PathDocs;
use crate::app::App;
use crate::endpoint::{find_instance, instance_tag};
use crate::http::error::ApiError;
use crate::http::etag::IfMatchHeader;
use crate::http::extract::{InstancePath, NoQuery, Query};
use crate::http::prefer::PreferHeader;
use crate::http::submit::{Caller, run};

/// Delete an instance
///
/// Only an instance that is stopped or failed is deleted. The project's quota has back what the
/// instance used.
#[utoipa::path(
    delete, path = "/v1/projects/{project}/instances/{instance}", operation_id = "instance_delete",
    tag = "instances",
    params(PathDocs, PreferHeader, IfMatchHeader),
    responses((status = 204, description = "The instance is deleted.")),
    extensions(("x-error-codes" = json!(["wrong_state"]))),
)]
pub async fn delete(
    State(app): State<App>,
    caller: Caller,
    path: InstancePath,
    Query(NoQuery): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let instance = find_instance(&app, &path.project, &path.instance).await?;
    let generation = instance_tag(&instance).if_match(&caller.headers)?;
    let params = Params::new(&instance, generation);
    run::<Saga>(&app, &caller, params, |Output::V1 { .. }| {
        StatusCode::NO_CONTENT.into_response()
    })
    .await
}
