//! Changing instances.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Bool, Double};
use uuid::Uuid;

use super::{Change, clock_timestamp, refusal};
use crate::batch::flight::ServerError;
use crate::batch::{Guard, Step};
use crate::constraint::Refusal;
use crate::model::Instance;
use crate::schema::instance::dsl;
use crate::types::limits::PURGE_ROWS_MAX;
use crate::types::{InstanceState, ResourceKind};

fn refusals(name: &str, error: &ServerError) -> Option<Refusal> {
    match name {
        "instance_name_key" => refusal::name_taken(ResourceKind::Instance, error),
        "instance_state" => refusal::state(ResourceKind::Instance, error),
        "generation" => refusal::changed(error),
        _ => None,
    }
}

/// Adds the row; refused when the name is taken in its project, with the id of who has it.
pub fn insert(instance: &Instance) -> Step<()> {
    let insert = diesel::insert_into(dsl::instance)
        .values(instance.clone())
        .on_conflict((dsl::project_id, dsl::name))
        .filter_target(dsl::time_deleted.is_null())
        .do_nothing();
    let guard = Guard::new("guard_instance_name")
        .id(instance.project_id)
        .text(instance.name.clone());
    Step::guarded("instance.insert", insert, guard).refused_by(refusals)
}

/// Removes the row of an instance whose create has not finished.
pub fn remove(instance_id: Uuid) -> Step<()> {
    let delete = diesel::delete(dsl::instance)
        .filter(dsl::id.eq(instance_id))
        .filter(dsl::state.eq(InstanceState::Creating));
    Step::exactly_one("instance.remove", delete)
}

/// Moves the instance from one of several states to another; only at `generation`, if one is given.
pub fn set_state(
    change: Change,
    instance_id: Uuid,
    from: &[InstanceState],
    to: InstanceState,
    generation: Option<i64>,
) -> Step<()> {
    let any_generation = generation.is_none().into_sql::<Bool>();
    let update = diesel::update(dsl::instance)
        .filter(dsl::id.eq(instance_id))
        .filter(dsl::state.eq_any(from.to_vec()))
        .filter(dsl::time_deleted.is_null())
        .filter(dsl::generation.nullable().eq(generation).or(any_generation))
        .set((
            dsl::state.eq(to),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    let guard = Guard::new("guard_instance_state")
        .id(instance_id)
        .number_or_null(generation);
    Step::guarded("instance.set_state", update, guard).refused_by(refusals)
}

/// Deletes the instance, which must be in the state `deleting`. Its name is free from then on.
pub fn delete(change: Change, instance_id: Uuid) -> Step<()> {
    let update = diesel::update(dsl::instance)
        .filter(dsl::id.eq(instance_id))
        .filter(dsl::state.eq(InstanceState::Deleting))
        .filter(dsl::time_deleted.is_null())
        .set((
            dsl::time_deleted.eq(change.time),
            dsl::time_over.eq(clock_timestamp().nullable()),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    Step::exactly_one("instance.delete", update)
}

/// Removes the rows of instances that were deleted longer than `age` ago, at most [`PURGE_ROWS_MAX`], the
/// oldest first; gives how many.
///
/// Nothing refers to the row of a deleted instance: a saga that is still to be undone or repeated meets
/// its own event first, and a guard that finds no row says the same as of a deleted one.
pub fn purge(age: Duration) -> Step<u64> {
    let delete = diesel::sql_query(format!(
        "WITH old AS MATERIALIZED (\
         SELECT id FROM instance WHERE time_over < now() - make_interval(secs => $1) \
         ORDER BY time_over, id LIMIT {PURGE_ROWS_MAX} FOR UPDATE SKIP LOCKED) \
         DELETE FROM instance WHERE id IN (SELECT id FROM old)",
    ))
    .bind::<Double, _>(age.as_secs_f64());
    Step::count("instance.purge", delete)
}
