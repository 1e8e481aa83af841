//! Group A: what is tried again, what a caller that goes away leaves behind, and what is never sent.

use std::sync::Arc;
use std::time::Duration;

use db_model::batch::{Batch, BatchError, Busy, Step};
use db_model::types::limits::{
    BATCH_ATTEMPTS_MAX, BATCH_BYTES_MAX, BATCH_LOCKING_BYTES_MAX, BATCH_STEPS_MAX,
    CLIENT_CHECK_INTERVAL,
};
use diesel::sql_types::Text;
use nexus_tests::TestDatabase;
use rand::RngExt;

use super::{SOON, chance, sql, waits_for_locks};

/// A function that conflicts as often as it is told; a sequence counts across rollbacks.
const CONFLICTS: &str = "\
CREATE TABLE item (id bigint CONSTRAINT item_pkey PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
CREATE SEQUENCE attempt;
CREATE FUNCTION conflict(times bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('attempt') <= times THEN
        RAISE EXCEPTION 'conflict' USING ERRCODE = '40001';
    END IF;
END $$";

async fn with_conflicts() -> TestDatabase {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    client.batch_execute(CONFLICTS).await.unwrap();
    database
}

fn conflicting(times: u32) -> Batch<((), ())> {
    Batch::new()
        .step(sql("insert", "INSERT INTO item VALUES (1)"))
        .step(sql("conflict", format!("SELECT conflict({times})")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_a_conflict_runs_the_whole_batch_again_up_to_a_cap() {
    let database = with_conflicts().await;
    let pools = database.pools();
    conflicting(3).commit(&pools.writes).await.unwrap();
    assert_eq!(database.number("SELECT last_value FROM attempt").await, 4);
    assert_eq!(database.number("SELECT count(*) FROM item").await, 1);

    let client = database.client().await;
    let again = "TRUNCATE item; ALTER SEQUENCE attempt RESTART";
    client.batch_execute(again).await.unwrap();
    let error = conflicting(1_000).commit(&pools.writes).await.unwrap_err();
    let BatchError::Busy(Busy::Conflict { attempts, .. }) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*attempts, BATCH_ATTEMPTS_MAX);
    assert_eq!(error.step().unwrap().label, "conflict");
    let attempts = database.number("SELECT last_value FROM attempt").await;
    assert_eq!(attempts, i64::from(BATCH_ATTEMPTS_MAX));
    assert_eq!(database.number("SELECT count(*) FROM item").await, 0);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a14_of_two_opposite_batches_one_is_run_again_and_both_end() {
    let database = with_conflicts().await;
    let client = database.client().await;
    let prepare = format!(
        "ALTER DATABASE {} SET deadlock_timeout = '20ms'; INSERT INTO item VALUES (1), (2)",
        database.name()
    );
    client.batch_execute(&prepare).await.unwrap();
    let pools = database.pools();
    let raise = |id: i64| format!("UPDATE item SET n = n + 1 WHERE id = {id}");
    // A barrier of two: each holds its first row before it asks for the second. It lasts for one try.
    let meet = "SELECT nextval('attempt'), pg_sleep(CASE WHEN currval('attempt') <= 2 THEN 0.3 ELSE 0 END)";
    let opposite = |first, second| {
        let batch = Batch::new()
            .step(sql("first", raise(first)))
            .step(sql("meet", meet))
            .step(sql("second", raise(second)));
        let writes = pools.writes.clone();
        tokio::spawn(async move { batch.commit(&writes).await })
    };
    let (one, other) = (opposite(1, 2), opposite(2, 1));
    let both = async { (one.await.unwrap(), other.await.unwrap()) };
    let (one, other) = tokio::time::timeout(SOON, both).await.unwrap();
    one.unwrap();
    other.unwrap();
    assert_eq!(database.number("SELECT sum(n)::bigint FROM item").await, 4);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    database
        .eventually("the deadlock is counted", async || {
            database.number(deadlocks).await >= 1
        })
        .await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_a_caller_that_goes_away_never_cuts_a_batch() {
    const BATCHES: i64 = 200;
    let database = with_conflicts().await;
    let proxy = database.proxy().await;
    let pools = database.pools_through(&proxy);
    let mut chance = chance();
    let mut dropped = 0;
    for round in 0..BATCHES {
        let insert = |label, id| sql(label, format!("INSERT INTO item VALUES ({id})"));
        let batch = Batch::new()
            .step(insert("first", 2 * round))
            .step(sql("while", "SELECT pg_sleep(0.001)"))
            .step(insert("second", 2 * round + 1));
        // From before the first byte to after the last.
        let patience = Duration::from_micros(chance.random_range(0..6_000));
        let commit = batch.commit(&pools.writes);
        dropped += i64::from(tokio::time::timeout(patience, commit).await.is_err());
    }
    assert!(
        dropped > 0 && dropped < BATCHES,
        "{dropped} of {BATCHES} were dropped"
    );
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND pid <> pg_backend_pid() AND (state <> 'idle' OR xact_start IS NOT NULL)";
    database
        .eventually("every batch has ended", async || {
            database.number(busy).await == 0
        })
        .await;
    assert!(proxy.connections() <= 8, "connections were lost over it");
    let halves =
        "SELECT count(*) FROM (SELECT 1 FROM item GROUP BY id / 2 HAVING count(*) <> 2) AS h";
    assert_eq!(database.number(halves).await, 0);
    let whole = database.number("SELECT count(*) / 2 FROM item").await;
    assert!(
        whole >= BATCHES - dropped,
        "{whole} batches, {dropped} dropped"
    );
    database
        .eventually("every session is back in the pool", async || {
            let state = pools.writes.state();
            state.slots == state.idle
        })
        .await;
    pools.ping().await.unwrap();
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_a_batch_whose_caller_is_gone_commits() {
    let database = with_conflicts().await;
    let pools = database.pools();
    let mut client = database.client().await;
    let holder = client.transaction().await.unwrap();
    holder.execute("LOCK TABLE item", &[]).await.unwrap();
    let batch = Batch::new()
        .step(sql("first", "INSERT INTO item VALUES (1)"))
        .step(sql("second", "INSERT INTO item VALUES (2)"));
    let writes = pools.writes.clone();
    let caller = tokio::spawn(async move { batch.commit(&writes).await });
    waits_for_locks(&database, 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    // Long enough for the server to notice a connection that is gone.
    tokio::time::sleep(CLIENT_CHECK_INTERVAL * 3 / 2).await;
    holder.commit().await.unwrap();
    database
        .eventually("the batch commits", async || {
            database.number("SELECT count(*) FROM item").await == 2
        })
        .await;
    database.assert_books_balance().await;
}

/// A step whose bind has this many bytes; its SQL has a few more.
fn large(bytes: usize) -> Step<()> {
    let query = diesel::sql_query("SELECT length($1)");
    Step::statement("large", query.bind::<Text, _>("x".repeat(bytes)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a19_what_passes_a_cap_is_refused_before_it_is_sent() {
    let database = TestDatabase::new().await;
    let proxy = Arc::new(database.proxy().await);
    let pools = database.pools_through(&proxy);
    let select = |_| sql("one", "SELECT 1");
    let over = [
        Batch::all((0..=BATCH_STEPS_MAX).map(select).collect()).discard(),
        Batch::new().step(large(BATCH_BYTES_MAX)).discard(),
        Batch::new()
            .step(large(BATCH_BYTES_MAX / 2))
            .step(large(BATCH_BYTES_MAX / 2))
            .discard(),
        Batch::new()
            .step(large(BATCH_LOCKING_BYTES_MAX).locking())
            .discard(),
        // What locks need not be what is large.
        Batch::new()
            .step(large(BATCH_LOCKING_BYTES_MAX))
            .step(sql("lock", "SELECT 1").locking())
            .discard(),
    ];
    for batch in over {
        let shown = format!("{batch:?}");
        let error = batch.commit(&pools.writes).await.unwrap_err();
        assert!(
            matches!(error, BatchError::Invalid(_)),
            "{shown}: {error:?}"
        );
    }
    assert_eq!(proxy.connections(), 0, "something went on the wire");
    let within = [
        Batch::all((0..BATCH_STEPS_MAX).map(select).collect()).discard(),
        Batch::new().step(large(BATCH_BYTES_MAX - 100)).discard(),
        Batch::new()
            .step(large(BATCH_LOCKING_BYTES_MAX - 100).locking())
            .discard(),
    ];
    for batch in within {
        batch.commit(&pools.writes).await.unwrap();
    }
    database.assert_books_balance().await;
}
