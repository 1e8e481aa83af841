//! Group D: no effect outside of the database while a transaction is open.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_model::batch::{Batch, BatchError, Cause, Options, Outcome};
use db_model::effect::{ALLOWED, EffectInTransaction, OnMisuse};
use db_model::pool::{PoolError, PoolOptions};
use db_model::{Database, effect};
use nexus_tests::TestDatabase;
use nexus_tests::fixture;
use nexus_tests::log::Log;
use sagas::probe::{Point, Probe, Verdict};
use uuid::Uuid;

use crate::conformance::{SOON, create, created, params, probed, sql};

/// A transaction in which misuse is refused, as in a release.
fn refusing() -> Options {
    Options::new("effects").on_misuse(OnMisuse::Refuse)
}

const SELECT: &str = "SELECT 1";

async fn call(database: &Database) -> Result<u8, EffectInTransaction> {
    database.effects.call("an HTTP call", async { 7 }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d02_d07_d08_an_outside_call_is_refused_from_begin_to_end_and_not_after() {
    let database = TestDatabase::new().await;
    let mut pools = database.pools();
    // A clone is what the compiler does not see.
    let clone = pools.clone();
    let refused = effect::refused();
    let wanted = EffectInTransaction {
        effect: "an HTTP call",
        owner: "effects",
    };
    assert_eq!(call(&clone).await, Ok(7));
    for commits in [true, false] {
        let outcome = pools.transact(refusing(), |tx| async {
            assert_eq!(call(&clone).await, Err(wanted.clone()));
            let (tx, ()) = tx.run(sql("select", SELECT)).await?;
            for _ in 0..20 {
                // Wherever the task goes on.
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_eq!(call(&clone).await, Err(wanted.clone()));
            }
            let wake = clone.effects.wake("a wake-up", || panic!("it was woken"));
            assert_eq!(wake.unwrap_err().effect, "a wake-up");
            if commits {
                Ok((tx, ()))
            } else {
                Err(tx.abort("on purpose"))
            }
        });
        assert_eq!(outcome.await.into_result().is_ok(), commits);
        assert_eq!(call(&clone).await, Ok(7));
    }
    assert!(effect::refused() >= refused + 2 * 22);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d02_where_assertions_are_on_misuse_panics() {
    let database = TestDatabase::new().await;
    let mut pools = database.pools();
    let clone = pools.clone();
    let misuse = tokio::spawn(async move {
        let outcome = pools.transact(Options::new("careless"), |tx| async {
            call(&clone).await.unwrap();
            Ok((tx, ()))
        });
        outcome.await.into_result().unwrap();
    });
    let panic = misuse.await.unwrap_err().into_panic();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(
        text.contains("an HTTP call is refused inside the open transaction careless"),
        "{text}"
    );
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d03_d10_a_second_session_in_a_transaction_is_refused_and_waits_for_nobody() {
    let database = TestDatabase::new().await;
    let options = PoolOptions {
        write_size: 1,
        read_size: 1,
        wait: SOON,
        audit: false,
    };
    let mut pools = Database::new(database.options(), &options, Uuid::now_v7());
    let clone = pools.clone();
    let body = async {
        let outcome = pools.transact(refusing(), |tx| async {
            let (tx, ()) = tx.run(sql("select", SELECT)).await?;
            let session = clone.writes.get().await;
            assert!(matches!(session, Err(PoolError::InTransaction(_))));
            let session = clone.reads.get().await;
            assert!(matches!(session, Err(PoolError::InTransaction(_))));
            let batch = Batch::new().step(sql("beside", SELECT));
            let batch = batch.commit(&clone.writes).await;
            assert!(matches!(batch, Err(BatchError::Invalid(_))), "{batch:?}");
            let nested = clone
                .clone()
                .transact(refusing(), async |tx| Ok((tx, ())))
                .await;
            let Outcome::RolledBack { cause, .. } = nested else {
                panic!("a transaction ran in another")
            };
            assert!(matches!(cause, Cause::Effect(_)), "{cause}");
            Ok((tx, ()))
        });
        outcome.await.into_result().unwrap();
    };
    // Sooner than anybody would have stopped waiting for the one session.
    tokio::time::timeout(SOON / 2, body).await.unwrap();
    Batch::new()
        .step(sql("after", SELECT))
        .commit(&clone.writes)
        .await
        .unwrap();
    database.assert_books_balance().await;
}

#[tokio::test]
async fn d05_a_transaction_that_is_kept_open_idly_is_warned_of_with_its_owner() {
    let database = TestDatabase::new().await;
    let mut pools = database.pools();
    let (log, _guard) = Log::listen();
    for (owner, wait_ms) in [("quick", 0), ("sleepy", 80)] {
        let outcome = pools.transact(Options::new(owner), |tx| async move {
            let (tx, ()) = tx.run(sql("select", SELECT)).await?;
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            tx.run(sql("select", SELECT)).await
        });
        outcome.await.into_result().unwrap();
    }
    assert_eq!(log.warnings("quick"), 0, "{}", log.text());
    assert_eq!(log.warnings("sleepy"), 1, "{}", log.text());
    database.assert_books_balance().await;
}

/// Tries an outside effect around each commit of a saga.
#[derive(Debug)]
struct Caller(Database, Mutex<Vec<Result<(), EffectInTransaction>>>);

impl Probe for Caller {
    fn at(&self, _point: &Point) -> Verdict {
        let tried = self.0.effects.wake("a wake-up", || ());
        self.1.lock().unwrap().push(tried);
        Verdict::Continue
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d06_a_saga_is_in_no_transaction_between_its_commits() {
    let database = TestDatabase::new().await;
    let caller = Arc::new(Caller(database.pools(), Mutex::default()));
    let executor = probed(database.pools(), caller.clone()).await;
    let project = fixture::project(&executor, "web", fixture::WIDE).await;
    created(create(&executor, params(project.id, "one")).await);
    let tried = caller.1.lock().unwrap().clone();
    // Before and after each of two commits, of the project and of the instance.
    assert!(tried.len() >= 8, "{tried:?}");
    assert!(tried.iter().all(Result::is_ok), "{tried:?}");
    database.assert_books_balance().await;
}

#[test]
fn d09_every_effect_that_is_let_pass_has_a_reason() {
    let effects: Vec<_> = ALLOWED.iter().map(|allowed| allowed.effect).collect();
    assert_eq!(
        effects, [""; 0],
        "a new one is listed here, with its reason there"
    );
    for allowed in ALLOWED {
        assert!(
            allowed.reason.split_whitespace().count() >= 3,
            "{allowed:?}"
        );
    }
}
