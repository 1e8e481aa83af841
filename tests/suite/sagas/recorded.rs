//! Sagas that an earlier release has left: their rows stand in `recorded/`, as that release wrote them, in the
//! schema that it had.

use std::time::Duration;

use db_model::migrate::{self, MIGRATIONS};
use db_model::read;
use db_model::types::SagaState;
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::MigrationHarness;
use nexus_tests::TestDatabase;
use sagas::{Executor, ExecutorOptions};
use uuid::Uuid;

/// The rows.
const RELEASE: &str = include_str!("recorded/release.sql");

/// The migrations that the release had.
const MIGRATIONS_OF_RELEASE: usize = 14;

/// A saga of the rows, by its number there.
fn saga(number: u128) -> Uuid {
    Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + number)
}

/// A database of that release, with what it left, brought to today's schema.
async fn upgraded() -> TestDatabase {
    let database = TestDatabase::empty().await;
    let session = AsyncPgConnection::try_from(database.client().await)
        .await
        .unwrap();
    let up = move || {
        let mut harness = AsyncMigrationHarness::new(session);
        for _ in 0..MIGRATIONS_OF_RELEASE {
            harness.run_next_migration(MIGRATIONS).map(drop).unwrap();
        }
    };
    tokio::task::spawn_blocking(up).await.unwrap();
    database
        .client()
        .await
        .batch_execute(RELEASE)
        .await
        .unwrap();
    migrate::run(&database.options(), 7).await.unwrap();
    database
}

async fn text(database: &TestDatabase, sql: &str) -> String {
    database
        .client()
        .await
        .query_one(sql, &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sagas_that_an_earlier_release_left_unfinished_end_as_they_would_have() {
    let database = upgraded().await;
    let pools = database.pools();
    let options = ExecutorOptions::default();
    let executor = Executor::start(pools.clone(), options).await.unwrap();
    database
        .eventually("those that it knows have ended", async || {
            database
                .number("SELECT count(*) FROM saga WHERE time_finished IS NULL")
                .await
                == 1
        })
        .await;
    let states = "SELECT string_agg(state, ' ' ORDER BY id) FROM saga";
    assert_eq!(
        text(&database, states).await,
        "succeeded succeeded failed running"
    );

    let half = "SELECT state || ' ' || generation FROM instance WHERE name = 'half'";
    assert_eq!(text(&database, half).await, "stopped 2");
    let output = "SELECT (output->'V1'->>'id') || ' ' || (output->'V1'->>'description') FROM saga ORDER BY id LIMIT 1";
    assert!(text(&database, output).await.ends_with("b1 as it was"));
    let next = "SELECT state || ' ' || generation FROM project WHERE name = 'next'";
    assert_eq!(text(&database, next).await, "active 2");
    let kept = "SELECT state || ' ' || generation FROM instance WHERE name = 'kept'";
    assert_eq!(text(&database, kept).await, "stopped 4");
    let why = "SELECT error->'cause'->'unexpected'->>'sqlstate' FROM saga WHERE state = 'failed'";
    assert_eq!(text(&database, why).await, "23514");
    let logs = "SELECT string_agg(saga_id || ' ' || count || ' ' || max, ', ') FROM (\
                SELECT saga_id, count(*), max(sequence) FROM saga_event GROUP BY saga_id \
                HAVING count(*) <> max(sequence) OR count(DISTINCT sequence) <> count(*)) AS broken";
    let broken: Option<String> = database
        .client()
        .await
        .query_one(logs, &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(broken, None);
    assert_eq!(executor.drain(Duration::from_secs(5)).await, 0);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_of_a_shape_that_nobody_has_is_left_alone_and_shown() {
    let database = upgraded().await;
    let pools = database.pools();
    let options = ExecutorOptions::default();
    let executor = Executor::start(pools.clone(), options).await.unwrap();
    // Whatever it knows it has taken over by now, and more than once it has looked.
    let beats =
        "SELECT count(*) FROM executor WHERE time_ended IS NULL AND time_heartbeat > time_started";
    database
        .eventually("it has looked again", async || {
            database.number(beats).await == 1
                && database
                    .number("SELECT count(*) FROM saga WHERE time_finished IS NULL")
                    .await
                    == 1
        })
        .await;
    let left = read::saga::view(&pools.reads, saga(4))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((left.state, left.generation), (SagaState::Running, 1));
    assert!(
        read::saga::events(&pools.reads, saga(4))
            .await
            .unwrap()
            .is_empty()
    );
    let patience = executor.registry().patience();
    let stalled = read::saga::stalled(&pools.reads, &patience).await.unwrap();
    assert_eq!(
        stalled.iter().map(|saga| saga.id).collect::<Vec<_>>(),
        [saga(4)]
    );
    executor.stop();
    database.assert_books_balance().await;
}
