//! The sagas, one file each, always in this order: parameters, output, node table, actions with
//! their undos, unit tests.

pub mod instance_create;
pub mod instance_delete;
pub mod project_create;
pub mod project_delete;

pub use instance_create::InstanceCreate;
pub use instance_delete::InstanceDelete;
pub use project_create::ProjectCreate;
pub use project_delete::ProjectDelete;
