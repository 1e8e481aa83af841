//! The endpoints: one folder per noun, one file per verb.
//!
//! Each extracts, makes the domain's values of what callers sent, lets `db_model` or `sagas` do the
//! work, and answers. `x-error-codes` names the codes beyond those that every endpoint has.

pub mod event;
pub mod fleet_instance;
pub mod fleet_quota;
pub mod instance;
pub mod operation;
pub mod operation_event;
pub mod project;
pub mod project_quota;
pub mod version;

use db_model::model::{Instance, Project};
use db_model::read;
use db_model::types::NameOrId;
use uuid::Uuid;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::etag::Tag;
use crate::http::extract::path::parse_name_or_id;

/// The project, or 404.
async fn find_project(app: &App, which: &NameOrId) -> Result<Project, ApiError> {
    let project = read::project::view(app.reads(), which).await?;
    project.ok_or_else(|| ApiError::not_found("project", which))
}

/// The id of the project that a filter names. An id is taken as it is: the project may be deleted, and
/// what is said of it is still there.
async fn find_project_id(app: &App, text: &str) -> Result<Uuid, ApiError> {
    match parse_name_or_id("project", text)? {
        NameOrId::Id(id) => Ok(id),
        name => Ok(find_project(app, &name).await?.id),
    }
}

/// The instance of the project, or 404 for either.
async fn find_instance(
    app: &App,
    project: &NameOrId,
    which: &NameOrId,
) -> Result<Instance, ApiError> {
    let project = find_project(app, project).await?;
    let instance = read::instance::view(app.reads(), project.id, which).await?;
    instance.ok_or_else(|| ApiError::not_found("instance", which))
}

/// The row that a batch changed, as it left it.
fn only<T>(mut rows: Vec<T>) -> Result<T, ApiError> {
    let row = rows.pop();
    row.ok_or_else(|| ApiError::internal("a row that was just changed is not there"))
}

/// The tag of a project.
fn project_tag(project: &Project) -> Tag {
    Tag {
        id: project.id,
        generation: project.generation,
    }
}

/// The tag of an instance.
fn instance_tag(instance: &Instance) -> Tag {
    Tag {
        id: instance.id,
        generation: instance.generation,
    }
}
