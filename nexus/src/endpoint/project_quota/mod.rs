//! A project's quota.

pub mod update;
pub mod view;
