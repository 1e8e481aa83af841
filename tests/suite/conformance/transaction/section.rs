//! Sections: what is undone with one, what is kept, and what none can save.

use db_model::batch::{Cause, Isolation, Step};
use db_model::types::limits::{TRANSACTION_SECTIONS_DEPTH_MAX, TRANSACTION_SECTIONS_MAX};
use diesel::sql_types::Text;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{
    Said, add, committed, fail, ids, number, options, refused, rolled_back, sqlstate, with_items,
};
use crate::conformance::{sql, waits_for_locks};
use db_model::batch::{Failure, Transaction};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b09_a_cancelled_section_leaves_the_rest_of_the_transaction() {
    let database = with_items().await;
    let mut pools = database.pools();
    let outcome = pools.transact(options(), async |tx| {
        let tx = add(tx, 1).await?;
        let (tx, cancelled) = tx
            .section("cancelled", async |tx| {
                let tx = add(tx, 2).await?;
                Ok((add(tx, 1).await?, ()))
            })
            .await?;
        let Err(Cause::Database(error)) = cancelled else {
            panic!("{cancelled:?}")
        };
        assert_eq!(sqlstate(&error), "23505");
        assert_eq!(error.step().unwrap().index, 2);
        let tx = add(tx, 3).await?;
        let (tx, ended) = tx
            .section("ended", async |tx| Ok((add(tx, 4).await?, 7)))
            .await?;
        Ok((tx, ended.unwrap()))
    });
    assert_eq!(committed(outcome.await), (7, 1));
    assert_eq!(ids(&database).await, [0, 1, 3, 4]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b10_an_error_outside_of_any_section_ends_the_whole() {
    let database = with_items().await;
    let mut pools = database.pools();
    for gives_up in [true, false] {
        let outcome = pools.transact(options(), async |tx| {
            let (tx, ended) = tx
                .section("ended", async |tx| Ok((add(tx, 1).await?, ())))
                .await?;
            ended.unwrap();
            if gives_up {
                return Err(tx.abort("no use"));
            }
            Ok((add(tx, 1).await?, ()))
        });
        let (cause, _) = rolled_back(outcome.await);
        assert_eq!(matches!(cause, Cause::Aborted(_)), gives_up, "{cause}");
        assert_eq!(ids(&database).await, [0]);
    }
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b11_a_cancelled_section_takes_those_in_it_along() {
    let database = with_items().await;
    let (mut pools, said) = (database.pools(), Said::default());
    let outcome = pools.transact(options(), async |tx| {
        let tx = add(tx, 1).await?.after_commit(said.hook("whole"))?;
        let (tx, a) = tx
            .section("a", async |tx| {
                let tx = add(tx, 2).await?.after_commit(said.hook("a"))?;
                let (tx, b) = tx
                    .section("b", async |tx| {
                        let tx = add(tx, 3).await?.after_commit(said.hook("b"))?;
                        let (tx, c) = tx
                            .section("c", async |tx| {
                                let tx = add(tx, 4).await?;
                                Ok((tx.after_commit(said.hook("c"))?, ()))
                            })
                            .await?;
                        c.unwrap();
                        Ok((tx, ()))
                    })
                    .await?;
                b.unwrap();
                Err::<(_, ()), _>(tx.abort("no use"))
            })
            .await?;
        assert!(matches!(a, Err(Cause::Aborted(_))), "{a:?}");
        Ok((add(tx, 5).await?, ()))
    });
    committed(outcome.await);
    assert_eq!(ids(&database).await, [0, 1, 5]);
    assert_eq!(said.take(), ["whole"]);
    database.assert_books_balance().await;
}

/// What conflicts saw another snapshot, which a savepoint keeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b14_b15_a_conflict_in_a_section_runs_the_whole_again() {
    let database = with_items().await;
    let mut pools = database.pools();
    for (id, state) in [(1, "40001"), (2, "40P01")] {
        let restart = "ALTER SEQUENCE attempt RESTART";
        let client = database.client().await;
        client.batch_execute(restart).await.unwrap();
        let outcome = pools.transact(options(), async |tx| {
            let tx = add(tx, id).await?;
            let (tx, section) = tx
                .section("conflict", async |tx| Ok((fail(tx, 2, state).await?, ())))
                .await?;
            section.expect("a section has hidden a conflict");
            Ok((tx, ()))
        });
        assert_eq!(committed(outcome.await), ((), 3));
    }
    assert_eq!(ids(&database).await, [0, 1, 2]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b15_a_deadlock_in_a_section_runs_the_whole_again() {
    let database = with_items().await;
    let mut opponent = database.client().await;
    let prepare = format!(
        "INSERT INTO item VALUES (1); SET deadlock_timeout = '60s'; \
         ALTER DATABASE {} SET deadlock_timeout = '20ms'",
        database.name()
    );
    opponent.batch_execute(&prepare).await.unwrap();
    let mut pools = database.pools();
    let opponent_tx = opponent.transaction().await.unwrap();
    let raise = |id: i64| format!("UPDATE item SET n = n + 1 WHERE id = {id}");
    opponent_tx.batch_execute(&raise(1)).await.unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let transact = pools.transact(options(), |tx| {
        let (tell, database) = (tell.take(), &database);
        async move {
            let (tx, ()) = tx.run(sql("first", raise(0))).await?;
            if let Some(tell) = tell {
                // Whoever waits last looks for a deadlock last: that is to be this one.
                tell.send(()).unwrap();
                waits_for_locks(database, 1).await;
            }
            let (tx, section) = tx
                .section("second", async |tx| tx.run(sql("second", raise(1))).await)
                .await?;
            section.expect("a section has hidden a deadlock");
            Ok((tx, ()))
        }
    });
    let oppose = async {
        told.await.unwrap();
        opponent_tx.batch_execute(&raise(0)).await.unwrap();
        opponent_tx.commit().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(transact, oppose);
    assert_eq!(committed(outcome), ((), 2));
    assert_eq!(database.number("SELECT sum(n)::bigint FROM item").await, 4);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b23_what_follows_a_caught_duplicate_is_kept_only_after_a_section() {
    let database = with_items().await;
    let mut pools = database.pools();
    let outcome = pools.transact(options(), async |tx| {
        let tx = add(tx, 1).await?;
        match add(tx, 0).await {
            Ok(tx) => Ok((add(add(tx, 2).await?, 3).await?, ())),
            // Whoever catches it has nothing with which to go on.
            Err(caught) => Err(caught),
        }
    });
    assert_eq!(sqlstate(&refused(outcome.await)), "23505");
    assert_eq!(ids(&database).await, [0]);

    let outcome = pools.transact(options(), async |tx| {
        let tx = add(tx, 1).await?;
        let (tx, caught) = tx
            .section("declared", async |tx| Ok((add(tx, 0).await?, ())))
            .await?;
        caught.unwrap_err();
        Ok((add(add(tx, 2).await?, 3).await?, ()))
    });
    committed(outcome.await);
    assert_eq!(ids(&database).await, [0, 1, 2, 3]);
    database.assert_books_balance().await;
}

/// Opens sections of one name in one another; gives how deep it came.
fn nest(
    tx: Transaction,
    levels: usize,
) -> BoxFuture<'static, Result<(Transaction, usize), Failure>> {
    async move {
        if levels == 0 {
            return Ok((add(tx, 1).await?, 0));
        }
        let (tx, inner) = tx.section("same", |tx| nest(tx, levels - 1)).await?;
        Ok((tx, inner.unwrap() + 1))
    }
    .boxed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b27_savepoints_have_names_of_their_own_and_sections_are_bounded() {
    let database = with_items().await;
    let mut pools = database.pools();
    let outcome = pools.transact(options(), |tx| nest(tx, TRANSACTION_SECTIONS_DEPTH_MAX));
    let (depth, _) = committed(outcome.await);
    assert_eq!(depth, TRANSACTION_SECTIONS_DEPTH_MAX);
    let outcome = pools.transact(options(), |tx| nest(tx, TRANSACTION_SECTIONS_DEPTH_MAX + 1));
    let (cause, _) = rolled_back(outcome.await);
    assert_eq!(
        cause.to_string(),
        "section same is one too many: at most 8 deep and 32 in all"
    );

    for over in [0, 1] {
        let outcome = pools.transact(options(), async |mut tx| {
            for number in 0..TRANSACTION_SECTIONS_MAX + over {
                let id = i64::try_from(100 + 1_000 * over + number).unwrap();
                let (back, section) = tx
                    .section("same", async |tx| {
                        let tx = add(tx, id).await?;
                        match number % 2 {
                            0 => Ok((tx, ())),
                            _ => Err(tx.abort("every other")),
                        }
                    })
                    .await?;
                assert_eq!(section.is_ok(), number % 2 == 0);
                tx = back;
            }
            // The session keeps what it has prepared, so it tells what was sent.
            let query = diesel::sql_query(
                "SELECT statement AS text FROM pg_prepared_statements WHERE statement LIKE 'SAVEPOINT%'",
            );
            let (tx, sent) = tx.run(Step::<Vec<Sent>>::rows("sent", query)).await?;
            Ok((tx, sent))
        });
        if over == 1 {
            let (cause, _) = rolled_back(outcome.await);
            assert!(matches!(cause, Cause::Misuse(_)), "{cause}");
            continue;
        }
        let (mut sent, _) = committed(outcome.await);
        sent.sort_by(|one, other| one.text.cmp(&other.text));
        sent.dedup_by(|one, other| one.text == other.text);
        assert_eq!(sent.len(), TRANSACTION_SECTIONS_MAX, "{sent:?}");
    }
    let kept = "SELECT count(*) FROM item WHERE id >= 100";
    assert_eq!(
        database.number(kept).await,
        i64::try_from(TRANSACTION_SECTIONS_MAX / 2).unwrap()
    );
    database.assert_books_balance().await;
}

#[derive(Debug, diesel::QueryableByName)]
struct Sent {
    #[diesel(sql_type = Text)]
    text: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b30_a_commit_refused_after_a_recovered_section_runs_the_whole_again() {
    let database = with_items().await;
    let mut pools = database.pools();
    let mut client = database.client().await;
    client
        .batch_execute("INSERT INTO item VALUES (1)")
        .await
        .unwrap();
    let mut ended = 0;
    let client = tokio::sync::Mutex::new(&mut client);
    let total = "SELECT sum(n)::bigint AS number FROM item";
    let outcome = pools.transact(options().isolation(Isolation::Serializable), |tx| {
        ended += 1;
        let first = ended == 1;
        let client = &client;
        async move {
            let (tx, seen) = number(tx, total).await?;
            let mut client = client.lock().await;
            // Reads what the other writes, and writes what the other has read.
            let other = client.build_transaction();
            let other = other.isolation_level(tokio_postgres::IsolationLevel::Serializable);
            let other = other.start().await.unwrap();
            if first {
                other.query(total, &[]).await.unwrap();
            }
            let (tx, caught) = tx
                .section("recovered", async |tx| Ok((add(tx, 0).await?, ())))
                .await?;
            assert!(matches!(caught, Err(Cause::Database(_))), "{caught:?}");
            let write = format!("UPDATE item SET n = {seen} + 1 WHERE id = 0");
            let (tx, ()) = tx.run(sql("write", write)).await?;
            if first {
                let write = "UPDATE item SET n = 10 WHERE id = 1";
                other.batch_execute(write).await.unwrap();
            }
            other.commit().await.unwrap();
            Ok((tx, seen))
        }
    });
    assert_eq!(committed(outcome.await), (10, 2));
    assert_eq!(ended, 2, "it was the commit that was refused");
    assert_eq!(database.number("SELECT n FROM item WHERE id = 0").await, 11);
    database.assert_books_balance().await;
}
