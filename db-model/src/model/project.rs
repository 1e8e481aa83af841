//! A project.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::types::ProjectState;

/// A row of `project`. Its JSON is what a finished saga keeps.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Queryable, Selectable, Insertable,
)]
#[diesel(table_name = crate::schema::project, check_for_backend(diesel::pg::Pg))]
pub struct Project {
    /// The id.
    pub id: Uuid,
    /// The name; unique among projects that are not deleted.
    pub name: String,
    /// What the owner says about it.
    pub description: String,
    /// How it stands.
    pub state: ProjectState,
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
