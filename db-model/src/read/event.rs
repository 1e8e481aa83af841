//! Reading the change feed.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::{ReadError, rows};
use crate::model::{EVENT_FEED_ID, Event};
use crate::pool::ReadPool;
use crate::schema::event;
use crate::types::EventKind;
use crate::types::limits::FEED_SCAN_MAX;

/// Which events a page of the feed holds. Empty filters hold everything.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only those of a project.
    pub project_id: Option<Uuid>,
    /// Only those of a kind.
    pub kind: Option<EventKind>,
}

/// How far the feed goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Events up to this number have been purged.
    pub purged_sequence: i64,
    /// The number of the last event.
    pub last_sequence: i64,
}

/// A part of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPage {
    /// The events that pass the filter, in the feed's order.
    pub events: Vec<Event>,
    /// Up to which number the feed was read: where the next page begins.
    pub read_to_sequence: i64,
    /// The id of the event with that number; none at the beginning, or when it has been purged.
    pub read_to_id: Option<Uuid>,
    /// The id of the event behind which the page begins, under the same conditions.
    pub after_id: Option<Uuid>,
    /// The whole feed at that moment.
    pub feed: Extent,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    purged_sequence: i64,
    #[diesel(sql_type = BigInt)]
    last_sequence: i64,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    after_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    end_id: Option<Uuid>,
    #[diesel(embed)]
    event: Option<Event>,
}

/// At most `limit` events behind the number `after`, or from the oldest that is kept.
///
/// One statement: events and extent are of one snapshot, or a purge in between could take events
/// away unnoticed. It looks at no more than [`FEED_SCAN_MAX`] numbers, so that a filter that little
/// passes reads a bounded part of the feed.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn list(
    pool: &ReadPool,
    filter: &EventFilter,
    after: Option<i64>,
    limit: u32,
) -> Result<FeedPage, ReadError> {
    let query = diesel::sql_query(
        "SELECT feed.purged_sequence, feed.last_sequence, before.id AS after_id, \
         furthest.id AS end_id, page.* FROM event_feed feed \
         LEFT JOIN event before ON before.sequence = $1 \
         LEFT JOIN event furthest ON furthest.sequence = \
         least(feed.last_sequence, coalesce($1, feed.purged_sequence) + $2) \
         LEFT JOIN LATERAL (\
         SELECT e.* FROM event e WHERE e.sequence > coalesce($1, feed.purged_sequence) \
         AND e.sequence <= coalesce($1, feed.purged_sequence) + $2 \
         AND ($3 IS NULL OR e.project_id = $3) AND ($4 IS NULL OR e.kind = $4) \
         ORDER BY e.sequence LIMIT $5) page ON true \
         WHERE feed.id = $6 ORDER BY page.sequence",
    )
    .bind::<Nullable<BigInt>, _>(after)
    .bind::<BigInt, _>(FEED_SCAN_MAX)
    .bind::<Nullable<SqlUuid>, _>(filter.project_id)
    .bind::<Nullable<Text>, _>(filter.kind)
    .bind::<BigInt, _>(i64::from(limit))
    .bind::<SqlUuid, _>(EVENT_FEED_ID);
    let rows: Vec<Row> = rows!(pool, "event.list", query)?;
    let [row, ..] = rows.as_slice() else {
        return Err(ReadError::Query {
            query: "event.list",
            error: diesel::result::Error::NotFound,
        });
    };
    let feed = Extent {
        purged_sequence: row.purged_sequence,
        last_sequence: row.last_sequence,
    };
    let (after_id, end_id) = (row.after_id, row.end_id);
    let events: Vec<_> = rows.into_iter().filter_map(|row| row.event).collect();
    let is_full = usize::try_from(limit).is_ok_and(|limit| events.len() >= limit);
    let (read_to_sequence, read_to_id) = match events.last() {
        Some(last) if is_full => (last.sequence, Some(last.id)),
        _ => {
            let begin = after.unwrap_or(feed.purged_sequence);
            (feed.last_sequence.min(begin + FEED_SCAN_MAX), end_id)
        }
    };
    Ok(FeedPage {
        events,
        read_to_sequence,
        read_to_id,
        after_id,
        feed,
    })
}

/// Whether there are events that are not published yet.
///
/// # Errors
/// [`ReadError`], when the database gives no answer.
pub async fn is_unpublished(pool: &ReadPool) -> Result<bool, ReadError> {
    // In the order of the index of the unpublished, so that no other way is taken through a big table.
    let query = event::table
        .filter(event::sequence.is_null())
        .order((event::time_recorded, event::id))
        .select(event::id)
        .limit(1);
    let rows: Vec<Uuid> = rows!(pool, "event.is_unpublished", query)?;
    Ok(!rows.is_empty())
}
