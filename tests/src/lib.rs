//! The harness of the suites: a real PostgreSQL, a database per test, and what tests ask of it.

#![expect(
    clippy::unwrap_used,
    reason = "a harness that meets the unexpected fails the test at that line"
)]

pub mod database;
pub mod fixture;
pub mod proxy;
pub mod script;
pub mod server;
pub mod service;

pub use database::TestDatabase;
pub use service::{Answer, TestService};

use std::time::{Duration, Instant};

/// Waits, for at most 30 s, until a condition holds.
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "waited 30 s and still not: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
