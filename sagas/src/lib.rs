//! The sagas of Nexus and the engine that runs them.
//!
//! A saga is one file under `saga/`: parameters, node table, actions and undos. The engine runs it on
//! steno, which is named nowhere else, and makes each node's effect happen exactly once. The one type
//! for those who use sagas is [`Executor`]; HTTP and command lines are left to them.
#![warn(missing_docs)]

pub mod definition;
mod engine;
mod executor;
pub mod failure;
mod intake;
pub mod probe;
pub mod registry;
pub mod saga;
mod submit;
pub mod testing;

pub use definition::{Saga, Subject};
pub use executor::{Executor, ExecutorOptions, Start, StartError};
pub use failure::{Cause, Failure};
pub use submit::{Outcome, SubmitError, Submitted, SubmittedAny};
