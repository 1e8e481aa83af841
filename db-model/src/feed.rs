//! The change feed: publishing what has happened.
//!
//! An event is written in the transaction that makes it happen, and published later, by whoever comes
//! first: any process, any number of them at once. Publishing is one batch, so a process that dies in
//! it has published all of it or nothing, and the next one goes on.

use crate::batch::{Batch, BatchError};
use crate::database::Database;
use crate::query::event_feed;
use crate::read::{self, ReadError};
use crate::types::limits::EVENTS_PUBLISHED_AT_ONCE_MAX;

/// Why nothing was published, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The database did not say whether there is something to publish.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The batch did not commit, or may have. Publishing again does nothing twice.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Publishes the oldest unpublished events, at most
/// [`crate::types::limits::EVENTS_PUBLISHED_AT_ONCE_MAX`], and gives how many.
///
/// # Errors
/// [`PublishError`]; call it again.
pub async fn publish(database: &Database) -> Result<i64, PublishError> {
    // Without a lock first: an idle service writes nothing.
    if !read::event::is_unpublished(&database.reads).await? {
        return Ok(0);
    }
    let (_, published) = Batch::new()
        .step(event_feed::lock())
        .step(event_feed::publish(EVENTS_PUBLISHED_AT_ONCE_MAX))
        .commit(&database.writes)
        .await?;
    Ok(published.first().map_or(0, |published| published.events))
}
