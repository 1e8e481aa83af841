//! The fleet's quota.

pub mod update;
pub mod view;
