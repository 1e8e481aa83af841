//! `instance-delete`: takes the instance out of use, then deletes it and gives its share back.

use std::ops::Deref;

use db_model::batch::Batch;
use db_model::constraint::Refusal;
use db_model::model::Instance;
use db_model::query::{event, instance, project_quota};
use db_model::types::{EventKind, InstanceState, ResourceKind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::definition::{Context, NodeError, NodeKey, Nodes, Saga, Subject};
use crate::testing::Fixture;

/// The saga.
#[derive(Clone, Copy, Debug)]
pub struct InstanceDelete;

/// What is to be deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParamsV1 {
    /// The project that it belongs to.
    pub project_id: Uuid,
    /// The instance.
    pub instance_id: Uuid,
    /// Its name, for the operation's view.
    pub name: String,
    /// The state that it was read in, and that an undo brings back.
    pub from: InstanceState,
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
    /// For an instance as it was read.
    pub fn new(instance: &Instance, generation: Option<i64>) -> Self {
        Self::V1(ParamsV1 {
            project_id: instance.project_id,
            instance_id: instance.id,
            name: instance.name.clone(),
            from: instance.state,
            generation,
        })
    }
}

/// What was deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Output {
    /// The first shape.
    V1 {
        /// The instance.
        instance_id: Uuid,
    },
}

const RETIRE: NodeKey<()> = NodeKey::new("retire");
const DELETE: NodeKey<Output> = NodeKey::new("delete");

impl Saga for InstanceDelete {
    const NAME: &'static str = "instance-delete";
    type Params = Params;
    type Output = Output;

    fn nodes() -> Nodes<Params> {
        Nodes::new()
            .db(RETIRE, retire, retire_undo)
            .last(DELETE, delete)
    }

    fn subject(params: &Params) -> Subject {
        Subject {
            project_id: Some(params.project_id),
            kind: ResourceKind::Instance,
            id: params.instance_id,
            name: params.name.clone(),
        }
    }

    fn example(fixture: &Fixture) -> Params {
        Params::new(&fixture.instance, None)
    }
}

fn retire(context: &Context<'_, Params>) -> Result<(Batch<()>, ()), NodeError> {
    let ParamsV1 {
        instance_id,
        from,
        generation,
        ..
    } = **context.params;
    if !InstanceState::DELETABLE.contains(&from) {
        let (kind, id, state) = (ResourceKind::Instance, instance_id, from.to_string());
        return Err(Refusal::WrongState { kind, id, state }.into());
    }
    let to = InstanceState::Deleting;
    let batch = Batch::new()
        .step(instance::set_state(
            context.change,
            instance_id,
            &[from],
            to,
            generation,
        ))
        .discard();
    Ok((batch, ()))
}

/// Meets the instance as `retire` left it: nothing else acts on one that is `deleting`.
fn retire_undo(context: &Context<'_, Params>) -> Result<Batch<()>, NodeError> {
    let ParamsV1 {
        instance_id, from, ..
    } = **context.params;
    let now = [InstanceState::Deleting];
    Ok(Batch::new()
        .step(instance::set_state(
            context.change,
            instance_id,
            &now,
            from,
            None,
        ))
        .discard())
}

/// Release and delete are one batch: the share is free exactly when the instance is gone.
fn delete(context: &Context<'_, Params>) -> Result<(Batch<()>, Output), NodeError> {
    let ParamsV1 {
        project_id,
        instance_id,
        ..
    } = **context.params;
    let batch = Batch::new()
        .step(project_quota::release(
            context.change,
            project_id,
            instance_id,
        ))
        .step(instance::delete(context.change, instance_id))
        .step(event::of_instance(
            context.change,
            EventKind::InstanceDeleted,
            instance_id,
        ))
        .discard();
    Ok((batch, Output::V1 { instance_id }))
}
