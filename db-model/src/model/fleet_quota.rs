//! The fleet's quota: how many projects there may be.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use uuid::Uuid;

/// The id of the one row.
pub const FLEET_ID: Uuid = Uuid::from_u128(1);

/// A row of `fleet_quota`.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = crate::schema::fleet_quota, check_for_backend(diesel::pg::Pg))]
pub struct FleetQuota {
    /// Always [`FLEET_ID`].
    pub id: Uuid,
    /// How many projects there may be.
    pub projects_limit: i64,
    /// How many there are.
    pub projects_used: i64,
    /// Counts the changes of the row.
    pub generation: i64,
    /// The change or saga that last wrote the row.
    pub changed_by: Uuid,
    /// When the row was made.
    pub time_created: DateTime<Utc>,
    /// When it last changed.
    pub time_modified: DateTime<Utc>,
}
