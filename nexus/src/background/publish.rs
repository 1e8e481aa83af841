//! Publishing events: every replica looks for some again and again, and whoever comes first does it.

use db_model::Database;
use db_model::feed;
use db_model::types::limits::{
    EVENTS_PUBLISHED_AT_ONCE_MAX, PUBLISH_INTERVAL, PUBLISH_INTERVAL_MAX,
};

use crate::http::error::chain;

/// Publishes until it is dropped. An event is durable before this sees it, so nothing is lost with
/// it: another replica goes on, or the next start.
pub async fn run(database: Database) {
    let mut pause = PUBLISH_INTERVAL;
    let mut failing = false;
    loop {
        match feed::publish(&database).await {
            Ok(events) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("events are published again");
                }
                pause = match events {
                    EVENTS_PUBLISHED_AT_ONCE_MAX.. => continue,
                    1.. => PUBLISH_INTERVAL,
                    _ => (pause * 2).min(PUBLISH_INTERVAL_MAX),
                };
            }
            Err(error) => {
                // Once for each time that the database is away, not once for each try.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(cause = %chain(&error), "events are not published; trying again");
                }
                pause = PUBLISH_INTERVAL_MAX;
            }
        }
        tokio::time::sleep(pause).await;
    }
}
