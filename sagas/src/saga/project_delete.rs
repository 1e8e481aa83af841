//! `project-delete`: closes the project, which is refused while it has instances, then deletes it and
//! gives its place in the fleet back.

use std::ops::Deref;

use db_model::batch::Batch;
use db_model::model::Project;
use db_model::query::{event, fleet_quota, project, project_quota};
use db_model::types::{EventKind, ProjectState, ResourceKind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::definition::{Context, NodeError, NodeKey, Nodes, Saga, Subject};
use crate::testing::Fixture;

/// The saga.
#[derive(Clone, Copy, Debug)]
pub struct ProjectDelete;

/// What is to be deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParamsV1 {
    /// The project.
    pub project_id: Uuid,
    /// Its name, for the operation's view.
    pub name: String,
    /// The generation at which alone it may be deleted, if the caller named one.
    pub generation: Option<i64>,
}

/// The shapes in which the parameters were ever stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Params {
    /// Today's.
    V1(ParamsV1),
    /// As they were stored before the shapes had names.
    #[serde(untagged)]
    V0(ParamsV1),
}

impl Deref for Params {
    type Target = ParamsV1;

    fn deref(&self) -> &ParamsV1 {
        match self {
            Self::V0(params) | Self::V1(params) => params,
        }
    }
}

impl Params {
    /// For a project as it was read.
    pub fn new(project: &Project, generation: Option<i64>) -> Self {
        Self::V1(ParamsV1 {
            project_id: project.id,
            name: project.name.clone(),
            generation,
        })
    }
}

/// What was deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Output {
    /// The first shape.
    V1 {
        /// The project.
        project_id: Uuid,
    },
}

const CLOSE: NodeKey<()> = NodeKey::new("close");
const DELETE: NodeKey<Output> = NodeKey::new("delete");

impl Saga for ProjectDelete {
    const NAME: &'static str = "project-delete";
    type Params = Params;
    type Output = Output;

    fn nodes() -> Nodes<Params> {
        Nodes::new()
            .db(CLOSE, close, close_undo)
            .last(DELETE, delete)
    }

    fn subject(params: &Params) -> Subject {
        Subject {
            project_id: Some(params.project_id),
            kind: ResourceKind::Project,
            id: params.project_id,
            name: params.name.clone(),
        }
    }

    fn example(fixture: &Fixture) -> Params {
        Params::new(&fixture.empty_project, None)
    }
}

fn close(context: &Context<'_, Params>) -> Result<(Batch<()>, ()), NodeError> {
    let ParamsV1 {
        project_id,
        generation,
        ..
    } = **context.params;
    let (from, to) = (ProjectState::Active, ProjectState::Deleting);
    let batch = Batch::new()
        .step(project_quota::close(context.change, project_id))
        .step(project::set_state(
            context.change,
            project_id,
            from,
            to,
            generation,
        ))
        .discard();
    Ok((batch, ()))
}

/// Meets the project as `close` left it: `deleting` and closed, so still without instances.
fn close_undo(context: &Context<'_, Params>) -> Result<Batch<()>, NodeError> {
    let project_id = context.params.project_id;
    let (from, to) = (ProjectState::Deleting, ProjectState::Active);
    Ok(Batch::new()
        .step(project_quota::open(context.change, project_id))
        .step(project::set_state(
            context.change,
            project_id,
            from,
            to,
            None,
        ))
        .discard())
}

/// Release and delete are one batch: a unit is free exactly when its project is gone.
fn delete(context: &Context<'_, Params>) -> Result<(Batch<()>, Output), NodeError> {
    let project_id = context.params.project_id;
    let batch = Batch::new()
        .step(fleet_quota::release(context.change))
        .step(project::delete(context.change, project_id))
        .step(event::of_project(
            context.change,
            EventKind::ProjectDeleted,
            project_id,
        ))
        .discard();
    Ok((batch, Output::V1 { project_id }))
}
