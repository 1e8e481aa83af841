//! A project's quota.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A row of `project_quota`.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = crate::schema::project_quota, check_for_backend(diesel::pg::Pg))]
pub struct ProjectQuota {
    /// The project.
    pub project_id: Uuid,
    /// Whether the project takes instances.
    pub open: bool,
    /// How many instances it may have.
    pub instances_limit: i64,
    /// How many it has.
    pub instances_used: i64,
    /// How many virtual CPUs its instances may have together.
    pub vcpus_limit: i64,
    /// How many they have.
    pub vcpus_used: i64,
    /// How much memory its instances may have together, in bytes.
    pub memory_bytes_limit: i64,
    /// How much they have, in bytes.
    pub memory_bytes_used: i64,
    /// Counts the changes of the row.
    pub generation: i64,
    /// The change or saga that last wrote the row.
    pub changed_by: Uuid,
    /// When the row was made.
    pub time_created: DateTime<Utc>,
    /// When it last changed.
    pub time_modified: DateTime<Utc>,
}

/// The limits of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectLimits {
    /// Instances.
    pub instances: i64,
    /// Virtual CPUs of all instances.
    pub vcpus: i64,
    /// Memory of all instances, in bytes.
    pub memory_bytes: i64,
}
