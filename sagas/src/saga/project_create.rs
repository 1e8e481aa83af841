//! `project-create`: charges the fleet, adds the project with its quota, then lets it take instances.

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
pub struct Params {
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

impl Params {
    /// Draws the id and the time.
    pub fn new(name: Name, description: String, limits: ProjectLimits) -> Self {
        Self {
            project_id: Uuid::now_v7(),
            name,
            description,
            limits,
            time: time::now(),
        }
    }
}

/// The project as it is when the saga ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Output {
    /// The first shape.
    V1(Project),
}

const INSERT: NodeKey<Project> = NodeKey::new("insert");
const ACTIVATE: NodeKey<Output> = NodeKey::new("activate");

impl Saga for ProjectCreate {
    const NAME: &'static str = "project-create";
    type Params = Params;
    type Output = Output;

    fn nodes() -> Nodes<Params> {
        Nodes::new()
            .node(INSERT, insert, insert_undo)
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

fn insert(context: &Context<'_, Params>) -> Result<(Batch<()>, Project), NodeError> {
    let Params {
        project_id,
        name,
        description,
        limits,
        time,
    } = context.params.clone();
    let project = Project {
        id: project_id,
        name: name.into(),
        description,
        state: ProjectState::Creating,
        generation: 1,
        changed_by: context.change.id,
        time_created: time,
        time_modified: time,
        time_deleted: None,
    };
    let batch = Batch::new()
        .step(fleet_quota::charge(context.change))
        .step(project::insert(&project))
        .step(project_quota::insert(context.change, project_id, limits))
        .discard();
    Ok((batch, project))
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
    let inserted = context.output(INSERT)?;
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
