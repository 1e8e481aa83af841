//! Group C: what is to happen once a transaction has ended.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_model::batch::{
    Batch, Cause, Failure, Hook, Isolation, Options, Outcome, Queue, Transaction,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_tests::proxy::{Rule, Trouble};
use tokio_postgres::{AsyncMessage, NoTls};

use super::{Said, add, insert, options, with_items};
use crate::conformance::{SOON, sql};

fn committed<T>(outcome: Outcome<T>) -> T {
    if let Outcome::Committed { hook_errors, .. } = &outcome {
        assert!(hook_errors.is_empty(), "{hook_errors:?}");
    }
    super::committed(outcome).0
}

fn rolled_back<T>(outcome: Outcome<T>) -> Cause {
    super::rolled_back(outcome).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c01_a_hook_after_the_commit_finds_what_was_committed() {
    let database = with_items().await;
    let (mut pools, said) = (database.pools(), Said::default());
    let outcome = pools.transact(options(), |tx| async {
        let tx = add(tx, 1).await?;
        let (other, said) = (database.client().await, said.clone());
        let look = Hook::new("look", async move |_| {
            let row = other.query_one("SELECT count(*) FROM item", &[]).await?;
            assert_eq!(row.get::<_, i64>(0), 2);
            said.say("seen");
            Ok::<_, tokio_postgres::Error>(())
        });
        Ok((tx.after_commit(look)?, ()))
    });
    committed(outcome.await);
    assert_eq!(said.take(), ["seen"]);
    let batch = Batch::new()
        .step(insert(2))
        .after_commit(said.hook("batch"));
    batch.commit(&pools.writes).await.unwrap();
    assert_eq!(said.take(), ["batch"]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c02_c11_what_is_rolled_back_runs_the_rollback_hooks_alone() {
    let database = with_items().await;
    let (mut pools, said) = (database.pools(), Said::default());
    let registered = async |tx: Transaction| {
        let tx = add(tx, 1).await?;
        tx.after_commit(said.hook("committed"))?
            .after_rollback(said.hook("rolled back"))
    };
    let failed = pools.transact(options(), |tx| async {
        Ok((add(registered(tx).await?, 0).await?, ()))
    });
    assert!(matches!(rolled_back(failed.await), Cause::Database(_)));
    assert_eq!(said.take(), ["rolled back"]);

    let refuse = |tx: Transaction| async { Err(tx.abort("the sum is wrong")) };
    let refused = pools.transact(options(), |tx| async {
        let tx = registered(tx).await?.before_commit("sum", refuse)?;
        Ok((tx, ()))
    });
    assert_eq!(
        rolled_back(refused.await).to_string(),
        "aborted: the sum is wrong"
    );
    assert_eq!(said.take(), ["rolled back"]);

    // The same for a batch: it has hooks for its commit only.
    let batch = Batch::new()
        .step(insert(0))
        .after_commit(said.hook("batch"));
    batch.commit(&pools.writes).await.unwrap_err();
    assert_eq!(said.take(), [""; 0]);
    assert_eq!(database.number("SELECT count(*) FROM item").await, 1);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c03_c04_hooks_run_in_order_after_the_outermost_commit() {
    let database = with_items().await;
    let (mut pools, said) = (database.pools(), Said::default());
    let outcome = pools.transact(options(), |tx| async {
        let tx = tx.after_commit(said.hook("first"))?;
        let (tx, inner) = tx
            .section("outer", async |tx| {
                let tx = tx.after_commit(said.hook("second"))?;
                let (tx, inner) = tx
                    .section("inner", async |tx| {
                        let tx = add(tx, 1).await?.after_commit(said.hook("third"))?;
                        Ok((tx, ()))
                    })
                    .await?;
                inner.unwrap();
                Ok((tx, ()))
            })
            .await?;
        inner.unwrap();
        let tx = tx.after_commit_first(said.hook("before all"))?;
        let tx = tx.before_commit("sum", {
            let said = said.clone();
            async move |tx| {
                said.say("inside");
                add(tx, 2).await
            }
        })?;
        assert_eq!(said.take(), [""; 0]);
        Ok((tx, ()))
    });
    committed(outcome.await);
    assert_eq!(
        said.take(),
        ["inside", "before all", "first", "second", "third"]
    );
    assert_eq!(database.number("SELECT count(*) FROM item").await, 3);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c05_c06_the_hooks_of_a_cancelled_section_run_as_after_a_rollback() {
    let database = with_items().await;
    let (mut pools, said) = (database.pools(), Said::default());
    let hooked = |tx: Transaction, committed, rolled_back| {
        tx.after_commit(said.hook(committed))?
            .after_rollback(said.hook(rolled_back))
    };
    let outcome = pools.transact(options(), |tx| async {
        let tx = hooked(tx, "whole", "whole back")?;
        let (tx, cancelled) = tx
            .section("outer", async |tx| {
                let tx = hooked(tx, "outer", "outer back")?;
                let (tx, ended) = tx
                    .section("inner", async |tx| {
                        let tx = hooked(add(tx, 1).await?, "inner", "inner back")?;
                        let tx = tx.before_commit("never", async |tx: Transaction| {
                            Err(tx.abort("of a section that is gone"))
                        })?;
                        Ok((tx, ()))
                    })
                    .await?;
                ended.unwrap();
                Err::<(_, ()), _>(tx.abort("no use"))
            })
            .await?;
        assert_eq!(cancelled.unwrap_err().to_string(), "aborted: no use");
        let (tx, ended) = tx
            .section("well", async |tx| {
                Ok((hooked(tx, "well", "well back")?, ()))
            })
            .await?;
        ended.unwrap();
        Ok((add(tx, 2).await?, ()))
    });
    committed(outcome.await);
    assert_eq!(said.take(), ["outer back", "inner back", "whole", "well"]);
    let ids = "SELECT count(*) FROM item WHERE id IN (0, 2)";
    assert_eq!(database.number(ids).await, 2);
    assert_eq!(database.number("SELECT count(*) FROM item").await, 2);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c07_a_hook_that_fails_or_panics_undoes_nothing_and_stops_no_other() {
    let database = with_items().await;
    let (mut pools, said) = (database.pools(), Said::default());
    let outcome = pools.transact(options(), |tx| async {
        let fails = Hook::new("fails", async |_| Err("no cache"));
        let panics = Hook::new("panics", async |_: Queue| -> Result<(), Infallible> {
            panic!("a hook that panics on purpose")
        });
        let tx = add(tx, 1).await?;
        let tx = tx.after_commit(fails)?.after_commit(panics)?;
        Ok((tx.after_commit(said.hook("last"))?, "value"))
    });
    let Outcome::Committed {
        value, hook_errors, ..
    } = outcome.await
    else {
        panic!("what committed is not reported as committed")
    };
    assert_eq!(value, "value");
    let errors: Vec<_> = hook_errors
        .iter()
        .map(|hook| format!("{}: {}", hook.name, hook.error))
        .collect();
    assert_eq!(errors, ["fails: no cache", "panics: it panicked"]);
    assert_eq!(said.take(), ["last"]);
    assert_eq!(database.number("SELECT count(*) FROM item").await, 2);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c08_c09_a_hook_has_transactions_of_its_own_and_leaves_none_behind() {
    let database = with_items().await;
    let pools = database.pools();
    let mut handle = pools.clone();
    let outcome = handle.transact(options(), |tx| async {
        let mut own = pools.clone();
        let follow = Hook::new("follow", async move |_| {
            let outcome =
                own.transact(Options::new("hook"), async |tx| Ok((add(tx, 2).await?, ())));
            outcome.await.into_result()
        });
        let mut own = pools.clone();
        let dangle = Hook::new("dangle", async move |_| {
            let outcome = own.transact(Options::new("hook"), async |tx| {
                let tx = add(tx, 3).await?;
                std::future::pending::<()>().await;
                Ok((tx, ()))
            });
            let never = tokio::time::timeout(Duration::from_millis(200), outcome).await;
            assert!(never.is_err());
            Ok::<_, Infallible>(())
        });
        let tx = add(tx, 1).await?;
        Ok((tx.after_commit(follow)?.after_commit(dangle)?, ()))
    });
    committed(outcome.await);
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL \
                AND pid <> pg_backend_pid()";
    database
        .eventually("no transaction is left open", async || {
            database.number(open).await == 0
        })
        .await;
    let ids = "SELECT sum(id)::bigint FROM item";
    assert_eq!(database.number(ids).await, 1 + 2);
    database.assert_books_balance().await;
}

fn again(times: usize, said: Said) -> Hook {
    Hook::new("again", move |queue: Queue| -> BoxFuture<'static, _> {
        async move {
            said.say("again");
            if times > 1 {
                queue.push(again(times - 1, said));
            }
            Ok::<_, Infallible>(())
        }
        .boxed()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c10_a_hook_queues_further_hooks_up_to_a_bound() {
    let database = with_items().await;
    let (mut pools, said) = (database.pools(), Said::default());
    for (wanted, ran, failed) in [(3, 3, 0), (32, 32, 0), (33, 32, 1), (1_000, 32, 1)] {
        let outcome = pools.transact(options(), |tx| async {
            Ok((tx.after_commit(again(wanted, said.clone()))?, ()))
        });
        let Outcome::Committed { hook_errors, .. } = outcome.await else {
            panic!("not committed")
        };
        assert_eq!((said.take().len(), hook_errors.len()), (ran, failed));
    }

    /// A hook before the commit that registers itself without end.
    fn endless(tx: Transaction) -> BoxFuture<'static, Result<Transaction, Failure>> {
        async { tx.before_commit("endless", endless) }.boxed()
    }
    let outcome = pools.transact(options(), |tx| async {
        let tx = add(tx, 1).await?;
        Ok((tx.before_commit("endless", endless)?, ()))
    });
    assert!(matches!(rolled_back(outcome.await), Cause::Misuse(_)));
    let many = pools.transact(options(), |mut tx| async {
        for _ in 0..1_000 {
            tx = tx.after_commit(said.hook("one of many"))?;
        }
        Ok((tx, ()))
    });
    assert!(matches!(rolled_back(many.await), Cause::Misuse(_)));
    assert_eq!(said.take(), [""; 0]);
    assert_eq!(database.number("SELECT count(*) FROM item").await, 1);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c14_a_lost_reply_to_a_commit_runs_the_hooks_once_when_it_committed() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let mut pools = database.pools_through(&proxy);
    let (said, client) = (Said::default(), database.client().await);
    // COMMIT takes effect when it is executed, not at the Sync that follows.
    for (id, trouble) in [
        (1, Some(Trouble::LoseReply)),
        (2, Some(Trouble::CutBeforeSync)),
        (3, None),
    ] {
        // The first flight has BEGIN and the step, the second has COMMIT.
        if let Some(trouble) = trouble {
            let skip = 1;
            let second = Rule {
                skip,
                ..trouble.into()
            };
            proxy.on(second);
        }
        let outcome = pools.transact(options(), |tx| async {
            let tx = add(tx, id).await?.after_commit(said.hook("committed"))?;
            if trouble.is_none() {
                let end = "SELECT pg_terminate_backend($1)";
                client.execute(end, &[&tx.backend_pid()]).await.unwrap();
            }
            Ok((tx.after_rollback(said.hook("rolled back"))?, ()))
        });
        let outcome = outcome.await;
        let stands = format!("SELECT count(*) FROM item WHERE id = {id}");
        let stands = database.number(&stands).await;
        if trouble.is_some() {
            committed(outcome);
            assert_eq!((said.take(), stands), (vec!["committed"], 1));
        } else {
            assert!(matches!(rolled_back(outcome), Cause::Lost(_)));
            assert_eq!((said.take(), stands), (vec!["rolled back"], 0));
        }
    }
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c15_a_notification_is_told_after_the_commit_and_never_after_a_rollback() {
    let database = with_items().await;
    let mut pools = database.pools();
    let url = database.url().await;
    let (client, mut connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let listening = tokio::spawn(async move {
        while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let Ok(AsyncMessage::Notification(note)) = message {
                tell.send(note.payload().to_owned()).ok();
            }
        }
    });
    client.batch_execute("LISTEN item").await.unwrap();
    for (id, payload, fails) in [(1, "lost", true), (2, "kept", false)] {
        let outcome = pools.transact(options(), |tx| async move {
            let tx = add(tx, id).await?;
            let notify = format!("SELECT pg_notify('item', '{payload}')");
            let (tx, ()) = tx.run(sql("notify", notify)).await?;
            if fails {
                return Err(tx.abort("on purpose"));
            }
            Ok((tx, ()))
        });
        assert_eq!(outcome.await.into_result().is_err(), fails);
    }
    let note = tokio::time::timeout(SOON, told.recv()).await.unwrap();
    assert_eq!(note.unwrap(), "kept");
    let seen = client.query_one("SELECT id FROM item WHERE id = 2", &[]);
    assert_eq!(seen.await.unwrap().get::<_, i64>(0), 2);
    assert!(told.try_recv().is_err());
    drop(client);
    listening.await.unwrap();
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c16_an_attempt_that_is_run_again_takes_its_hooks_with_it() {
    let database = with_items().await;
    let mut pools = database.pools();
    let said = Said::default();
    let attempts = Mutex::new(0);
    let outcome = pools.transact(options().isolation(Isolation::RepeatableRead), |tx| async {
        let first = {
            let mut attempts = attempts.lock().unwrap();
            *attempts += 1;
            *attempts == 1
        };
        let name = if first { "first" } else { "second" };
        let tx = tx
            .after_commit(said.hook(name))?
            .after_rollback(said.hook("back"))?;
        let (tx, _) = tx.run(sql("look", "SELECT count(*) FROM item")).await?;
        if first {
            let client = database.client().await;
            client
                .batch_execute("UPDATE item SET id = 5")
                .await
                .unwrap();
        }
        let (tx, ()) = tx.run(sql("move", "UPDATE item SET id = id + 1")).await?;
        Ok((tx, ()))
    });
    let Outcome::Committed { attempts, .. } = outcome.await else {
        panic!("not committed")
    };
    assert_eq!((attempts, said.take()), (2, vec!["second"]));
    assert_eq!(database.number("SELECT id FROM item").await, 6);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c02_a_transaction_that_nobody_gives_back_still_runs_its_rollback_hooks() {
    let database = with_items().await;
    let (mut pools, said) = (database.pools(), Said::default());
    let outcome = pools.transact(options(), |tx| async {
        let tx = add(tx, 1).await?.after_rollback(said.hook("back"))?;
        drop(tx);
        let mut other = database.pools();
        // Another transaction than the one that was handed in.
        let stolen = tokio::spawn(async move {
            let slot = Arc::new(Mutex::new(None));
            let kept = slot.clone();
            let never = other.transact(options(), async |tx| {
                *kept.lock().unwrap() = Some(tx);
                std::future::pending::<Result<(Transaction, ()), Failure>>().await
            });
            tokio::time::timeout(Duration::from_millis(50), never)
                .await
                .ok();
            slot.lock().unwrap().take().unwrap()
        });
        Ok((stolen.await.unwrap(), ()))
    });
    assert!(matches!(rolled_back(outcome.await), Cause::Misuse(_)));
    assert_eq!(said.take(), ["back"]);
    assert_eq!(database.number("SELECT count(*) FROM item").await, 1);
    database.assert_books_balance().await;
}
