//! Changing a project's quota.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable};
use uuid::Uuid;

use super::{Change, event, refusal};
use crate::batch::flight::ServerError;
use crate::batch::{Batch, Guard, Step};
use crate::constraint::Refusal;
use crate::model::{ProjectLimits, ProjectQuota};
use crate::schema::instance;
use crate::schema::project_quota::dsl;
use crate::types::ResourceKind;
use crate::types::limits::BLOCKERS_NAMED_MAX;

fn refusals(name: &str, error: &ServerError) -> Option<Refusal> {
    match name {
        "quota_exceeded" => refusal::quota_exceeded(error),
        "project_state" => refusal::state(ResourceKind::Project, error),
        "not_empty" => refusal::not_empty(error),
        "generation" => refusal::changed(error),
        _ => None,
    }
}

/// Makes the row of a new project, closed: the project takes no instances until it is active.
pub fn insert(change: Change, project_id: Uuid, limits: ProjectLimits) -> Step<()> {
    let quota = ProjectQuota {
        project_id,
        open: false,
        instances_limit: limits.instances,
        instances_used: 0,
        vcpus_limit: limits.vcpus,
        vcpus_used: 0,
        memory_bytes_limit: limits.memory_bytes,
        memory_bytes_used: 0,
        generation: 1,
        changed_by: change.id,
        time_created: change.time,
        time_modified: change.time,
    };
    let insert = diesel::insert_into(dsl::project_quota).values(quota);
    Step::exactly_one("project_quota.insert", insert).locking()
}

/// Removes the row of a project that never became active.
pub fn remove(project_id: Uuid) -> Step<()> {
    let delete = diesel::delete(dsl::project_quota)
        .filter(dsl::project_id.eq(project_id))
        .filter(dsl::open.eq(false));
    Step::exactly_one("project_quota.remove", delete).locking()
}

