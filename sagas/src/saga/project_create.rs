//! `project-create`: charges the fleet, adds the project with its quota, then lets it take instances.

use std::ops::Deref;

use chrono::{DateTime, Utc};
use db_model::batch::Batch;
use db_model::model::{Project, ProjectLimits};
use db_model::query::{event, fleet_quota, project, project_quota};
use db_model::types::{EventKind, Name, ProjectState, ResourceKind, time};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::definition::{Context, NodeError, NodeKey, Nodes, Saga, Subject};
use crate::testing::Fixture;

/// The saga.
#[derive(Clone, Copy, Debug)]
pub struct ProjectCreate;

/// What is to be created.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParamsV1 {
    /// The id of the new project.
    pub project_id: Uuid,
    /// Its name.
    pub name: Name,
    /// Its description.
    pub description: String,
    /// Its limits.
    pub limits: ProjectLimits,
    /// When it was asked for.
    pub time: DateTime<Utc>,
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
    /// Draws the id and the time.
    pub fn new(name: Name, description: String, limits: ProjectLimits) -> Self {
        Self::V1(ParamsV1 {
            project_id: Uuid::now_v7(),
            name,
            description,
            limits,
            time: time::now(),
        })
    }
}

/// The project as it is when the saga ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Output {
    /// The first shape.
    V1(Project),
}

const INSERT: NodeKey<()> = NodeKey::new("insert");
const ACTIVATE: NodeKey<Output> = NodeKey::new("activate");

impl Saga for ProjectCreate {
    const NAME: &'static str = "project-create";
    type Params = Params;
    type Output = Output;

    fn nodes() -> Nodes<Params> {
        Nodes::new()
            .db(INSERT, insert, insert_undo)
            .last(ACTIVATE, activate)
    }

    fn subject(params: &Params) -> Subject {
        Subject {
            project_id: Some(params.project_id),
            kind: ResourceKind::Project,
            id: params.project_id,
            name: params.name.to_string(),
        }
    }

    fn example(_fixture: &Fixture) -> Params {
        let name = Name::new("replayed").expect("the name keeps the rules");
        let limits = ProjectLimits {
            instances: 1,
            vcpus: 1,
            memory_bytes: 1 << 30,
        };
        Params::new(name, "made by the replay suite".to_owned(), limits)
    }
}

fn insert(context: &Context<'_, Params>) -> Result<(Batch<()>, ()), NodeError> {
    let project = inserted(context);
    let limits = context.params.limits;
    let batch = Batch::new()
        .step(fleet_quota::charge(context.change))
        .step(project::insert(&project))
        .step(project_quota::insert(context.change, project.id, limits))
        .discard();
    Ok((batch, ()))
}

/// The project as `insert` leaves it. It follows from the parameters, so the log need not hold it.
fn inserted(context: &Context<'_, Params>) -> Project {
    let params = (**context.params).clone();
    Project {
        id: params.project_id,
        name: params.name.into(),
        description: params.description,
        state: ProjectState::Creating,
        generation: 1,
        changed_by: context.change.id,
        time_created: params.time,
        time_modified: params.time,
        time_deleted: None,
    }
}

/// Meets the project as `insert` left it: `creating` and closed, so nothing can have been put into it.
fn insert_undo(context: &Context<'_, Params>) -> Result<Batch<()>, NodeError> {
    let project_id = context.params.project_id;
    Ok(Batch::new()
        .step(fleet_quota::release(context.change))
        .step(project_quota::remove(project_id))
        .step(project::remove(project_id))
        .discard())
}

fn activate(context: &Context<'_, Params>) -> Result<(Batch<()>, Output), NodeError> {
    let inserted = inserted(context);
    let project = Project {
        state: ProjectState::Active,
        generation: inserted.generation + 1,
        time_modified: context.change.time,
        ..inserted
    };
    let (from, to) = (ProjectState::Creating, project.state);
    let batch = Batch::new()
        .step(project_quota::open(context.change, project.id))
        .step(project::set_state(
            context.change,
            project.id,
            from,
            to,
            None,
        ))
        .step(event::of_project(
            context.change,
            EventKind::ProjectCreated,
            project.id,
        ))
        .discard();
    Ok((batch, Output::V1(project)))
}
