//! Reading instances.

use diesel::prelude::*;
use uuid::Uuid;

use super::page::{PageRequest, paged};
use super::{ReadError, rows};
use crate::model::Instance;
use crate::pool::ReadPool;
use crate::schema::instance;
use crate::types::NameOrId;

/// The project's instance that is not deleted, by name or id.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn view(
    pool: &ReadPool,
    project_id: Uuid,
    which: &NameOrId,
) -> Result<Option<Instance>, ReadError> {
    let mut query = instance::table
        .filter(instance::project_id.eq(project_id))
        .filter(instance::time_deleted.is_null())
        .select(Instance::as_select())
        .into_boxed();
    query = match which {
        NameOrId::Name(name) => query.filter(instance::name.eq(name.as_str().to_owned())),
        NameOrId::Id(id) => query.filter(instance::id.eq(*id)),
    };
    Ok(rows!(pool, "instance.view", query)?.pop())
}

/// One page of the instances that are not deleted, of one project or of all.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn list(
    pool: &ReadPool,
    project_id: Option<Uuid>,
    page: &PageRequest,
) -> Result<Vec<Instance>, ReadError> {
    let mut query = instance::table
        .filter(instance::time_deleted.is_null())
        .select(Instance::as_select())
        .into_boxed();
    if let Some(project_id) = project_id {
        query = query.filter(instance::project_id.eq(project_id));
    }
    let query = paged!(query, page, instance.name, time_created, id);
    rows!(pool, "instance.list", query)
}
