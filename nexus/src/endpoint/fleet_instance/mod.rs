//! Instances of all projects.

pub mod list;
