//! The events of an operation.

pub mod list;
