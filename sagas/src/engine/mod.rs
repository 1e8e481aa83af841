//! The engine: runs definitions on steno, the only place that names it.
//!
//! - `run`: one saga in this process: what its nodes come to.
//! - `commit`: how its batches get through, from the first, with the saga's row, to the last, with its end.
//! - `outside`: nodes that call out.
//! - `log`, `history`: what is recorded of it, and how steno reads that.
//! - `action`, `dag`, `store`: how steno sees a definition and a run.
//! - `drive`: one steno executor for one saga, from its log to its end.
//! - `recover`: taking over what nobody runs.
//! - `lease`: being alive.
//! - `watchdog`: noticing what does not get on.
//! - `quiet`: what steno says when one of its executors was ended.

mod action;
mod commit;
pub mod dag;
pub mod drive;
mod history;
pub mod lease;
mod log;
mod outside;
pub mod quiet;
pub mod recover;
pub mod run;
mod store;
pub mod watchdog;
