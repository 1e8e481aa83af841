//! What the replay suite gives to every saga.

use db_model::model::{Instance, Project};

/// What stands in the database before each replay.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// An active project.
    pub project: Project,
    /// Its instance, in the state `stopped`.
    pub instance: Instance,
    /// Another active project, without instances.
    pub empty_project: Project,
}
