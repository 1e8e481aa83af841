//! Something that happened, as the change feed has it.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use uuid::Uuid;

use crate::types::EventKind;

/// A row of `event` that is published.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[diesel(table_name = crate::schema::event, check_for_backend(diesel::pg::Pg))]
pub struct Event {
    /// The id; also the saga's, or that of the change of one batch.
    pub id: Uuid,
    /// What happened.
    pub kind: EventKind,
    /// The project in which or to which it happened; none for the fleet.
    pub project_id: Option<Uuid>,
    /// The id of what it happened to; a project's quota has the project's.
    pub resource_id: Uuid,
    /// Its name then; a project's quota has the project's.
    pub resource_name: String,
    /// Its generation after that; the events of one resource ascend by it.
    pub resource_generation: i64,
    /// The saga that did it, if it was one. It may have been purged.
    pub operation_id: Option<Uuid>,
    /// When, by the database's clock.
    pub time_recorded: DateTime<Utc>,
    /// The place in the feed, from 1 and without gaps.
    #[diesel(sql_type = BigInt)]
    pub sequence: i64,
}
