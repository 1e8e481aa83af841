//! An instance.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::types::InstanceState;

/// A row of `instance`. Its JSON is what a finished saga keeps.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Queryable, Selectable, Insertable,
)]
#[diesel(table_name = crate::schema::instance, check_for_backend(diesel::pg::Pg))]
pub struct Instance {
    /// The id.
    pub id: Uuid,
    /// The project that it belongs to and whose quota it uses.
    pub project_id: Uuid,
    /// The name; unique among the project's instances that are not deleted.
    pub name: String,
    /// What the owner says about it.
    pub description: String,
    /// Virtual CPUs.
    pub vcpus: i64,
    /// Memory, in bytes.
    pub memory_bytes: i64,
    /// How it stands.
    pub state: InstanceState,
    /// Counts the changes of the row.
    pub generation: i64,
    /// The saga that last wrote the row.
    pub changed_by: Uuid,
    /// When it was asked for.
    pub time_created: DateTime<Utc>,
    /// When it last changed.
    pub time_modified: DateTime<Utc>,
    /// When it was deleted, if it was.
    pub time_deleted: Option<DateTime<Utc>>,
}

impl Instance {
    /// The operation that is at work on the instance now.
    pub fn operation_id(&self) -> Option<Uuid> {
        self.state.in_transition().then_some(self.changed_by)
    }
}
