//! Unfinished sagas as an earlier release has written them, parameters, hash and log: they run on.

use std::time::Duration;

use db_model::migrate;
use nexus_tests::{TestDatabase, TestService};
use sagas::{Executor, ExecutorOptions};

/// The migrations of the release that wrote the rows.
const MIGRATIONS: usize = 14;

const ROWS: &str = include_str!("recorded.sql");

async fn recorded() -> TestDatabase {
    let database = TestDatabase::migrated(MIGRATIONS).await;
    database.client().await.batch_execute(ROWS).await.unwrap();
    migrate::run(&database.options(), 1).await.unwrap();
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_release_began_is_ended_and_what_nobody_knows_is_left_alone() {
    let database = recorded().await;
    let executor = Executor::start(database.pools(), ExecutorOptions::default())
        .await
        .unwrap();
    database
        .eventually("all but the unknown one have ended", async || {
            let open = "SELECT count(*) FROM saga WHERE time_finished IS NULL";
            database.number(open).await == 1
        })
        .await;
    let rows = database
        .client()
        .await
        .query("SELECT resource_name, state FROM saga ORDER BY id", &[])
        .await
        .unwrap();
    let ended: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let ended: Vec<_> = ended
        .iter()
        .map(|(n, s)| (n.as_str(), s.as_str()))
        .collect();
    assert_eq!(
        ended,
        [
            ("half", "succeeded"),
            ("later", "succeeded"),
            ("kept", "failed"),
            ("unknown", "running"),
        ]
    );
    // Each to exactly what its own program would have made of it.
    for made in [
        "SELECT count(*) FROM instance WHERE name = 'half' AND state = 'stopped' AND generation = 2",
        "SELECT count(*) FROM instance WHERE name = 'kept' AND state = 'stopped' AND generation = 4",
        "SELECT count(*) FROM project WHERE name = 'later' AND state = 'active'",
        "SELECT count(*) FROM saga WHERE resource_name = 'unknown' AND generation = 1",
        "SELECT (output -> 'V1' ->> 'description' = 'half made')::int::bigint FROM saga WHERE resource_name = 'half'",
    ] {
        assert_eq!(database.number(made).await, 1, "{made}");
    }
    // The log goes on from the old one's numbers, without gaps.
    let gaps = "SELECT count(*) FROM (SELECT max(sequence) - count(*) AS gap FROM saga_event GROUP BY saga_id) g \
                WHERE gap <> 0";
    assert_eq!(database.number(gaps).await, 0);
    assert_eq!(executor.drain(Duration::from_secs(5)).await, 0);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_this_program_does_not_know_is_shown() {
    let service = TestService::start().await;
    let unknown = "INSERT INTO saga (id, name, definition_hash, params, state, executor_id, generation, request_id, \
                   resource_kind, resource_id, resource_name, time_created) VALUES \
                   ('01a1ffce-0000-7000-8000-0000000000c4', 'machine-paint', repeat('0', 16), '{}', 'running', \
                   '01a1ffce-0000-7000-8000-0000000000e1', 1, 'recorded', 'instance', \
                   '01a1ffce-0000-7000-8000-0000000000b4', 'unknown', now())";
    service
        .database
        .client()
        .await
        .batch_execute(unknown)
        .await
        .unwrap();
    let path = "/v1/operations/01a1ffce-0000-7000-8000-0000000000c4";
    let shown = service.get(path).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert_eq!(shown.body["kind"], "machine-paint");
    assert_eq!(shown.body["state"], "running");
    service
        .database
        .client()
        .await
        .batch_execute("DELETE FROM saga")
        .await
        .unwrap();
    service.end().await;
}
