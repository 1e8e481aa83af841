//! Reading quotas.

use diesel::prelude::*;
use uuid::Uuid;

use super::{ReadError, rows};
use crate::model::{FleetQuota, ProjectQuota};
use crate::pool::ReadPool;
use crate::schema::{fleet_quota, project_quota};

/// The fleet's quota; `None` only before the first start has made it.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn fleet(pool: &ReadPool) -> Result<Option<FleetQuota>, ReadError> {
    let query = fleet_quota::table.select(FleetQuota::as_select());
    Ok(rows!(pool, "fleet_quota.view", query)?.pop())
}

/// A project's quota.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn project(pool: &ReadPool, project_id: Uuid) -> Result<Option<ProjectQuota>, ReadError> {
    let query = project_quota::table
        .filter(project_quota::project_id.eq(project_id))
        .select(ProjectQuota::as_select());
    Ok(rows!(pool, "project_quota.view", query)?.pop())
}
