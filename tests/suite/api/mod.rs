//! The API over HTTP, as its users call it.

mod body;
mod bound;
mod client;
mod contract;
mod docs;
mod edge;
mod event;
mod hangup;
mod input;
mod instance;
mod list;
mod operation;
mod operation_events;
mod outcome;
mod page;
mod project;
mod quota;
mod race;
mod refusal;
mod service;

/// 1 MiB, in bytes: the unit of memory.
const MIB: i64 = 1 << 20;