/// Lets the project take instances.
pub fn open(change: Change, project_id: Uuid) -> Step<()> {
    let update = diesel::update(dsl::project_quota)
        .filter(dsl::project_id.eq(project_id))
        .filter(dsl::open.eq(false))
        .set((
            dsl::open.eq(true),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    Step::exactly_one("project_quota.open", update).locking()
}

/// Lets the project take no more instances; refused with every blocker while it has some.
pub fn close(change: Change, project_id: Uuid) -> Step<()> {
    let update = diesel::update(dsl::project_quota)
        .filter(dsl::project_id.eq(project_id))
        .filter(dsl::open.eq(true))
        .filter(dsl::instances_used.eq(0))
        .set((
            dsl::open.eq(false),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    let guard = Guard::new("guard_project_quota_close")
        .id(project_id)
        .number(BLOCKERS_NAMED_MAX);
    Step::guarded("project_quota.close", update, guard)
        .refused_by(refusals)
        .locking()
}

/// What an instance takes from its project's quota, beside the one instance.
#[derive(Clone, Copy, Debug)]
pub struct InstanceCharge {
    /// Virtual CPUs.
    pub vcpus: i64,
    /// Memory, in bytes.
    pub memory_bytes: i64,
}

/// Takes one instance from an open quota, or refuses with the numbers of the first resource that
/// is short.
pub fn charge(change: Change, project_id: Uuid, charge: InstanceCharge) -> Step<()> {
    let update = diesel::update(dsl::project_quota)
        .filter(dsl::project_id.eq(project_id))
        .filter(dsl::open.eq(true))
        .filter((dsl::instances_used + 1).le(dsl::instances_limit))
        .filter((dsl::vcpus_used + charge.vcpus).le(dsl::vcpus_limit))
        .filter((dsl::memory_bytes_used + charge.memory_bytes).le(dsl::memory_bytes_limit))
        .set((
            dsl::instances_used.eq(dsl::instances_used + 1),
            dsl::vcpus_used.eq(dsl::vcpus_used + charge.vcpus),
            dsl::memory_bytes_used.eq(dsl::memory_bytes_used + charge.memory_bytes),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    let guard = Guard::new("guard_project_quota_charge")
        .id(project_id)
        .number(1)
        .number(charge.vcpus)
        .number(charge.memory_bytes);
    Step::guarded("project_quota.charge", update, guard)
        .refused_by(refusals)
        .locking()
}

/// Gives back what the instance's row recorded.
///
/// It must stand in one batch with the guarded step that takes the row away: that step makes sure
/// that the release happens once.
pub fn release(change: Change, project_id: Uuid, instance_id: Uuid) -> Step<()> {
    let row = || instance::table.filter(instance::id.eq(instance_id));
    let vcpus = row()
        .select(instance::vcpus)
        .single_value()
        .assume_not_null();
    let memory_bytes = row()
        .select(instance::memory_bytes)
        .single_value()
        .assume_not_null();
    let update = diesel::update(dsl::project_quota)
        .filter(dsl::project_id.eq(project_id))
        .set((
            dsl::instances_used.eq(dsl::instances_used - 1),
            dsl::vcpus_used.eq(dsl::vcpus_used - vcpus),
            dsl::memory_bytes_used.eq(dsl::memory_bytes_used - memory_bytes),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    Step::exactly_one("project_quota.release", update).locking()
}

/// New limits; those that are `None` stay.
#[derive(Clone, Copy, Debug, Default)]
pub struct LimitsUpdate {
    /// Instances.
    pub instances: Option<i64>,
    /// Virtual CPUs.
    pub vcpus: Option<i64>,
    /// Memory, in bytes.
    pub memory_bytes: Option<i64>,
}

/// Sets limits, which may be lower than the use; only at `generation`, if one is given. Gives the row
/// as it is then.
///
/// The batch has a key, its event: run again with the same change it fails, and
/// [`super::event::is_recorded`] says why. The lock comes first: it waits for a first run that is still
/// under way, and the event, which is written before the update, has the generation that the update
/// gives.
pub fn update(
    change: Change,
    project_id: Uuid,
    limits: LimitsUpdate,
    generation: Option<i64>,
) -> Batch<Vec<ProjectQuota>> {
    Batch::new()
        .step(lock(project_id))
        .step(event::of_project_quota(change, project_id))
        .step(set_limits(change, project_id, limits, generation))
        .step(view(project_id))
        .map(|(_, _, _, rows)| rows)
}

fn lock(project_id: Uuid) -> Step<()> {
    let select = dsl::project_quota
        .filter(dsl::project_id.eq(project_id))
        .select(dsl::project_id)
        .for_update();
    Step::statement("project_quota.lock", select).locking()
}

fn set_limits(
    change: Change,
    project_id: Uuid,
    limits: LimitsUpdate,
    generation: Option<i64>,
) -> Step<()> {
    let any_generation = generation.is_none().into_sql::<Bool>();
    let keep = |limit: Option<i64>| limit.into_sql::<Nullable<BigInt>>();
    let update = diesel::update(dsl::project_quota)
        .filter(dsl::project_id.eq(project_id))
        .filter(dsl::open.eq(true))
        .filter(dsl::generation.nullable().eq(generation).or(any_generation))
        .set((
            dsl::instances_limit.eq(coalesce(keep(limits.instances), dsl::instances_limit)),
            dsl::vcpus_limit.eq(coalesce(keep(limits.vcpus), dsl::vcpus_limit)),
            dsl::memory_bytes_limit
                .eq(coalesce(keep(limits.memory_bytes), dsl::memory_bytes_limit)),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    let guard = Guard::new("guard_project_quota_update")
        .id(project_id)
        .number_or_null(generation);
    Step::guarded("project_quota.set_limits", update, guard)
        .refused_by(refusals)
        .locking()
}

#[diesel::declare_sql_function]
extern "SQL" {
    /// The first of two numbers that is not null.
    fn coalesce(first: Nullable<BigInt>, second: BigInt) -> BigInt;
}

/// The row as the batch leaves it.
pub fn view(project_id: Uuid) -> Step<Vec<ProjectQuota>> {
    let select = dsl::project_quota
        .filter(dsl::project_id.eq(project_id))
        .select(ProjectQuota::as_select());
    Step::rows("project_quota.view", select)
}
