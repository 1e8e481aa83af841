//! The database of Nexus: schema, queries, reads, one-flight batches, embedded PostgreSQL.
//!
//! Knows PostgreSQL and Diesel; knows nothing of HTTP, of sagas' definitions or of who runs them.
#![warn(missing_docs)]

pub mod batch;
pub mod books;
pub mod connect;
pub mod constraint;
pub mod database;
pub mod effect;
pub mod embedded;
pub mod feed;
pub mod metrics;
pub mod migrate;
pub mod model;
pub mod pool;
pub mod purge;
pub mod query;
pub mod read;
#[expect(missing_docs, reason = "Diesel's macros write no documentation")]
pub mod schema;
pub mod types;

pub use database::Database;
