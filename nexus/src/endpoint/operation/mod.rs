//! Operations.

pub mod list;
pub mod view;
