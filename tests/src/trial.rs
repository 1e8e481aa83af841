//! Sagas for tests of the engine: tables of nodes in any shape, whose effects are rows, a counter, and calls of
//! the service outside. What each node does stands in the parameters, so one table serves many tests.
//!
//! A node is known by its slot, a number from 0: a function of a table can hold nothing, so there is one for
//! each slot.

mod ground;
mod hold;
mod node;
mod table;

pub use ground::{Event, Ground, Halts, ended, start, submit};
pub use hold::Hold;
pub use node::{Deed, Made, Params, effect, key_outside, name};
pub use table::{Item, SLOTS, definition, quick, stages_of, subject, table};
