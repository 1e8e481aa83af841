//! A COMMIT whose answer is lost: how it ended is found out, and told as it is.

use std::time::Duration;

use db_model::batch::{Cause, Options, Outcome};
use nexus_tests::proxy::Trouble;

use super::{Said, add, comes_to_rest, ids, kill, options, with_items};
use crate::conformance::{SOON, sql};

/// Asserts that what is told is what is there, and that the hooks of that end have run, once.
fn assert_told(outcome: &Outcome<()>, stands: bool, said: &Said, what: &str) {
    match outcome {
        Outcome::Committed { hook_errors, .. } => {
            assert!(stands, "{what}: told as committed, and is not");
            assert_eq!(hook_errors.len(), 0, "{what}");
            assert_eq!(said.take(), ["committed"], "{what}");
        }
        Outcome::RolledBack { cause, .. } => {
            assert!(!stands, "{what}: told as rolled back, and is not: {cause}");
            assert!(matches!(cause, Cause::Lost(_)), "{what}: {cause:?}");
            assert_eq!(said.take(), ["rolled back"], "{what}");
        }
        Outcome::Unknown { cause } => panic!("{what}: {cause}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_a_commit_whose_answer_is_lost_is_found_out_wherever_it_was_cut() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let (mut pools, said) = (database.pools_through(&proxy), Said::default());
    let cuts = [
        Trouble::CutBeforeSync,
        Trouble::CutAtSync,
        Trouble::LoseReply,
    ];
    // The flight has Bind and Execute for the probe and for COMMIT, and a Sync: that many messages reach the
    // server before the cut. The answer has six messages.
    let cuts = cuts
        .into_iter()
        .chain((0..5).map(Trouble::CutAfter))
        .chain((0..6).map(Trouble::CutReplyAfter));
    let mut ends = [0, 0];
    for (id, trouble) in (1..).zip(cuts) {
        // The statements are prepared, so the messages are those alone.
        let warm = pools.transact(options(), async |tx| {
            tx.run(sql("warm", "UPDATE item SET n = 1")).await
        });
        warm.await.into_result().unwrap();
        let transact = pools.transact(options(), |tx| {
            let (said, proxy) = (&said, &proxy);
            async move {
                let tx = said.at_the_end(add(tx, id).await?)?;
                // What comes next is the commit.
                proxy.on(trouble);
                Ok((tx, ()))
            }
        });
        let outcome = tokio::time::timeout(SOON, transact).await.unwrap();
        assert_eq!(
            proxy.troubles(),
            usize::try_from(id).unwrap(),
            "{trouble:?}"
        );
        comes_to_rest(&database, &pools).await;
        let stands = ids(&database).await.contains(&id);
        assert_told(&outcome, stands, &said, &format!("{trouble:?}"));
        ends[usize::from(stands)] += 1;
    }
    assert!(
        ends[0] >= 3 && ends[1] >= 8,
        "both ends must occur: {ends:?}"
    );
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_a_session_that_is_ended_at_the_commit_is_found_out_too() {
    let database = with_items().await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ \
                BEGIN PERFORM pg_sleep(20); RETURN NULL; END $$; \
                CREATE TABLE waits (id bigint); \
                CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON waits DEFERRABLE INITIALLY DEFERRED \
                FOR EACH ROW EXECUTE FUNCTION slow()";
    database.client().await.batch_execute(slow).await.unwrap();
    let (mut pools, said) = (database.pools(), Said::default());
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let transact = pools.transact(options(), |tx| {
        tell.take().unwrap().send(tx.backend_pid()).unwrap();
        async {
            let tx = said.at_the_end(add(tx, 1).await?)?;
            tx.run(sql("slow", "INSERT INTO waits VALUES (1)")).await
        }
    });
    let end = async {
        let pid = told.await.unwrap();
        let sleeps = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'"
        );
        database
            .eventually("the commit is under way", async || {
                database.number(&sleeps).await == 1
            })
            .await;
        kill(&database, pid).await;
    };
    let (outcome, ()) = tokio::join!(transact, end);
    let stands = ids(&database).await.contains(&1);
    assert!(!stands);
    assert_told(&outcome, stands, &said, "57P01");
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_what_had_written_nothing_is_not_asked_for() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let mut pools = database.pools_through(&proxy);
    let readers: [fn(Options) -> Options; 2] = [|options| options, Options::read_only];
    for reader in readers {
        let outcome = pools.transact(reader(options()), async |tx| {
            let (tx, ()) = tx.run(sql("look", "SELECT id FROM item")).await?;
            proxy.on(Trouble::LoseReply);
            Ok((tx, ()))
        });
        assert!(matches!(
            outcome.await,
            Outcome::RolledBack {
                cause: Cause::Lost(_),
                ..
            }
        ));
    }
    assert_eq!(proxy.connections(), 2, "nobody was asked");
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_a_database_that_stays_away_leaves_the_outcome_unknown_and_runs_no_hook() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let (mut pools, said) = (database.pools_through(&proxy), Said::default());
    let outcome = pools.transact(options(), async |tx| {
        let tx = said.at_the_end(add(tx, 1).await?)?;
        proxy.on(Trouble::LoseReply);
        proxy.refuse(true);
        Ok((tx, ()))
    });
    let outcome = tokio::time::timeout(2 * SOON, outcome).await.unwrap();
    let Outcome::Unknown { cause } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(cause.contains("not available"), "{cause}");
    assert_eq!(said.take(), [""; 0]);
    assert_eq!(ids(&database).await, [0, 1]);
    proxy.refuse(false);
    comes_to_rest(&database, &pools).await;
    database.assert_books_balance().await;
}

/// A pool of one session: whoever asks how a COMMIT ended must not wait for the session that was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_l04_a_pool_of_one_session_finds_out_how_a_commit_ended() {
    let database = with_items().await;
    let proxy = database.proxy().await;
    let said = Said::default();
    let mut pools = database.pools_through(&proxy);
    let mut held = Vec::new();
    for _ in 1..8 {
        held.push(pools.writes.get().await.unwrap());
    }
    let outcome = pools.transact(options(), async |tx| {
        let tx = said.at_the_end(add(tx, 1).await?)?;
        proxy.on(Trouble::LoseReply);
        Ok((tx, ()))
    });
    let outcome = tokio::time::timeout(Duration::from_secs(5), outcome);
    assert_told(&outcome.await.unwrap(), true, &said, "a pool of one");
    assert_eq!(proxy.connections(), 9);
    drop(held);
    database.assert_books_balance().await;
}

/// Raised by a deferred trigger, and so by the COMMIT.
const DOUBT: &str = "\
CREATE FUNCTION doubt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'who knows' USING ERRCODE = '40003'; END $$;
CREATE CONSTRAINT TRIGGER item_doubt AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION doubt()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b19_an_error_that_does_not_know_how_the_commit_ended_is_not_believed() {
    let database = with_items().await;
    database.client().await.batch_execute(DOUBT).await.unwrap();
    let (mut pools, said) = (database.pools(), Said::default());
    let outcome = pools.transact(options(), async |tx| {
        Ok((said.at_the_end(add(tx, 1).await?)?, ()))
    });
    // The server was asked: it had rolled back.
    assert_told(&outcome.await, false, &said, "40003");
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}
