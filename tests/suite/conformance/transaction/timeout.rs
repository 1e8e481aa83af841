//! How long a transaction may take: for a lock, for nothing, and as a whole.

use std::time::{Duration, Instant};

use db_model::batch::{Batch, BatchError, Busy, Cause, Failure, Transaction};
use db_model::types::limits::{LOCK_TIMEOUT, STATEMENT_TIMEOUT, TRANSACTION_DEADLINE};
use nexus_tests::log::Log;

use super::{
    add, comes_to_rest, committed, ids, kill, number, numbers, options, refused, rolled_back,
    sqlstate, with_items,
};
use crate::conformance::sql;

/// On one thread, so that the log is this test's alone.
#[tokio::test]
async fn b29_a_transaction_that_says_nothing_for_too_long_is_ended_and_logged_with_its_owner() {
    let database = with_items().await;
    let mut pools = database.pools();
    let (log, _guard) = Log::listen();
    let short = options().idle_timeout(Duration::from_millis(100));
    let outcome = pools.transact(short, async |tx| {
        let tx = add(tx, 1).await?;
        let gone = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {}",
            tx.backend_pid()
        );
        database
            .eventually("the server ends it", async || {
                database.number(&gone).await == 0
            })
            .await;
        Ok((add(tx, 2).await?, ()))
    });
    let (cause, attempts) = rolled_back(outcome.await);
    assert!(matches!(cause, Cause::Lost(_)), "{cause:?}");
    assert!(cause.to_string().contains("25P03"), "{cause}");
    assert_eq!(attempts, 1);
    assert_eq!(log.warnings("conformance"), 1, "{log}", log = log.text());
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}

/// Waits without end, from where on the time passes as fast as nothing else is to be done.
async fn never(tx: Transaction) -> Result<(Transaction, ()), Failure> {
    tokio::time::pause();
    std::future::pending::<()>().await;
    Ok((tx, ()))
}

#[tokio::test]
async fn b29_a_transaction_that_takes_too_long_as_a_whole_is_ended_and_logged_with_its_owner() {
    let database = with_items().await;
    let mut pools = database.pools();
    let (log, _guard) = Log::listen();
    let outcome = pools.transact(options(), async |tx| never(add(tx, 1).await?).await);
    let outcome = outcome.await;
    tokio::time::resume();
    let (cause, attempts) = rolled_back(outcome);
    assert!(
        matches!(cause, Cause::TookTooLong(TRANSACTION_DEADLINE)),
        "{cause:?}"
    );
    assert_eq!(attempts, 1);
    assert_eq!(log.warnings("conformance"), 1, "{}", log.text());

    // The same while a step is under way, and in a section: no section outlasts the whole.
    let outcome = pools.transact(options(), async |tx| {
        let tx = add(tx, 1).await?;
        let (tx, slow) = tx
            .section("slow", async |tx| {
                tokio::time::pause();
                tx.run(sql("sleep", "SELECT pg_sleep(5)")).await
            })
            .await?;
        drop(slow);
        Ok((tx, ()))
    });
    let outcome = outcome.await;
    tokio::time::resume();
    let (cause, _) = rolled_back(outcome);
    assert!(matches!(cause, Cause::TookTooLong(_)), "{cause:?}");
    comes_to_rest(&database, &pools).await;
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_a_wait_for_a_lock_is_as_long_as_the_transaction_or_the_batch_says() {
    let database = with_items().await;
    let mut pools = database.pools();
    let short = Duration::from_millis(50);
    let mut client = database.client().await;
    let holder = client.transaction().await.unwrap();
    let lock = "SELECT * FROM item WHERE id = 0 FOR UPDATE";
    holder.batch_execute(lock).await.unwrap();
    let began = Instant::now();
    let wait = || sql("wait", "UPDATE item SET n = 1 WHERE id = 0");
    let outcome = pools.transact(options().lock_timeout(short), async |tx| {
        let tx = add(tx, 1).await?;
        tx.run(wait()).await
    });
    let batch = Batch::new().lock_timeout(short).step(wait());
    let slow = Batch::new()
        .statement_timeout(short)
        .step(sql("sleep", "SELECT pg_sleep(20)"));
    for (error, state) in [
        (refused(outcome.await), "55P03"),
        (batch.commit(&pools.writes).await.unwrap_err(), "55P03"),
        (slow.commit(&pools.writes).await.unwrap_err(), "57014"),
    ] {
        assert!(
            matches!(error, BatchError::Busy(Busy::Timeout { .. })),
            "{error:?}"
        );
        assert_eq!(sqlstate(&error), state);
    }
    assert!(began.elapsed() < LOCK_TIMEOUT);
    holder.rollback().await.unwrap();
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}

/// In milliseconds.
fn setting(name: &str) -> String {
    format!("SELECT setting::bigint AS number FROM pg_settings WHERE name = '{name}'")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l02_the_settings_of_one_transaction_are_not_those_of_the_next() {
    let database = with_items().await;
    let mut pools = database.pools();
    let asked = Duration::from_millis(1_234);
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap();
    let mut pids = Vec::new();
    for commits in [true, false] {
        let own = options().lock_timeout(asked).statement_timeout(asked);
        let outcome = pools.transact(own, |tx| {
            pids.push(tx.backend_pid());
            async move {
                let (tx, lock) = number(tx, &setting("lock_timeout")).await?;
                let (tx, statement) = number(tx, &setting("statement_timeout")).await?;
                assert_eq!((lock, statement), (1_234, 1_234));
                if commits {
                    Ok((tx, ()))
                } else {
                    Err(tx.abort("no"))
                }
            }
        });
        assert_eq!(outcome.await.into_result().is_ok(), commits);
        let batch = Batch::new()
            .lock_timeout(asked)
            .step(numbers(&setting("lock_timeout")));
        let (lock,) = batch.commit(&pools.writes).await.unwrap();
        assert_eq!(lock[0].number, 1_234);
        let outcome = pools.transact(options(), |tx| {
            pids.push(tx.backend_pid());
            async {
                let (tx, lock) = number(tx, &setting("lock_timeout")).await?;
                let (tx, statement) = number(tx, &setting("statement_timeout")).await?;
                Ok((tx, (lock, statement)))
            }
        });
        let (after, _) = committed(outcome.await);
        assert_eq!(after, (millis(LOCK_TIMEOUT), millis(STATEMENT_TIMEOUT)));
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "it was one session");
    kill(&database, pids[0]).await;
    database.assert_books_balance().await;
}
