//! `POST /v1/projects/{project}/instances`

use axum::extract::State;
use axum::response::Response;
use sagas::saga::instance_create::{InstanceCreate as Saga, Output, Params};

use crate::api::instance::{Instance, InstanceCreate};
use crate::api::project::ProjectPath as PathDocs;
use crate::app::App;
use crate::endpoint::{find_project, instance_tag};
use crate::http::error::ApiError;
use crate::http::extract::{Json, NoQuery, ProjectPath, Query};
use crate::http::prefer::PreferHeader;
use crate::http::submit::{Caller, created, run};

/// Create an instance
///
/// Charges the project's quota with the instance, its virtual CPUs and its memory, and makes it.
/// The instance ends in the state `stopped`.
#[utoipa::path(
    post, path = "/v1/projects/{project}/instances", operation_id = "instance_create",
    tag = "instances",
    params(PathDocs, PreferHeader),
    request_body = InstanceCreate,
    responses((status = 201, description = "The instance.", body = Instance, headers(
        ("Location" = String, description = "The path of the instance."),
        ("ETag" = String, description = "The instance's entity tag."),
    ))),
    extensions(("x-error-codes" = json!(["name_taken", "quota_exceeded", "wrong_state"]))),
)]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    path: ProjectPath,
    Query(NoQuery): Query<NoQuery>,
    Json(body): Json<InstanceCreate>,
) -> Result<Response, ApiError> {
    let new = body.validate()?;
    let project = find_project(&app, &path.project).await?;
    let params = Params::new(
        project.id,
        new.name,
        new.description,
        new.vcpus,
        new.memory_bytes,
    );
    run::<Saga>(&app, &caller, params, |Output::V1(instance)| {
        let path = format!(
            "/v1/projects/{}/instances/{}",
            instance.project_id, instance.id
        );
        created(path, instance_tag(&instance), Instance::from(instance))
    })
    .await
}
