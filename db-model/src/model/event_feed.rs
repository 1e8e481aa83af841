//! The row that says how far the change feed goes.

use uuid::Uuid;

/// The id of the one row.
pub const EVENT_FEED_ID: Uuid = Uuid::from_u128(1);
