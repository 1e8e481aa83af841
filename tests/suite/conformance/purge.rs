//! Group A: work without a bound, done in batches that have one.

use db_model::types::limits::PURGE_ROWS_MAX;
use nexus_tests::fixture::{self, WIDE};
use nexus_tests::process::Program;
use nexus_tests::{TestDatabase, past};

use super::{executor, waits_for_locks};

const ROWS: i64 = 10_000;

/// Notes what each transaction removes; the fourth also waits for a lock of the test.
const NOTE: &str = "\
CREATE TABLE removed (batch xid8 NOT NULL, rows bigint NOT NULL, newest timestamptz NOT NULL);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO removed SELECT pg_current_xact_id(), count(*), max(time_deleted) FROM gone HAVING count(*) > 0;
    IF (SELECT count(*) FROM removed) = 4 THEN
        PERFORM pg_advisory_xact_lock_shared(18);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER instance_note AFTER DELETE ON instance REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION note()";

/// Sees that what was removed and what is left are all there was, in whole batches, the oldest first.
async fn adds_up(database: &TestDatabase) -> i64 {
    let select = "\
SELECT (SELECT coalesce(sum(rows), 0)::bigint FROM removed),
    (SELECT coalesce(max(rows), 0)::bigint FROM (SELECT sum(rows) AS rows FROM removed GROUP BY batch) b),
    (SELECT count(*) FROM instance WHERE description = 'old'),
    (SELECT count(*) FROM instance WHERE description = 'old' AND time_deleted < (SELECT max(newest) FROM removed))";
    let row = database
        .client()
        .await
        .query_one(select, &[])
        .await
        .unwrap();
    let (removed, largest, left, passed_over): (i64, i64, i64, i64) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    assert_eq!(removed + left, ROWS);
    assert!(
        largest <= PURGE_ROWS_MAX,
        "{largest} rows in one transaction"
    );
    assert_eq!(removed % PURGE_ROWS_MAX, 0, "a batch is half done");
    assert_eq!(passed_over, 0, "younger rows went first");
    removed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a18_ten_thousand_child_rows_go_in_bounded_batches_and_a_kill_half_way_is_resumed() {
    let database = TestDatabase::new().await;
    let creator = executor(&database).await;
    let project = fixture::project(&creator, "web", WIDE).await;
    fixture::instance(&creator, project.id, "alive").await;
    let client = database.client().await;
    past::instances(&client, project.id, "old", ROWS, "30 days").await;
    past::instances(&client, project.id, "young", 10, "6 days").await;
    client.batch_execute(NOTE).await.unwrap();
    client
        .batch_execute("SELECT pg_advisory_lock(18)")
        .await
        .unwrap();

    let purging = Program::server_on(&database.url().await).flag("--purge-interval", "1s");
    let mut first = purging.start().await;
    waits_for_locks(&database, 1).await;
    first.kill().await;
    client
        .batch_execute("SELECT pg_advisory_unlock(18)")
        .await
        .unwrap();
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND state <> 'idle' AND pid <> pg_backend_pid()";
    database
        .eventually("the batch of the dead process has ended", async || {
            database.number(open).await == 0
        })
        .await;
    let removed = adds_up(&database).await;
    // The batch that was under way has committed whole, or not at all.
    assert!([3, 4].contains(&(removed / PURGE_ROWS_MAX)), "{removed}");

    let purging = Program::server_on(&database.url().await).flag("--purge-interval", "1s");
    let mut second = purging.start().await;
    let left = "SELECT count(*) FROM instance WHERE description = 'old'";
    database
        .eventually("the rest is gone", async || {
            database.number(left).await == 0
        })
        .await;
    assert_eq!(adds_up(&database).await, ROWS);
    second.terminate().await;
    assert_eq!(database.number("SELECT count(*) FROM instance").await, 11);
    database.assert_books_balance().await;
}
