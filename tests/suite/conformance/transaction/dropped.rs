//! Callers that go away, bodies that panic, and bodies that mix transactions up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use db_model::batch::{Cause, Failure, Transaction};
use nexus_tests::proxy::Trouble;
use rand::RngExt;
use tokio::sync::oneshot;

use super::{Said, add, comes_to_rest, committed, ids, options, rolled_back, with_items};
use crate::conformance::{SOON, chance, sql, waits_for_locks};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_a_caller_that_goes_away_in_a_step_leaves_nothing_and_no_session() {
    let database = with_items().await;
    let pools = database.pools();
    let mut client = database.client().await;
    let holder = client.transaction().await.unwrap();
    let lock = "SELECT * FROM item FOR UPDATE";
    holder.batch_execute(lock).await.unwrap();
    let mut own = pools.clone();
    let caller = tokio::spawn(async move {
        let outcome = own.transact(options(), async |tx| {
            let tx = add(tx, 1).await?;
            tx.run(sql("wait", "UPDATE item SET n = 1 WHERE id = 0"))
                .await
        });
        outcome.await.into_result()
    });
    waits_for_locks(&database, 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!(pools.writes.state().slots, 0, "the session is not kept");
    holder.rollback().await.unwrap();
    comes_to_rest(&database, &pools).await;
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_a_commit_whose_caller_goes_away_ends_whole_and_runs_its_hooks() {
    let database = with_items().await;
    let proxy = Arc::new(database.proxy().await);
    let (pools, said) = (database.pools_through(&proxy), Said::default());
    for (id, messages) in (1..).zip(0..5) {
        let mut warm = pools.clone();
        let warm = warm.transact(options(), async |tx| tx.run(sql("warm", "SELECT 1")).await);
        warm.await.into_result().unwrap();
        let (mut own, hooks, proxy) = (pools.clone(), said.clone(), proxy.clone());
        let frozen = proxy.clone();
        let caller = tokio::spawn(async move {
            let outcome = own.transact(options(), |tx| {
                let (hooks, proxy) = (&hooks, &proxy);
                async move {
                    let tx = hooks.at_the_end(add(tx, id).await?)?;
                    proxy.on(Trouble::FreezeAfter(messages));
                    Ok((tx, ()))
                }
            });
            outcome.await.into_result()
        });
        let proxy = frozen;
        tokio::time::timeout(SOON, proxy.frozen()).await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        proxy.thaw();
        comes_to_rest(&database, &pools).await;
        assert!(ids(&database).await.contains(&id), "{messages}");
        database
            .eventually("the hook runs", async || said.take() == ["committed"])
            .await;
    }
    assert_eq!(proxy.connections(), 1, "the session stays");
    database.assert_books_balance().await;
}

/// From before the first byte to after the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_a_caller_that_goes_away_at_any_time_leaves_all_or_nothing() {
    const CALLERS: i64 = 150;
    let database = with_items().await;
    let mut pools = database.pools();
    let mut chance = chance();
    let mut dropped = 0;
    let mut took = Duration::from_secs(1);
    for round in 1..=CALLERS {
        let began = Instant::now();
        // The first ones may take their time, to tell how long they take.
        let patience = match round {
            ..=5 => SOON,
            _ => took.mul_f64(chance.random_range(0.0..1.5)),
        };
        let transact = pools.transact(options(), |tx| async move {
            let tx = add(tx, 2 * round).await?;
            let (tx, section) = tx
                .section("two", async |tx| {
                    let tx = add(tx, 2 * round + 1).await?;
                    Ok((add(tx, 0).await?, ()))
                })
                .await?;
            section.unwrap_err();
            Ok((add(tx, 2 * round + 1).await?, ()))
        });
        match tokio::time::timeout(patience, transact).await {
            Ok(outcome) => {
                committed(outcome);
                took = took.min(began.elapsed());
            }
            Err(_elapsed) => dropped += 1,
        }
    }
    assert!(dropped > 0 && dropped < CALLERS, "{dropped} of {CALLERS}");
    comes_to_rest(&database, &pools).await;
    let halves = "SELECT count(*) FROM (SELECT 1 FROM item WHERE id > 1 GROUP BY id / 2 HAVING count(*) <> 2) AS h";
    assert_eq!(database.number(halves).await, 0);
    let whole = database.number("SELECT count(*) / 2 FROM item").await;
    assert!(whole >= CALLERS - dropped, "{whole}, {dropped} dropped");
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a16_a_panic_in_a_body_or_in_a_section_leaves_nothing_and_no_session() {
    let database = with_items().await;
    let pools = database.pools();
    for inside in [false, true] {
        let mut own = pools.clone();
        let caller = tokio::spawn(async move {
            let outcome = own.transact(options(), async |tx| {
                let tx = add(tx, 1).await?;
                assert!(inside, "a body that panics on purpose");
                let (tx, section) = tx
                    .section("panics", async |tx| {
                        let tx = add(tx, 2).await?;
                        assert!(!inside, "a section that panics on purpose");
                        Ok((tx, ()))
                    })
                    .await?;
                section.unwrap();
                Ok((tx, ()))
            });
            outcome.await.into_result()
        });
        assert!(caller.await.unwrap_err().is_panic());
        assert_eq!(pools.writes.state().slots, 0, "the session is not kept");
        comes_to_rest(&database, &pools).await;
        assert_eq!(ids(&database).await, [0]);
    }
    let mut own = pools.clone();
    let outcome = own.transact(options(), async |tx| Ok((add(tx, 1).await?, ())));
    committed(outcome.await);
    assert_eq!(ids(&database).await, [0, 1]);
    database.assert_books_balance().await;
}

type Swap = (oneshot::Sender<Transaction>, oneshot::Receiver<Transaction>);

async fn swap(tx: Transaction, (give, take): Swap) -> Result<(Transaction, ()), Failure> {
    give.send(tx).unwrap();
    Ok((take.await.unwrap(), ()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b07_a_transaction_is_ended_by_nobody_but_its_owner() {
    let database = with_items().await;
    let mut pools = database.pools();
    for (id, in_section) in [(1, false), (3, true)] {
        let (to_one, from_other) = oneshot::channel();
        let (to_other, from_one) = oneshot::channel();
        let transact = async |id, swapped: Swap| {
            let (mut own, mut swapped) = (pools.clone(), Some(swapped));
            let outcome = own.transact(options(), |tx| {
                let swapped = swapped.take().unwrap();
                async move {
                    let tx = add(tx, id).await?;
                    if !in_section {
                        return swap(tx, swapped).await;
                    }
                    let (tx, section) = tx.section("swap", |tx| swap(tx, swapped)).await?;
                    section.unwrap();
                    Ok((tx, ()))
                }
            });
            outcome.await
        };
        let (one, other) = tokio::join!(
            transact(id, (to_other, from_other)),
            transact(id + 1, (to_one, from_one))
        );
        for outcome in [one, other] {
            let (cause, _) = rolled_back(outcome);
            assert!(matches!(cause, Cause::Misuse(_)), "{cause:?}");
            assert!(cause.to_string().contains("another transaction"), "{cause}");
        }
    }
    comes_to_rest(&database, &pools).await;
    assert_eq!(ids(&database).await, [0]);
    let outcome = pools.transact(options(), async |tx| Ok((add(tx, 1).await?, ())));
    committed(outcome.await);
    database.assert_books_balance().await;
}

/// What a body does with its transaction instead of giving it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    Drops,
    Forgets,
    Keeps,
}

/// A body that keeps its transaction keeps no session with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_a_transaction_that_is_not_given_back_holds_no_session() {
    let database = with_items().await;
    let (mut pools, mut stray) = (database.pools(), database.pools());
    let watched = pools.clone();
    for instead in [Instead::Drops, Instead::Forgets, Instead::Keeps] {
        let (give, take) = oneshot::channel();
        let mut give = Some(give);
        // A failure of another transaction: without one, no body can end and keep its own.
        let mut failure = None;
        let never = stray.transact(options(), |tx| {
            failure = Some(tx.abort("of another"));
            std::future::pending::<Result<(Transaction, ()), Failure>>()
        });
        let short = tokio::time::timeout(Duration::from_millis(20), never);
        assert!(short.await.is_err());
        let outcome = pools.transact(options(), |tx| {
            let (give, failure) = (give.take().unwrap(), failure.take().unwrap());
            let (database, watched) = (&database, &watched);
            async move {
                let tx = add(tx, 1).await?;
                match instead {
                    Instead::Drops => {
                        drop(tx);
                        // At once, and not when the body ends.
                        comes_to_rest(database, watched).await;
                    }
                    Instead::Forgets => std::mem::forget(tx),
                    Instead::Keeps => drop(give.send(tx)),
                }
                Err::<(_, ()), _>(failure)
            }
        });
        let (cause, _) = rolled_back(outcome.await);
        assert!(matches!(cause, Cause::Aborted(_)), "{instead:?}: {cause:?}");
        comes_to_rest(&database, &pools).await;
        if instead == Instead::Keeps {
            let failure = add(take.await.unwrap(), 2).await.unwrap_err();
            assert!(matches!(failure.cause(), Cause::Lost(_)), "{failure:?}");
        }
    }
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}
