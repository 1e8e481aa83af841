//! Instances of a project.

pub mod create;
pub mod delete;
pub mod list;
pub mod view;
