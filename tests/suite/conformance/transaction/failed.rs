//! Errors that end a transaction, and that a COMMIT without a look would have hidden.

use std::time::Duration;

use db_model::batch::flight::{Flight, Query, Standing};
use db_model::batch::{BatchError, Busy, Cause, Outcome};
use db_model::types::limits::BATCH_ATTEMPTS_MAX;

use super::{
    Said, add, committed, fail, ids, numbers, options, refused, rolled_back, sqlstate, with_items,
};
use crate::conformance::{SOON, sql};

fn query(text: &str) -> Query {
    Query {
        sql: text.into(),
        binds: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b20_a_look_before_the_commit_finds_an_error_that_somebody_swallowed() {
    const PROBE: &str = "SELECT pg_current_xact_id_if_assigned()::text";
    let database = with_items().await;
    for (probe, sees) in [(None, false), (Some(PROBE), true)] {
        let mut flight = Flight::connect(&database.options()).await.unwrap();
        let open = [query("BEGIN"), query("INSERT INTO item VALUES (1)")];
        let landing = flight.fly_open(&open, SOON).await.unwrap();
        assert_eq!(landing.standing, Standing::Open);
        let twice = [query("INSERT INTO item VALUES (1)")];
        let swallowed = flight.fly_open(&twice, SOON).await.unwrap();
        assert_eq!(swallowed.error.unwrap().sqlstate, "23505");
        assert_eq!(swallowed.standing, Standing::Failed);
        let end: Vec<_> = probe.into_iter().chain(["COMMIT"]).map(query).collect();
        let landing = flight.fly_open(&end, SOON).await.unwrap();
        let said = landing.error.map(|error| error.sqlstate);
        assert_eq!(said.as_deref(), sees.then_some("25P02"));
        let idle = landing.standing == Standing::Idle;
        assert_eq!(idle, !sees, "without a look, all seems well");
    }
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b21_an_error_after_the_first_rows_is_an_error() {
    let database = with_items().await;
    let mut pools = database.pools();
    let outcome = pools.transact(options(), async |tx| {
        let tx = add(tx, 1).await?;
        // The server has sent many rows before it comes to the one that fails.
        let late = "SELECT 100000 / (99999 - n) AS number FROM generate_series(1, 100000) AS n";
        let (tx, rows) = tx.run(numbers(late)).await?;
        Ok((tx, rows.len()))
    });
    assert_eq!(sqlstate(&refused(outcome.await)), "22012");
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}

/// Nobody but `transact` begins and ends. What gets around that is refused, or told as it is: what is
/// in the database is never reported as rolled back, nor the other way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b22_a_step_that_begins_or_ends_a_transaction_is_told_as_it_is() {
    let database = with_items().await;
    let mut pools = database.pools();
    let texts = [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "COMMIT AND CHAIN",
        "ROLLBACK AND CHAIN",
        "ROLLBACK TO SAVEPOINT section_1",
    ];
    for (id, text) in (1..).zip(texts) {
        let outcome = pools.transact(options(), async |tx| {
            let tx = add(tx, id).await?;
            let (tx, ()) = tx.run(sql("stray", text)).await?;
            Ok((add(tx, 100 + id).await?, ()))
        });
        let outcome = outcome.await;
        let rows = format!("SELECT count(*) FROM item WHERE id IN ({id}, 100 + {id})");
        let rows = database.number(&rows).await;
        match outcome {
            Outcome::Committed { .. } => assert_eq!(rows, 2, "{text}"),
            Outcome::RolledBack { cause, .. } => assert_eq!(rows, 0, "{text}: {cause}"),
            Outcome::Unknown { cause } => assert_ne!(text, "BEGIN", "{cause}"),
        }
    }
    database.assert_books_balance().await;
}

/// The server does not mind a second BEGIN, and warns: one COMMIT ends it all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b22_a_second_begin_makes_no_false_commit() {
    let database = with_items().await;
    let mut flight = Flight::connect(&database.options()).await.unwrap();
    let open = ["BEGIN", "INSERT INTO item VALUES (1)", "BEGIN"].map(query);
    let landing = flight.fly_open(&open, SOON).await.unwrap();
    assert_eq!((landing.completed, landing.standing), (3, Standing::Open));
    let landing = flight.fly_open(&[query("COMMIT")], SOON).await.unwrap();
    assert_eq!(landing.standing, Standing::Idle);
    assert_eq!(ids(&database).await, [0, 1]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b24_conflicts_without_end_leave_nothing_and_run_the_rollback_hooks_once() {
    let database = with_items().await;
    let (mut pools, said) = (database.pools(), Said::default());
    let outcome = pools.transact(options(), async |tx| {
        let tx = said.at_the_end(add(tx, 1).await?)?;
        Ok((fail(tx, 1_000, "40P01").await?, ()))
    });
    let (cause, attempts) = rolled_back(outcome.await);
    let Cause::Database(BatchError::Busy(Busy::Conflict { error, .. })) = cause else {
        panic!("{cause:?}")
    };
    assert_eq!(
        (error.sqlstate.as_str(), attempts),
        ("40P01", BATCH_ATTEMPTS_MAX)
    );
    let tries = database.number("SELECT last_value FROM attempt").await;
    assert_eq!(tries, i64::from(BATCH_ATTEMPTS_MAX));
    assert_eq!(said.take(), ["rolled back"]);
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b26_a_statement_that_takes_too_long_is_a_timeout_and_ends_the_transaction() {
    let database = with_items().await;
    let mut pools = database.pools();
    let short = options().statement_timeout(Duration::from_millis(50));
    let outcome = pools.transact(short, async |tx| {
        let tx = add(tx, 1).await?;
        tx.run(sql("sleep", "SELECT pg_sleep(20)")).await
    });
    let error = refused(outcome.await);
    assert!(
        matches!(error, BatchError::Busy(Busy::Timeout { .. })),
        "{error:?}"
    );
    assert_eq!(sqlstate(&error), "57014");
    assert_eq!(error.step().unwrap().label, "sleep");
    assert_eq!(ids(&database).await, [0]);

    // A section may try, and do without.
    let outcome = pools.transact(short, async |tx| {
        let sleep = async |tx: db_model::batch::Transaction| {
            tx.run(sql("sleep", "SELECT pg_sleep(20)")).await
        };
        let (tx, slow) = tx.section("slow", sleep).await?;
        slow.unwrap_err();
        Ok((add(tx, 1).await?, ()))
    });
    committed(outcome.await);
    assert_eq!(ids(&database).await, [0, 1]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b28_a_write_in_a_transaction_that_only_reads_is_refused_and_no_trouble_of_the_server() {
    let database = with_items().await;
    let mut pools = database.pools();
    let outcome = pools.transact(options().read_only(), async |tx| {
        let (tx, rows) = tx.run(numbers("SELECT id AS number FROM item")).await?;
        assert_eq!(rows.len(), 1);
        Ok((add(tx, 1).await?, ()))
    });
    let error = refused(outcome.await);
    assert!(matches!(error, BatchError::Unexpected { .. }), "{error:?}");
    assert_eq!(sqlstate(&error), "25006");
    let outcome = pools.transact(options().read_only(), async |tx| {
        tx.run(numbers("SELECT id AS number FROM item")).await
    });
    assert_eq!(committed(outcome.await).0.len(), 1);
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}

/// A deferred constraint is checked by the COMMIT itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_a_deferred_constraint_fails_the_commit_and_no_hook_of_it_runs() {
    let database = with_items().await;
    let (mut pools, said) = (database.pools(), Said::default());
    let child = "CREATE TABLE child (item_id bigint CONSTRAINT child_item_id_fkey \
                 REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)";
    database.client().await.batch_execute(child).await.unwrap();
    let outcome = pools.transact(options(), async |tx| {
        let tx = said.at_the_end(add(tx, 1).await?)?;
        tx.run(sql("child", "INSERT INTO child VALUES (99)")).await
    });
    let error = refused(outcome.await);
    assert!(matches!(error, BatchError::AtCommit { .. }), "{error:?}");
    assert_eq!(error.constraint(), Some("child_item_id_fkey"));
    assert_eq!(said.take(), ["rolled back"]);
    assert_eq!(pools.writes.state().idle, 1);
    assert_eq!(ids(&database).await, [0]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b08_what_the_server_does_not_support_is_not_run_again_and_a_stale_statement_is() {
    let database = with_items().await;
    let mut pools = database.pools();
    let unsupported = pools.transact(options(), async |tx| {
        tx.run(sql("count", "SELECT count(*) FROM item FOR UPDATE"))
            .await
    });
    let (cause, attempts) = rolled_back(unsupported.await);
    let Cause::Database(error) = cause else {
        panic!("{cause}")
    };
    assert_eq!((sqlstate(&error), attempts), ("0A000", 1));

    // A prepared statement whose result has another type by now is prepared anew.
    let mut select = async || {
        let all = pools.transact(options(), async |tx| {
            tx.run(sql("all", "SELECT * FROM item")).await
        });
        committed(all.await).1
    };
    assert_eq!(select().await, 1);
    let alter = "ALTER TABLE item ADD COLUMN more bigint";
    database.client().await.batch_execute(alter).await.unwrap();
    assert_eq!(select().await, 2);
    assert_eq!(select().await, 1);
    database.assert_books_balance().await;
}
