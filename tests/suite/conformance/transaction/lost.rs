//! A session that is lost inside a transaction: nothing of it stands, and nothing goes on elsewhere.

use db_model::batch::{Cause, Outcome, Transaction};
use nexus_tests::proxy::Trouble;

use super::{
    Said, add, comes_to_rest, committed, ids, kill, numbers, options, rolled_back, with_items,
};
use crate::conformance::sql;

#[derive(Clone, Copy, Debug)]
enum Loss {
    /// The server ends the session between two steps (57P01).
    KilledBetween,
    /// The server ends it while a step runs (57P01).
    KilledWithin,
    /// The network cuts it between two steps.
    CutBetween,
    /// The network cuts it while a step is under way.
    CutWithin(Trouble),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b16_b17_b25_a_transaction_whose_session_is_lost_leaves_nothing_and_goes_on_nowhere() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let (mut pools, said) = (database.pools_through(&proxy), Said::default());
    for loss in [
        Loss::KilledBetween,
        Loss::KilledWithin,
        Loss::CutBetween,
        Loss::CutWithin(Trouble::CutBeforeSync),
        Loss::CutWithin(Trouble::LoseReply),
        Loss::CutWithin(Trouble::CutReplyAfter(1)),
    ] {
        let mut runs = 0;
        let connections = proxy.connections();
        let outcome = pools.transact(options(), |tx| {
            runs += 1;
            let (database, proxy, said) = (&database, &proxy, &said);
            async move {
                let tx = said.at_the_end(add(tx, 1).await?)?;
                let tx = match loss {
                    Loss::KilledBetween => {
                        kill(database, tx.backend_pid()).await;
                        tx
                    }
                    Loss::KilledWithin => {
                        let own = "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(20)";
                        tx.run(sql("kill", own)).await?.0
                    }
                    Loss::CutBetween => {
                        proxy.cut();
                        tx
                    }
                    Loss::CutWithin(trouble) => {
                        proxy.on(trouble.to("VALUES (2)"));
                        tx
                    }
                };
                // Not even a section saves what is lost.
                let (tx, inner) = tx
                    .section("inner", async |tx| Ok((add(tx, 2).await?, ())))
                    .await?;
                panic!("it went on: {tx:?} {inner:?}");
                #[expect(unreachable_code, reason = "it says what the body gives")]
                Ok((tx, ()))
            }
        });
        let (cause, attempts) = rolled_back(outcome.await);
        assert!(matches!(cause, Cause::Lost(_)), "{loss:?}: {cause:?}");
        if matches!(loss, Loss::KilledBetween | Loss::KilledWithin) {
            assert!(cause.to_string().contains("57P01"), "{loss:?}: {cause}");
        }
        assert_eq!((attempts, runs), (1, 1), "{loss:?}");
        assert_eq!(said.take(), ["rolled back"], "{loss:?}");
        comes_to_rest(&database, &pools).await;
        let opened = proxy.connections() - connections;
        assert_eq!(opened, 1, "{loss:?}: one session and no other");
        assert_eq!(pools.writes.state().slots, 0, "{loss:?}");
        // A new session carries none of it.
        let outcome = pools.transact(options(), async |tx| {
            tx.run(numbers("SELECT id AS number FROM item")).await
        });
        let (seen, _) = committed(outcome.await);
        assert_eq!(seen.len(), 1, "{loss:?}: {seen:?}");
        let pid = pools.writes.get().await.unwrap().backend_pid();
        kill(&database, pid).await;
    }
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b18_a_session_lost_while_nobody_used_it_is_replaced_without_a_word() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let mut pools = database.pools_through(&proxy);
    for id in 1..=5 {
        let outcome = pools.transact(options(), |tx| async move { Ok((add(tx, id).await?, ())) });
        assert_eq!(committed(outcome.await), ((), 1));
        assert_eq!(proxy.connections(), usize::try_from(id).unwrap());
        let flight = pools.writes.get().await.unwrap();
        let pid = flight.backend_pid();
        drop(flight);
        if id % 2 == 0 {
            kill(&database, pid).await;
        } else {
            proxy.cut();
            let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
            database
                .eventually("the session is ended", async || {
                    database.number(&gone).await == 0
                })
                .await;
        }
        // The proxy may be a moment later than the server.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(ids(&database).await, [0, 1, 2, 3, 4, 5]);
    database.assert_books_balance().await;
}

/// What came first is the cause, also when the session goes right after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b08_e07_an_error_before_the_loss_of_the_session_is_the_cause() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let mut pools = database.pools_through(&proxy);
    for messages in 0..4 {
        // Cold, a failing INSERT is answered with ParseComplete, ParameterDescription, NoData, BindComplete,
        // ErrorResponse and ReadyForQuery; warm, without the first three.
        let warm = pools.transact(options(), async |tx| Ok((add(tx, 0).await?, ())));
        rolled_back(warm.await);
        proxy.on(nexus_tests::proxy::Rule {
            skip: 1,
            ..Trouble::CutReplyAfter(messages).into()
        });
        let outcome = pools.transact(options(), async |tx| {
            let (tx, ()) = tx.run(sql("look", "SELECT 1")).await?;
            let (tx, inner) = tx
                .section("inner", async |tx| {
                    let (tx, ()) = tx.run(sql("in", "SELECT 2")).await?;
                    Ok((add(tx, 0).await?, ()))
                })
                .await?;
            inner.unwrap();
            Ok((tx, ()))
        });
        let Outcome::RolledBack { cause, .. } = outcome.await else {
            panic!("{messages}")
        };
        assert!(matches!(cause, Cause::Lost(_)), "{messages}: {cause:?}");
    }
    // The answer to the failing step itself: an error, and no ReadyForQuery. A section's owner could have
    // gone on without it, had the session not been lost.
    for in_section in [false, true] {
        let warm = pools.transact(options(), async |tx| Ok((add(tx, 0).await?, ())));
        rolled_back(warm.await);
        proxy.on(nexus_tests::proxy::Rule {
            skip: if in_section { 2 } else { 1 },
            ..Trouble::CutReplyAfter(2).into()
        });
        let outcome = pools.transact(options(), async |tx| {
            let (tx, ()) = tx.run(sql("look", "SELECT 1")).await?;
            if !in_section {
                return Ok((add(tx, 0).await?, ()));
            }
            let inner = async |tx: Transaction| {
                let (tx, ()) = tx.run(sql("in", "SELECT 2")).await?;
                Ok((add(tx, 0).await?, ()))
            };
            let (tx, _) = tx.section("inner", inner).await?;
            Ok((tx, ()))
        });
        match rolled_back(outcome.await).0 {
            Cause::Database(error) if !in_section => {
                assert_eq!(super::sqlstate(&error), "23505");
            }
            Cause::Lost(why) if in_section => assert!(why.contains("23505"), "{why}"),
            cause => panic!("in a section: {in_section}, {cause:?}"),
        }
    }
    comes_to_rest(&database, &pools).await;
    assert_eq!(pools.writes.state().slots, 0);
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}
