//! Publishing events: giving them their places in the change feed; and purging them again.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Double};

use crate::batch::Step;
use crate::model::EVENT_FEED_ID;
use crate::schema::event_feed::dsl;
use crate::types::limits::PURGE_ROWS_MAX;

/// Locks the feed, until the commit, against everybody else who numbers or purges events.
///
/// It waits for who holds the lock, and does not skip: in a pipeline the next step could not know.
pub fn lock() -> Step<()> {
    let select = dsl::event_feed
        .filter(dsl::id.eq(EVENT_FEED_ID))
        .select(dsl::id)
        .for_update();
    Step::statement("event_feed.lock", select)
}

/// How many events a batch has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct Published {
    /// Events.
    #[diesel(sql_type = BigInt)]
    pub events: i64,
}

/// Gives the oldest `limit` unpublished events the next numbers of the feed. It comes after [`lock`]:
/// its snapshot must be newer than the last publication, whose events it would number again.
///
/// One row, or none when there was nothing to publish. Numbers become visible in their order, for the
/// next ones are drawn only after these are committed; so a reader that goes on from a number misses
/// none. Should two changes of one resource have the same time, the generation decides.
pub fn publish(limit: i64) -> Step<Vec<Published>> {
    let publish = diesel::sql_query(
        "WITH oldest AS (\
         SELECT id, time_recorded, resource_generation FROM event WHERE sequence IS NULL \
         ORDER BY time_recorded, id LIMIT $1\
         ), placed AS (\
         SELECT id, row_number() OVER (ORDER BY time_recorded, resource_generation, id) AS place FROM oldest\
         ), published AS (\
         UPDATE event SET sequence = placed.place + (SELECT last_sequence FROM event_feed WHERE id = $2), \
         time_published = clock_timestamp() \
         FROM placed WHERE event.id = placed.id RETURNING 1\
         ) UPDATE event_feed SET last_sequence = last_sequence + (SELECT count(*) FROM published), \
         time_modified = clock_timestamp() \
         WHERE id = $2 AND EXISTS (SELECT 1 FROM published) \
         RETURNING (SELECT count(*) FROM published) AS events",
    )
    .bind::<BigInt, _>(limit)
    .bind::<diesel::sql_types::Uuid, _>(EVENT_FEED_ID);
    Step::rows("event_feed.publish", publish)
}

/// Removes events that were published longer than `age` ago, however long they had waited for that, at most
/// [`PURGE_ROWS_MAX`], the oldest first, up to the first that stays; gives how many. It comes after [`lock`].
///
/// The feed says in the same batch up to which number it is gone, so a reader that comes from further
/// back learns that it has missed some.
pub fn purge(age: Duration) -> Step<u64> {
    let delete = diesel::sql_query(format!(
        "WITH page AS MATERIALIZED (\
         SELECT sequence, time_published < now() - make_interval(secs => $1) AS is_old FROM event \
         WHERE sequence > (SELECT purged_sequence FROM event_feed WHERE id = $2) \
         ORDER BY sequence LIMIT {PURGE_ROWS_MAX}), \
         old AS MATERIALIZED (SELECT sequence FROM page WHERE sequence < \
         coalesce((SELECT min(sequence) FROM page WHERE NOT is_old), {})), \
         feed AS (UPDATE event_feed SET purged_sequence = (SELECT max(sequence) FROM old), \
         time_modified = clock_timestamp() WHERE id = $2 AND EXISTS (SELECT 1 FROM old)) \
         DELETE FROM event WHERE sequence IN (SELECT sequence FROM old)",
        i64::MAX
    ))
    .bind::<Double, _>(age.as_secs_f64())
    .bind::<diesel::sql_types::Uuid, _>(EVENT_FEED_ID);
    Step::count("event_feed.purge", delete)
}
