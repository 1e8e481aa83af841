//! The change feed, held against what has changed.

use reqwest::Client as Http;
use serde_json::Value;
use tokio_postgres::Client;

use crate::{Answer, process};

/// What is wrong with the feed: a gap, a change that is not told, one that is told and was undone, or
/// changes of one resource in another order than theirs.
const COMPLAINTS: &str = "\
WITH placed AS (SELECT * FROM event WHERE sequence IS NOT NULL)
SELECT format('numbers %s to %s, %s of them, in a feed from %s to %s', min(p.sequence), max(p.sequence), count(p.id),
    f.purged_sequence + 1, f.last_sequence) AS complaint
FROM event_feed f LEFT JOIN placed p ON true GROUP BY f.id
HAVING count(p.id) <> f.last_sequence - f.purged_sequence
    OR min(p.sequence) <> f.purged_sequence + 1 OR max(p.sequence) <> f.last_sequence
UNION ALL
SELECT format('%s %s is not told', s.name, s.id) FROM saga s
WHERE s.state = 'succeeded' AND s.name ~ '^(project|instance)-(create|delete)$'
AND (SELECT purged_sequence FROM event_feed) = 0 AND NOT EXISTS (SELECT 1 FROM event e WHERE e.operation_id = s.id)
UNION ALL
SELECT format('%s of %s is told, and %s is %s', e.kind, e.resource_name, s.name, s.state)
FROM event e JOIN saga s ON s.id = e.operation_id WHERE s.state IN ('unwinding', 'failed', 'stuck')
UNION ALL
SELECT format('%s of %s comes at %s, out of order', kind, resource_name, sequence) FROM (
    SELECT p.*, lag(resource_generation) OVER (
        PARTITION BY resource_id, kind LIKE '%.quota_updated' ORDER BY sequence) AS before FROM placed p
) AS line WHERE resource_generation <= before";

/// Whatever is published is whole and true, and what is not will be.
pub async fn assert_true(database: &Client) {
    let rows = database.query(COMPLAINTS, &[]).await.unwrap();
    let complaints: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(complaints.is_empty(), "the feed is wrong: {complaints:#?}");
}

/// Waits until nothing is left to be published.
pub async fn published(database: &Client) {
    let left = "SELECT count(*) FROM event WHERE sequence IS NULL";
    crate::eventually("every event is published", async || {
        let row = database.query_one(left, &[]).await.unwrap();
        row.get::<_, i64>(0) == 0
    })
    .await;
}

/// Somebody who follows the feed over HTTP.
#[derive(Debug)]
pub struct Follower {
    client: Http,
    /// With what the feed goes on; none at its beginning.
    pub token: Option<String>,
    /// What was read so far.
    pub events: Vec<Value>,
}

impl Default for Follower {
    fn default() -> Self {
        Self {
            client: process::client(),
            token: None,
            events: Vec::new(),
        }
    }
}

impl Follower {
    /// Reads the next page of so many events. Says whether the feed goes on already.
    pub async fn page(&mut self, api: &str, limit: u32) -> bool {
        let mut url = format!("{api}/v1/events?limit={limit}");
        if let Some(token) = &self.token {
            url.push_str(&format!("&page_token={token}"));
        }
        let answer = Answer::read(self.client.get(url).send().await.unwrap()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let items = answer.body["items"].as_array().unwrap();
        self.events.extend(items.iter().cloned());
        self.token = answer.body["next_page"].as_str().map(str::to_owned);
        answer.body["has_more"].as_bool().unwrap()
    }

    /// Reads until the feed has so many events in all.
    pub async fn reads(&mut self, api: &str, events: usize) {
        let begun = std::time::Instant::now();
        while self.events.len() < events {
            assert!(
                begun.elapsed() < crate::SOON,
                "the feed ends with {:?}",
                self.events
            );
            if !self.page(api, 100).await {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }

    /// Each number once, in order, from the first that was not `purged`.
    pub fn assert_whole(&self, purged: usize) {
        let numbers: Vec<_> = self.events.iter().map(|e| e["sequence"].clone()).collect();
        let whole = (1..=numbers.len()).map(|number| Value::from(purged + number));
        let whole: Vec<_> = whole.collect();
        assert_eq!(numbers, whole);
    }
}
