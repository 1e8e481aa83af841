//! Reading projects.

use diesel::prelude::*;

use super::page::{PageRequest, paged};
use super::{ReadError, rows};
use crate::model::Project;
use crate::pool::ReadPool;
use crate::schema::project;
use crate::types::NameOrId;

/// The project that is not deleted, by name or id.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn view(pool: &ReadPool, which: &NameOrId) -> Result<Option<Project>, ReadError> {
    let mut query = project::table
        .filter(project::time_deleted.is_null())
        .select(Project::as_select())
        .into_boxed();
    query = match which {
        NameOrId::Name(name) => query.filter(project::name.eq(name.as_str().to_owned())),
        NameOrId::Id(id) => query.filter(project::id.eq(*id)),
    };
    Ok(rows!(pool, "project.view", query)?.pop())
}

/// One page of the projects that are not deleted.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn list(pool: &ReadPool, page: &PageRequest) -> Result<Vec<Project>, ReadError> {
    let query = project::table
        .filter(project::time_deleted.is_null())
        .select(Project::as_select())
        .into_boxed();
    let query = paged!(query, page, project.name, time_created, id);
    rows!(pool, "project.list", query)
}
