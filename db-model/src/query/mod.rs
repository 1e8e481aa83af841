//! What the service writes: functions that return steps, or the batch of a change that is a whole
//! one, one file per table.
//!
//! None of them touches a connection. Each file has one table that says which refusal a constraint
//! or guard of its noun stands for.

pub mod event;
pub mod event_feed;
pub mod executor;
pub mod fleet_quota;
pub mod instance;
pub mod project;
pub mod project_quota;
mod refusal;
pub mod saga;
pub mod saga_event;

use chrono::{DateTime, Utc};
use uuid::Uuid;

diesel::define_sql_function! {
    /// The database's clock now, within a transaction too.
    fn clock_timestamp() -> diesel::sql_types::Timestamptz;
}

/// Who writes, and when: what every changed row records.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The saga's id, or an id drawn for a change of one batch. It is the key of the change.
    pub id: Uuid,
    /// When the change was drawn.
    pub time: DateTime<Utc>,
}

impl Change {
    /// A change of one batch, with a key of its own.
    pub fn new() -> Self {
        Self {
            id: Uuid::now_v7(),
            time: crate::types::time::now(),
        }
    }
}

impl Default for Change {
    fn default() -> Self {
        Self::new()
    }
}
