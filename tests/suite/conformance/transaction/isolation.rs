//! Isolation levels, and the whole retry that they ask for.

use db_model::batch::{Batch, Isolation, Options};
use nexus_tests::TestDatabase;

use super::{committed, number, options, with_items};
use crate::conformance::{SOON, sql, waits_for_locks};

/// Two who are on call; each may leave as long as the other stays.
async fn with_two_on_call() -> TestDatabase {
    let database = with_items().await;
    let two = "INSERT INTO item VALUES (1); UPDATE item SET n = 1";
    database.client().await.batch_execute(two).await.unwrap();
    database
}

const ON_CALL: &str = "SELECT sum(n)::bigint AS number FROM item";

/// Both look before either leaves; gives how often the one through `transact` has run.
async fn both_leave(database: &TestDatabase, level: Options) -> u32 {
    let mut pools = database.pools();
    let mut client = database.client().await;
    let mut runs = 0;
    let client = tokio::sync::Mutex::new(&mut client);
    let outcome = pools.transact(level, |tx| {
        runs += 1;
        let first = runs == 1;
        let client = &client;
        async move {
            let (tx, on_call) = number(tx, ON_CALL).await?;
            if first {
                let mut client = client.lock().await;
                let other = client.build_transaction();
                let level = tokio_postgres::IsolationLevel::Serializable;
                let other = other.isolation_level(level).start().await.unwrap();
                let row = other.query_one(ON_CALL, &[]).await.unwrap();
                assert_eq!(row.get::<_, i64>(0), 2);
                let leave = "UPDATE item SET n = 0 WHERE id = 1";
                other.batch_execute(leave).await.unwrap();
                other.commit().await.unwrap();
            }
            if on_call == 2 {
                let leave = sql("leave", "UPDATE item SET n = 0 WHERE id = 0");
                return tx.run(leave).await;
            }
            Ok((tx, ()))
        }
    });
    let ((), attempts) = committed(outcome.await);
    assert_eq!(attempts, runs);
    attempts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b30_write_skew_is_prevented_when_serializable_and_only_then() {
    for (isolation, attempts, stays) in [
        (Isolation::ReadCommitted, 1, 0),
        (Isolation::RepeatableRead, 1, 0),
        (Isolation::Serializable, 2, 1),
    ] {
        let database = with_two_on_call().await;
        let ran = both_leave(&database, options().isolation(isolation)).await;
        assert_eq!(ran, attempts, "{isolation:?}");
        let on_call = database.number(ON_CALL).await;
        assert_eq!(on_call, stays, "{isolation:?}");
        database.assert_books_balance().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b14_a_lost_update_is_prevented_at_repeatable_read_and_the_whole_runs_again() {
    for (isolation, attempts, sum) in [
        (Isolation::ReadCommitted, 1, 1),
        (Isolation::RepeatableRead, 2, 11),
    ] {
        let database = with_items().await;
        let client = database.client().await;
        let mut pools = database.pools();
        let mut runs = 0;
        let outcome = pools.transact(options().isolation(isolation), |tx| {
            runs += 1;
            let first = runs == 1;
            let client = &client;
            async move {
                let (tx, seen) = number(tx, "SELECT n AS number FROM item").await?;
                if first {
                    let meanwhile = "UPDATE item SET n = n + 10";
                    client.batch_execute(meanwhile).await.unwrap();
                }
                let write = format!("UPDATE item SET n = {seen} + 1");
                tx.run(sql("write", write)).await
            }
        });
        assert_eq!(committed(outcome.await), ((), attempts));
        assert_eq!(database.number("SELECT n FROM item").await, sum);
        database.assert_books_balance().await;
    }
}

/// A batch of an isolation level looks, waits for the test, and leaves if the other stays.
fn leaves(isolation: Isolation) -> Batch<((), (), u64)> {
    let leave = "UPDATE item SET n = 0 WHERE id = 0 AND (SELECT sum(n) FROM item) = 2";
    Batch::new()
        .isolation(isolation)
        .step(sql("look", "SELECT sum(n) FROM item"))
        .step(sql("wait", "SELECT pg_advisory_xact_lock_shared(1)"))
        .step(db_model::batch::Step::count(
            "leave",
            diesel::sql_query(leave),
        ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b30_a_batch_keeps_to_its_snapshot_and_runs_again_as_a_whole() {
    for isolation in [Isolation::RepeatableRead, Isolation::Serializable] {
        let database = with_two_on_call().await;
        let pools = database.pools();
        let mut client = database.client().await;
        let gate = client.transaction().await.unwrap();
        let close = "SELECT pg_advisory_xact_lock(1)";
        gate.batch_execute(close).await.unwrap();
        let writes = pools.writes.clone();
        let batch = tokio::spawn(async move { leaves(isolation).commit(&writes).await });
        waits_for_locks(&database, 1).await;
        let other = database.client().await;
        let leave = "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(n) FROM item; \
                     UPDATE item SET n = 0 WHERE id = 1; COMMIT";
        other.batch_execute(leave).await.unwrap();
        gate.rollback().await.unwrap();
        let left = tokio::time::timeout(SOON, batch).await.unwrap().unwrap();
        let ((), (), left) = left.unwrap();
        // The old snapshot still has two on call. Only serializable notices that it is old.
        let expected = u64::from(isolation == Isolation::RepeatableRead);
        assert_eq!(left, expected, "{isolation:?}");
        let on_call = database.number(ON_CALL).await;
        assert_eq!(on_call, 1 - i64::try_from(expected).unwrap());
        database.assert_books_balance().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b30_a_batch_that_meets_a_newer_row_runs_again_on_a_new_snapshot() {
    let database = with_items().await;
    let pools = database.pools();
    let mut client = database.client().await;
    let other = client.transaction().await.unwrap();
    other.batch_execute("UPDATE item SET n = 10").await.unwrap();
    let batch = Batch::new()
        .isolation(Isolation::RepeatableRead)
        .step(sql("look", "SELECT n, nextval('attempt') FROM item"))
        .step(sql("raise", "UPDATE item SET n = n + 1"));
    let writes = pools.writes.clone();
    let batch = tokio::spawn(async move { batch.commit(&writes).await });
    waits_for_locks(&database, 1).await;
    other.commit().await.unwrap();
    batch.await.unwrap().unwrap();
    assert_eq!(database.number("SELECT n FROM item").await, 11);
    assert_eq!(database.number("SELECT last_value FROM attempt").await, 2);
    database.assert_books_balance().await;
}
