//! Changing projects.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Bool, Double};
use uuid::Uuid;

use super::{Change, clock_timestamp, refusal};
use crate::batch::flight::ServerError;
use crate::batch::{Guard, Step};
use crate::constraint::Refusal;
use crate::model::Project;
use crate::schema::project::dsl;
use crate::types::limits::PURGE_ROWS_MAX;
use crate::types::{ProjectState, ResourceKind};

fn refusals(name: &str, error: &ServerError) -> Option<Refusal> {
    match name {
        "project_name_key" => refusal::name_taken(ResourceKind::Project, error),
        "project_state" => refusal::state(ResourceKind::Project, error),
        "generation" => refusal::changed(error),
        _ => None,
    }
}

/// Adds the row; refused when the name is taken, with the id of who has it.
pub fn insert(project: &Project) -> Step<()> {
    let insert = diesel::insert_into(dsl::project)
        .values(project.clone())
        .on_conflict(dsl::name)
        .filter_target(dsl::time_deleted.is_null())
        .do_nothing();
    let guard = Guard::new("guard_project_name").text(project.name.clone());
    Step::guarded("project.insert", insert, guard).refused_by(refusals)
}

/// Removes the row of a project that never became active.
pub fn remove(project_id: Uuid) -> Step<()> {
    let delete = diesel::delete(dsl::project)
        .filter(dsl::id.eq(project_id))
        .filter(dsl::state.eq(ProjectState::Creating));
    Step::exactly_one("project.remove", delete)
}

/// Moves the project from one state to another; only at `generation`, if one is given.
pub fn set_state(
    change: Change,
    project_id: Uuid,
    from: ProjectState,
    to: ProjectState,
    generation: Option<i64>,
) -> Step<()> {
    let any_generation = generation.is_none().into_sql::<Bool>();
    let update = diesel::update(dsl::project)
        .filter(dsl::id.eq(project_id))
        .filter(dsl::state.eq(from))
        .filter(dsl::time_deleted.is_null())
        .filter(dsl::generation.nullable().eq(generation).or(any_generation))
        .set((
            dsl::state.eq(to),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    let guard = Guard::new("guard_project_state")
        .id(project_id)
        .number_or_null(generation);
    Step::guarded("project.set_state", update, guard).refused_by(refusals)
}

/// Deletes the project, which must be in the state `deleting`. Its name is free from then on.
pub fn delete(change: Change, project_id: Uuid) -> Step<()> {
    let update = diesel::update(dsl::project)
        .filter(dsl::id.eq(project_id))
        .filter(dsl::state.eq(ProjectState::Deleting))
        .filter(dsl::time_deleted.is_null())
        .set((
            dsl::time_deleted.eq(change.time),
            dsl::time_over.eq(clock_timestamp().nullable()),
            dsl::generation.eq(dsl::generation + 1),
            dsl::changed_by.eq(change.id),
            dsl::time_modified.eq(change.time),
        ));
    Step::exactly_one("project.delete", update)
}

/// Removes the rows of projects that were deleted longer than `age` ago, each with its quota row, at most
/// [`PURGE_ROWS_MAX`], the oldest first; gives how many.
///
/// A project stays for as long as the row of one of its instances does. The locks are taken in the order
/// of all others: the quota row, then the project.
pub fn purge(age: Duration) -> Step<u64> {
    // The limit comes before the look at instances, of which the planner knows only that projects have
    // some: asked together it reads all of them each time.
    let delete = diesel::sql_query(format!(
        "WITH candidate AS MATERIALIZED (\
         SELECT p.id FROM project_quota q JOIN project p ON p.id = q.project_id \
         WHERE p.time_over < now() - make_interval(secs => $1) \
         ORDER BY p.time_over, p.id LIMIT {PURGE_ROWS_MAX} FOR UPDATE OF q, p SKIP LOCKED), \
         old AS MATERIALIZED (SELECT c.id FROM candidate c \
         WHERE NOT EXISTS (SELECT 1 FROM instance i WHERE i.project_id = c.id)), \
         quota AS (DELETE FROM project_quota WHERE project_id IN (SELECT id FROM old)) \
         DELETE FROM project WHERE id IN (SELECT id FROM old)",
    ))
    .bind::<Double, _>(age.as_secs_f64());
    Step::count("project.purge", delete).locking()
}
