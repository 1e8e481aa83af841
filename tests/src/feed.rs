//! The change feed, held against what has changed.

use db_model::connect::{self, ConnectOptions};
use reqwest::Client as Http;
use serde_json::Value;
use tokio_postgres::Client;

use crate::{Answer, process};

/// What is wrong with what is told: a gap, a change that was undone, or changes of one resource in
/// another order than theirs.
const COMPLAINTS: &str = "\
WITH placed AS (SELECT * FROM event WHERE sequence IS NOT NULL)
SELECT format('numbers %s to %s, %s of them, in a feed from %s to %s', min(p.sequence), max(p.sequence), count(p.id),
    f.purged_sequence + 1, f.last_sequence) AS complaint
FROM event_feed f LEFT JOIN placed p ON true GROUP BY f.id
HAVING count(p.id) <> f.last_sequence - f.purged_sequence
    OR min(p.sequence) <> f.purged_sequence + 1 OR max(p.sequence) <> f.last_sequence
UNION ALL
SELECT format('%s of %s is told, and %s is %s', e.kind, e.resource_name, s.name, s.state)
FROM event e JOIN saga s ON s.id = e.operation_id WHERE s.state IN ('unwinding', 'failed', 'stuck')
UNION ALL
SELECT format('%s of %s comes at %s, out of order', kind, resource_name, sequence) FROM (
    SELECT p.*, lag(resource_generation) OVER (
        PARTITION BY resource_id, kind LIKE '%.quota_updated' ORDER BY sequence) AS before FROM placed p
) AS line WHERE resource_generation <= before";

/// What is not told, in a database that nobody watches: known as long as nothing is purged.
const UNTOLD: &str = "\
SELECT format('%s %s is not told', s.name, s.id) FROM saga s
WHERE s.state = 'succeeded' AND s.name ~ '^(project|instance)-(create|delete)$'
AND (SELECT purged_sequence FROM event_feed) = 0 AND NOT EXISTS (SELECT 1 FROM event e WHERE e.operation_id = s.id)";

/// Notes each change of limits, and each event that goes. What meddles with a row by hand leaves its
/// `changed_by` and is not noted.
pub(crate) const WATCH: &str = "\
CREATE SCHEMA harness;
CREATE TABLE harness.limit_change (scope text, change uuid);
CREATE TABLE harness.event_gone (id uuid, operation_id uuid, sequence bigint);
CREATE FUNCTION harness.limit_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO harness.limit_change VALUES (TG_TABLE_NAME, NEW.changed_by); RETURN NULL; END $$;
CREATE FUNCTION harness.event_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO harness.event_gone VALUES (OLD.id, OLD.operation_id, OLD.sequence); RETURN NULL; END $$;
CREATE TRIGGER limit_change AFTER UPDATE ON fleet_quota FOR EACH ROW WHEN (
    NEW.changed_by <> OLD.changed_by AND NEW.projects_limit <> OLD.projects_limit
) EXECUTE FUNCTION harness.limit_change();
CREATE TRIGGER limit_change AFTER UPDATE ON project_quota FOR EACH ROW WHEN (
    NEW.changed_by <> OLD.changed_by AND (NEW.instances_limit, NEW.vcpus_limit, NEW.memory_bytes_limit)
        <> (OLD.instances_limit, OLD.vcpus_limit, OLD.memory_bytes_limit)
) EXECUTE FUNCTION harness.limit_change();
CREATE TRIGGER event_gone AFTER DELETE ON event FOR EACH ROW EXECUTE FUNCTION harness.event_gone()";

/// What is not told in a database that is watched, whatever is purged of it.
const UNTOLD_WATCHED: &str = "\
WITH told AS (SELECT id, operation_id FROM event
    UNION ALL SELECT g.id, g.operation_id FROM harness.event_gone g, event_feed f WHERE g.sequence <= f.purged_sequence)
SELECT format('%s %s is not told', s.name, s.id) FROM saga s
WHERE s.state = 'succeeded' AND s.name ~ '^(project|instance)-(create|delete)$'
AND NOT EXISTS (SELECT 1 FROM told t WHERE t.operation_id = s.id)
UNION ALL
SELECT format('the change %s of limits of a %s is not told', l.change, l.scope) FROM harness.limit_change l
WHERE NOT EXISTS (SELECT 1 FROM told t WHERE t.id = l.change)";

/// Has a database with the schema watched, so that nothing can be untold.
pub(crate) async fn watch(options: &ConnectOptions) {
    let client = connect::client(options).await.unwrap();
    client.batch_execute(WATCH).await.unwrap();
}

/// What is wrong with the feed.
pub async fn complaints(database: &Client) -> Vec<String> {
    let watched = "SELECT to_regclass('harness.limit_change') IS NOT NULL";
    let watched = database.query_one(watched, &[]).await.unwrap().get(0);
    let untold = if watched { UNTOLD_WATCHED } else { UNTOLD };
    let mut rows = database.query(COMPLAINTS, &[]).await.unwrap();
    rows.extend(database.query(untold, &[]).await.unwrap());
    rows.iter().map(|row| row.get(0)).collect()
}

/// Whatever is published is whole and true, nothing is missing, and what is not published will be.
pub async fn assert_true(database: &Client) {
    let complaints = complaints(database).await;
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
