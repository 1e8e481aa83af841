//! The harness of the suites: a real PostgreSQL, a database per test, and what tests ask of it.

#![expect(
    clippy::unwrap_used,
    reason = "a harness that meets the unexpected fails the test at that line"
)]

pub mod bench;
pub mod database;
pub mod fault;
pub mod feed;
pub mod fixture;
pub mod folder;
pub mod history;
pub mod load;
pub mod log;
pub mod outside;
pub mod past;
pub mod process;
pub mod proxy;
pub mod quiet;
pub mod script;
pub mod server;
pub mod service;
pub mod trial;

pub use database::TestDatabase;
pub use service::{Answer, TestService};

use std::time::{Duration, Instant};

/// Longer than anything takes that a test waits for.
pub const SOON: Duration = Duration::from_secs(30);

/// Waits, for at most [`SOON`], until a condition holds.
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(
            begun.elapsed() < SOON,
            "waited {SOON:?} and still not: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The value of one metric, named with its labels, in the text for Prometheus; 0 when it is not there.
pub fn metric(text: &str, name: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value).unwrap_or_default()
}
