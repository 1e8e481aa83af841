//! What a transaction puts on the wire, and what it does not.

use nexus_tests::proxy::{Proxy, Traffic};

use super::{add, comes_to_rest, committed, ids, options, rolled_back, sqlstate, with_items};
use crate::conformance::sql;
use db_model::batch::Cause;
use nexus_tests::proxy::Trouble;

fn round_trips(proxy: &Proxy) -> usize {
    let traffic = proxy.take_traffic();
    traffic.iter().map(Traffic::round_trips).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a20_a_transaction_is_a_round_trip_for_each_step_and_one_for_its_commit() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let mut pools = database.pools_through(&proxy);
    drop(pools.writes.get().await.unwrap());
    for first in [1, 11] {
        proxy.take_traffic();
        let outcome = pools.transact(options(), |tx| async move {
            let tx = add(tx, first).await?;
            let tx = add(tx, first + 1).await?;
            Ok((add(tx, first + 2).await?, ()))
        });
        committed(outcome.await);
        assert_eq!(round_trips(&proxy), 4, "cold and warm");

        // A section that ends, one in it that is cancelled, and one without steps cost nothing.
        let outcome = pools.transact(options(), |tx| async move {
            let tx = add(tx, first + 3).await?;
            let (tx, ended) = tx
                .section("outer", async |tx| {
                    let tx = add(tx, first + 4).await?;
                    let (tx, cancelled) = tx
                        .section("inner", async |tx| Ok((add(tx, 0).await?, ())))
                        .await?;
                    cancelled.unwrap_err();
                    Ok((tx, ()))
                })
                .await?;
            ended.unwrap();
            let (tx, ended) = tx.section("empty", async |tx| Ok((tx, ()))).await?;
            ended.unwrap();
            Ok((tx, ()))
        });
        committed(outcome.await);
        assert_eq!(round_trips(&proxy), 4, "three steps and the commit");
    }
    assert_eq!(proxy.connections(), 1);
    assert_eq!(ids(&database).await, [0, 1, 2, 3, 4, 5, 11, 12, 13, 14, 15]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_a_transaction_without_steps_sends_nothing() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let mut pools = database.pools_through(&proxy);
    drop(pools.writes.get().await.unwrap());
    proxy.take_traffic();
    let outcome = pools.transact(options(), async |tx| {
        let (tx, ended) = tx.section("empty", async |tx| Ok((tx, ()))).await?;
        ended.unwrap();
        Ok((tx, 7))
    });
    assert_eq!(committed(outcome.await), (7, 1));
    let outcome = pools.transact(options(), async |tx| Err::<(_, ()), _>(tx.abort("no")));
    assert!(matches!(rolled_back(outcome.await).0, Cause::Aborted(_)));
    let sent: String = proxy.take_traffic().into_iter().map(|t| t.sent).collect();
    assert_eq!(sent, "");
    assert_eq!(proxy.connections(), 1);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b06_b08_after_a_failure_nothing_but_the_rollback_is_sent() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let mut pools = database.pools_through(&proxy);
    drop(pools.writes.get().await.unwrap());
    for _ in 0..2 {
        proxy.take_traffic();
        let outcome = pools.transact(options(), async |tx| {
            let tx = add(tx, 1).await?;
            let failure = match add(tx, 0).await {
                Ok(tx) => return Ok((tx, ())),
                Err(failure) => failure,
            };
            // Nothing can be done with it but to give it back.
            assert!(failure.to_string().contains("item_pkey"), "{failure}");
            Err(failure)
        });
        let (cause, attempts) = rolled_back(outcome.await);
        let Cause::Database(error) = &cause else {
            panic!("{cause:?}")
        };
        assert_eq!((sqlstate(error), attempts), ("23505", 1));
        let step = error.step().unwrap();
        assert_eq!((step.label, step.index), ("item.insert", 1));
        let traffic = proxy.take_traffic();
        let trips: usize = traffic.iter().map(Traffic::round_trips).sum();
        assert_eq!(trips, 3, "two steps and the rollback: {traffic:?}");
        let last = traffic[0].sent.trim_end_matches('S');
        assert!(last.ends_with("BE"), "one statement alone: {traffic:?}");
        comes_to_rest(&database, &pools).await;
        assert_eq!(pools.writes.state().idle, 1);
    }
    assert_eq!(proxy.connections(), 1, "the session is idle and stays");
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e07_b08_a_rollback_that_fails_keeps_the_first_cause_and_costs_the_session() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let mut pools = database.pools_through(&proxy);
    for (met, trouble) in [Trouble::CutBeforeSync, Trouble::LoseReply]
        .into_iter()
        .enumerate()
    {
        proxy.on(trouble.to("ROLLBACK"));
        let mut pid = 0;
        let outcome = pools.transact(options(), |tx| {
            pid = tx.backend_pid();
            async {
                let tx = add(tx, 1).await?;
                Ok((add(tx, 0).await?, ()))
            }
        });
        let (cause, _) = rolled_back(outcome.await);
        assert!(cause.to_string().contains("item_pkey"), "{cause}");
        assert_eq!(proxy.troubles(), met + 1, "the rollback was not in trouble");
        let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        database
            .eventually("the session is ended", async || {
                database.number(&gone).await == 0
            })
            .await;
        comes_to_rest(&database, &pools).await;
        assert_eq!(pools.writes.state().slots, 0);
        assert_eq!(proxy.connections(), met + 1);
    }
    let again = pools.transact(options(), |tx| async { Ok((add(tx, 1).await?, ())) });
    committed(again.await);
    assert_eq!(ids(&database).await, [0, 1]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a19_a_step_over_a_cap_is_refused_before_it_is_sent() {
    let database = with_items().await;
    let mut pools = database.pools();
    let large = || format!("INSERT INTO item SELECT length('{}')", "x".repeat(70_000));
    let outcome = pools.transact(options(), async |tx| {
        let (tx, refused) = tx
            .section("large", async |tx| tx.run(sql("large", large())).await)
            .await?;
        let cause = refused.unwrap_err().to_string();
        assert!(cause.contains("large (step 0) has 700"), "{cause}");
        // Nothing of it was sent, so the transaction is as good as before.
        Ok((add(tx, 1).await?, ()))
    });
    committed(outcome.await);
    let outcome = pools.transact(options(), async |mut tx| {
        loop {
            tx = tx.run(sql("one more", "SELECT 1")).await?.0;
        }
        #[expect(unreachable_code, reason = "it says what the body gives")]
        Ok((tx, ()))
    });
    let (cause, _) = rolled_back(outcome.await);
    assert!(cause.to_string().contains("more than 256 steps"), "{cause}");
    assert_eq!(ids(&database).await, [0, 1]);
    database.assert_books_balance().await;
}
