//! The version.

pub mod view;
