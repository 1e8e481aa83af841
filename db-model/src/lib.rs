//! The database of Nexus.

pub mod batch;
pub mod connect;
pub mod pool;
pub mod types;
