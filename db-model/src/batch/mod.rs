//! Batches: several statements as one PostgreSQL transaction in one round trip.
//!
//! A [`Step`] is one statement as a value. A [`Batch`] composes steps; committing it sends all of
//! them as one pipeline with one Sync, which PostgreSQL runs as one implicit transaction: the first
//! error makes the server skip to the Sync and roll back, so half a batch cannot commit.

mod classify;
mod compose;
mod error;
pub mod flight;
mod get_or_create;
mod guard;
mod hook;
mod part;
mod send;
mod settings;
pub mod sqlstate;
mod step;
pub(crate) mod text;
pub mod transaction;

pub use compose::{Append, Batch};
pub use error::{BatchError, Busy, StepName};
pub use guard::Guard;
pub use hook::{Hook, HookError, Queue};
pub use send::Persistence;
pub use settings::Isolation;
pub use step::{Refusals, Step};
pub use transaction::{Cause, Failure, Options, Outcome, Transaction, TransactionError};
