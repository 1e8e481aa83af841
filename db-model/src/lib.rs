//! The database of Nexus.

pub mod embedded;
