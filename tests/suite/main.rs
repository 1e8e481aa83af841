//! The one test binary: every suite is a module of it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that meets the unexpected fails at that line"
)]

mod api;
mod conformance;
mod crash;
mod db;
mod faults;
mod ops;
mod sagas;
mod tidy;
