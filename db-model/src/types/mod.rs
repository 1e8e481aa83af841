//! The words of the domain: names, states, times, and every limit in one place.

pub mod limits;
pub mod name;
pub mod state;
pub mod time;

pub use name::{Name, NameError, NameOrId};
pub use state::{
    EventKind, InstanceAction, InstanceState, ProjectState, ResourceKind, SagaEventKind, SagaState,
};
