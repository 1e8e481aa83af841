//! `instance-create`: charges the project and adds the instance, then makes it `stopped`.
//!
//! Between the two nodes is the place for work on a machine.

use std::ops::Deref;

use chrono::{DateTime, Utc};
use db_model::batch::Batch;
use db_model::model::Instance;
use db_model::query::project_quota::InstanceCharge;
use db_model::query::{event, instance, project_quota};
use db_model::types::{EventKind, InstanceState, Name, ResourceKind, time};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::definition::{Context, NodeError, NodeKey, Nodes, Saga, Subject};
use crate::testing::Fixture;

/// The saga.
#[derive(Clone, Copy, Debug)]
pub struct InstanceCreate;

/// What is to be created.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParamsV1 {
    /// The project that it is for.
    pub project_id: Uuid,
    /// The id of the new instance.
    pub instance_id: Uuid,
    /// Its name.
    pub name: Name,
    /// Its description.
    pub description: String,
    /// Its virtual CPUs.
    pub vcpus: i64,
    /// Its memory, in bytes.
    pub memory_bytes: i64,
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
    pub fn new(
        project_id: Uuid,
        name: Name,
        description: String,
        vcpus: i64,
        memory_bytes: i64,
    ) -> Self {
        let instance_id = Uuid::now_v7();
        let time = time::now();
        Self::V1(ParamsV1 {
            project_id,
            instance_id,
            name,
            description,
            vcpus,
            memory_bytes,
            time,
        })
    }
}

/// The instance as it is when the saga ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Output {
    /// The first shape.
    V1(Instance),
}

const INSERT: NodeKey<()> = NodeKey::new("insert");
const STOP: NodeKey<Output> = NodeKey::new("stop");

impl Saga for InstanceCreate {
    const NAME: &'static str = "instance-create";
    type Params = Params;
    type Output = Output;

    fn nodes() -> Nodes<Params> {
        Nodes::new()
            .db(INSERT, insert, insert_undo)
            .last(STOP, stop)
    }

    fn subject(params: &Params) -> Subject {
        Subject {
            project_id: Some(params.project_id),
            kind: ResourceKind::Instance,
            id: params.instance_id,
            name: params.name.to_string(),
        }
    }

    fn example(fixture: &Fixture) -> Params {
        let name = Name::new("replayed").expect("the name keeps the rules");
        Params::new(
            fixture.project.id,
            name,
            "made by the replay suite".to_owned(),
            2,
            1 << 30,
        )
    }
}

fn insert(context: &Context<'_, Params>) -> Result<(Batch<()>, ()), NodeError> {
    let instance = inserted(context);
    let charge = InstanceCharge {
        vcpus: instance.vcpus,
        memory_bytes: instance.memory_bytes,
    };
    let batch = Batch::new()
        .step(project_quota::charge(
            context.change,
            instance.project_id,
            charge,
        ))
        .step(instance::insert(&instance))
        .discard();
    Ok((batch, ()))
}

/// The instance as `insert` leaves it. It follows from the parameters, so the log need not hold it.
fn inserted(context: &Context<'_, Params>) -> Instance {
    let params = (**context.params).clone();
    Instance {
        id: params.instance_id,
        project_id: params.project_id,
        name: params.name.into(),
        description: params.description,
        vcpus: params.vcpus,
        memory_bytes: params.memory_bytes,
        state: InstanceState::Creating,
        generation: 1,
        changed_by: context.change.id,
        time_created: params.time,
        time_modified: params.time,
        time_deleted: None,
    }
}

/// Meets the instance as `insert` left it: nothing else acts on one that is `creating`.
fn insert_undo(context: &Context<'_, Params>) -> Result<Batch<()>, NodeError> {
    let ParamsV1 {
        project_id,
        instance_id,
        ..
    } = **context.params;
    Ok(Batch::new()
        .step(project_quota::release(
            context.change,
            project_id,
            instance_id,
        ))
        .step(instance::remove(instance_id))
        .discard())
}

fn stop(context: &Context<'_, Params>) -> Result<(Batch<()>, Output), NodeError> {
    let inserted = inserted(context);
    let instance = Instance {
        state: InstanceState::Stopped,
        generation: inserted.generation + 1,
        time_modified: context.change.time,
        ..inserted
    };
    let from = [InstanceState::Creating];
    let batch = Batch::new()
        .step(instance::set_state(
            context.change,
            instance.id,
            &from,
            instance.state,
            None,
        ))
        .step(event::of_instance(
            context.change,
            EventKind::InstanceCreated,
            instance.id,
        ))
        .discard();
    Ok((batch, Output::V1(instance)))
}
