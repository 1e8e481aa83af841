//! Changing the fleet's quota.

use diesel::prelude::*;

use super::{Change, event, refusal};
use crate::batch::flight::ServerError;
use crate::batch::{Batch, Guard, Step};
use crate::constraint::Refusal;
use crate::model::{FLEET_ID, FleetQuota};
use crate::schema::fleet_quota::dsl;

fn refusals(name: &str, error: &ServerError) -> Option<Refusal> {
    match name {
        "quota_exceeded" => refusal::quota_exceeded(error),
        "generation" => refusal::changed(error),
        _ => None,
    }
}

/// Makes the row, if there is none yet.
pub fn ensure(change: Change, projects_limit: i64) -> Step<()> {
    let insert = diesel::insert_into(dsl::fleet_quota)
        .values((
            dsl::id.eq(FLEET_ID),
            dsl::projects_limit.eq(projects_limit),
            dsl::projects_used.eq(0),
            dsl::generation.eq(1),
            dsl::changed_by.eq(change.id),
            dsl::time_created.eq(change.time),
            dsl::time_modified.eq(change.time),
        ))
        .on_conflict_do_nothing();
    Step::statement("fleet_quota.ensure", insert).locking()
}

/// Takes one project from the quota, or refuses with the numbers.
pub fn charge(change: Change) -> Step<()> {
    let update = diesel::update(dsl::fleet_quota)
        .filter(dsl::id.eq(FLEET_ID))
        .filter((dsl::projects_used + 1).le(dsl::projects_limit))
        .set((
            dsl::projects_used.eq(dsl::projects_used + 1),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    let guard = Guard::new("guard_fleet_quota_charge").number(1);
    Step::guarded("fleet_quota.charge", update, guard)
        .refused_by(refusals)
        .locking()
}

/// Gives one project back.
pub fn release(change: Change) -> Step<()> {
    let update = diesel::update(dsl::fleet_quota)
        .filter(dsl::id.eq(FLEET_ID))
        .set((
            dsl::projects_used.eq(dsl::projects_used - 1),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    Step::exactly_one("fleet_quota.release", update).locking()
}

/// Sets the limit, which may be lower than the use; only at `generation`, if one is given. Gives the
/// row as it is then.
///
/// The batch has a key, its event, as that of a project's quota has
/// ([`super::project_quota::update`]).
pub fn update(
    change: Change,
    projects_limit: i64,
    generation: Option<i64>,
) -> Batch<Vec<FleetQuota>> {
    Batch::new()
        .step(lock())
        .step(event::of_fleet_quota(change))
        .step(set_limit(change, projects_limit, generation))
        .step(view())
        .map(|(_, _, _, rows)| rows)
}

fn lock() -> Step<()> {
    let select = dsl::fleet_quota
        .filter(dsl::id.eq(FLEET_ID))
        .select(dsl::id)
        .for_update();
    Step::statement("fleet_quota.lock", select).locking()
}

fn set_limit(change: Change, projects_limit: i64, generation: Option<i64>) -> Step<()> {
    let update = diesel::update(dsl::fleet_quota)
        .filter(dsl::id.eq(FLEET_ID))
        .filter(
            dsl::generation
                .nullable()
                .eq(generation)
                .or(generation.is_none().into_sql::<diesel::sql_types::Bool>()),
        )
        .set((
            dsl::projects_limit.eq(projects_limit),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    let guard = Guard::new("guard_fleet_quota_update").number_or_null(generation);
    Step::guarded("fleet_quota.set_limit", update, guard)
        .refused_by(refusals)
        .locking()
}

/// The row as the batch leaves it.
pub fn view() -> Step<Vec<FleetQuota>> {
    Step::rows(
        "fleet_quota.view",
        dsl::fleet_quota.select(FleetQuota::as_select()),
    )
}
