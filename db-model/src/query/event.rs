//! Recording what happened, in the batch that makes it happen.
//!
//! Each step reads the resource's row as the steps before it have left it and locked it, so that name
//! and generation are true, and the events of one resource get their times one after another.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::Change;
use crate::batch::{BatchError, Step};
use crate::model::FLEET_ID;
use crate::schema::event::dsl;
use crate::schema::{fleet_quota, instance, project, project_quota};
use crate::types::EventKind;

/// The key that says that a change has been recorded before.
const KEY: &str = "event_pkey";

/// The name under which the fleet's quota is recorded.
const FLEET_NAME: &str = "fleet";

/// The columns that are written; the database adds the time, and the publication the place.
const COLUMNS: (
    dsl::id,
    dsl::kind,
    dsl::operation_id,
    dsl::project_id,
    dsl::resource_id,
    dsl::resource_name,
    dsl::resource_generation,
) = (
    dsl::id,
    dsl::kind,
    dsl::operation_id,
    dsl::project_id,
    dsl::resource_id,
    dsl::resource_name,
    dsl::resource_generation,
);

/// Records what a saga did to a project. It comes after the step that changes the project's row.
pub fn of_project(change: Change, kind: EventKind, project_id: Uuid) -> Step<()> {
    let row = project::table.filter(project::id.eq(project_id)).select((
        change.id.into_sql::<SqlUuid>(),
        kind.into_sql::<Text>(),
        Some(change.id).into_sql::<Nullable<SqlUuid>>(),
        project::id.nullable(),
        project::id,
        project::name,
        project::generation,
    ));
    let insert = row.insert_into(dsl::event).into_columns(COLUMNS);
    Step::exactly_one("event.of_project", insert)
}

/// Records what a saga did to an instance. It comes after the step that changes the instance's row.
pub fn of_instance(change: Change, kind: EventKind, instance_id: Uuid) -> Step<()> {
    let row = instance::table
        .filter(instance::id.eq(instance_id))
        .select((
            change.id.into_sql::<SqlUuid>(),
            kind.into_sql::<Text>(),
            Some(change.id).into_sql::<Nullable<SqlUuid>>(),
            instance::project_id.nullable(),
            instance::id,
            instance::name,
            instance::generation,
        ));
    let insert = row.insert_into(dsl::event).into_columns(COLUMNS);
    Step::exactly_one("event.of_instance", insert)
}

/// Records that the limits of a project are set by the next step, and claims the key of the change.
///
/// The row is locked by the step before, so its next generation is known. The event comes before the
/// guarded update: a second run of the batch fails with 23505 on the key, whatever later changes have
/// made of the row. A project that is gone gives no row here, and it is for the update to refuse.
pub(super) fn of_project_quota(change: Change, project_id: Uuid) -> Step<()> {
    let row = project_quota::table
        .inner_join(project::table)
        .filter(project_quota::project_id.eq(project_id))
        .select((
            change.id.into_sql::<SqlUuid>(),
            EventKind::ProjectQuotaUpdated.into_sql::<Text>(),
            None::<Uuid>.into_sql::<Nullable<SqlUuid>>(),
            project::id.nullable(),
            project::id,
            project::name,
            project_quota::generation + 1.into_sql::<BigInt>(),
        ));
    let insert = row.insert_into(dsl::event).into_columns(COLUMNS);
    Step::statement("event.of_project_quota", insert).key(KEY)
}

/// Records that the limit of the fleet is set by the next step, as [`of_project_quota`] does.
pub(super) fn of_fleet_quota(change: Change) -> Step<()> {
    let row = fleet_quota::table
        .filter(fleet_quota::id.eq(FLEET_ID))
        .select((
            change.id.into_sql::<SqlUuid>(),
            EventKind::FleetQuotaUpdated.into_sql::<Text>(),
            None::<Uuid>.into_sql::<Nullable<SqlUuid>>(),
            None::<Uuid>.into_sql::<Nullable<SqlUuid>>(),
            fleet_quota::id,
            FLEET_NAME.into_sql::<Text>(),
            fleet_quota::generation + 1.into_sql::<BigInt>(),
        ));
    let insert = row.insert_into(dsl::event).into_columns(COLUMNS);
    Step::statement("event.of_fleet_quota", insert).key(KEY)
}

/// Whether a batch failed because this very change has committed before: its reply was lost, and it
/// was sent again.
pub fn is_recorded(error: &BatchError) -> bool {
    matches!(error, BatchError::Recorded { .. }) && error.constraint() == Some(KEY)
}
