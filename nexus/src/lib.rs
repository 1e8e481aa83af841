//! The service: HTTP API, command line and server of Nexus.
//!
//! Knows HTTP; leaves SQL to `db_model` and every change of more than one step to `sagas`.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")
)]

pub mod admin;
pub mod api;
pub mod app;
pub mod background;
pub mod cli;
pub mod config;
pub mod database;
pub mod endpoint;
pub mod follow;
pub mod graph;
pub mod http;
pub mod metrics;
pub mod openapi;
pub mod router;
pub mod server;
pub mod telemetry;
