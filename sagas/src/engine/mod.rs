//! The engine: runs definitions on steno, the only place that names it.
//!
//! - `run`: one saga in this process: its log, its nodes' batches, its end.
//! - `action`, `dag`, `store`: how steno sees a definition and a log.
//! - `drive`: one steno executor for one saga, from its log to its end.
//! - `recover`: taking over what nobody runs.
//! - `lease`: being alive.
//! - `quiet`: what steno says when one of its executors was ended.

mod action;
mod dag;
pub mod drive;
pub mod lease;
mod log;
pub mod quiet;
pub mod recover;
pub mod run;
mod store;
