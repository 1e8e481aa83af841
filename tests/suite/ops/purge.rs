//! The purge as operators meet it: beside a load, over two replicas, at a shutdown, and what it leaves of
//! what callers knew.

use nexus_tests::history::{assert_balanced, session};
use nexus_tests::load::{Load, seed};
use nexus_tests::process::{Process, Program};
use nexus_tests::{TestDatabase, TestService, eventually, past};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

const ROWS: i64 = 10_000;
const CLIENTS: usize = 6;

async fn purging(url: &str) -> Process {
    Program::server_on(url)
        .flag("--purge-interval", "1s")
        .start()
        .await
}

/// How many rows of each kind there are with a mark.
async fn marked(database: &TestDatabase, mark: &str) -> Vec<i64> {
    let mut counts = Vec::new();
    for (table, column) in past::KINDS {
        let count = format!("SELECT count(*) FROM {table} WHERE {column} = '{mark}'");
        counts.push(database.number(&count).await);
    }
    counts
}

/// What a process has purged by its own word, of each kind.
fn told(process: &Process) -> Vec<u64> {
    let log = process.log();
    let rounds: Vec<_> = log.iter().filter(|r| r["message"] == "purged").collect();
    let sum = |kind: &str| rounds.iter().map(|r| r[kind].as_u64().unwrap()).sum();
    ["instances", "projects", "sagas", "executors", "events"]
        .map(sum)
        .to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_rows_of_each_kind_go_while_two_replicas_serve_a_load() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let client = database.client().await;
    let mut replicas = [purging(&url).await, purging(&url).await];
    past::everything(&client, "old", ROWS, "8 days").await;
    let apis = replicas.iter().map(Process::api).collect();
    let load = Load::start(seed(), CLIENTS, apis);
    past::everything(&client, "young", 100, "6 days").await;
    let begun = Instant::now();
    eventually("all that is old is gone", async || {
        marked(&database, "old").await == [0; 5]
    })
    .await;
    println!("gone after {:?}", begun.elapsed());
    load.goes_on(60).await;
    let history = load.stop().await;
    for seen in &history.seen {
        assert!(seen.failures.is_empty(), "{:#?}", seen.failures);
    }
    history.verify(&replicas[0].api(), &url).await;

    assert_eq!(marked(&database, "young").await, [100; 5]);
    let events = "SELECT count(*) FROM saga_event e JOIN saga s ON s.id = e.saga_id WHERE s.request_id = 'young'";
    assert_eq!(database.number(events).await, 400);
    let stray = "SELECT count(*) FROM saga_event e WHERE NOT EXISTS (SELECT FROM saga s WHERE s.id = e.saga_id)";
    assert_eq!(database.number(stray).await, 0);
    let feed = "SELECT purged_sequence FROM event_feed";
    assert_eq!(database.number(feed).await, ROWS);
    for replica in &mut replicas {
        replica.terminate().await;
        assert!(
            told(replica).iter().any(|rows| *rows > 0),
            "one did it alone"
        );
        let log = replica.log();
        let failed = log
            .iter()
            .find(|r| !r["failures"].is_null() || r["level"] == "ERROR");
        assert!(failed.is_none(), "{failed:#?}");
    }
    let [first, second] = replicas.each_ref().map(told);
    let both: Vec<_> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
    println!("{first:?} and {second:?}");
    assert_eq!(both, [ROWS.unsigned_abs(); 5]);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(database.number(deadlocks).await, 0);
    assert_balanced(&url).await;
    database.assert_books_balance().await;
}

/// Lets every batch that removes instances wait for a lock of the test.
const WAIT: &str = "\
CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(18);
    RETURN NULL;
END $$;
CREATE TRIGGER instance_waits AFTER DELETE ON instance FOR EACH STATEMENT EXECUTE FUNCTION waits()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_does_not_wait_for_a_purge() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let holder = session(&url).await;
    past::everything(&holder, "old", 10, "8 days").await;
    holder.batch_execute(WAIT).await.unwrap();
    holder
        .batch_execute("SELECT pg_advisory_lock(18)")
        .await
        .unwrap();
    let mut process = purging(&url).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("a purge is under way", async || {
        database.number(waiting).await == 1
    })
    .await;
    let asked = Instant::now();
    process.signal(Signal::TERM);
    let ended = process.exited().await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    // The wait for the lock alone would take longer.
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );
    holder
        .batch_execute("SELECT pg_advisory_unlock(18)")
        .await
        .unwrap();
    let left = marked(&database, "old").await;
    assert!(
        [0, 10].contains(&left[0]) && left[1..] == [10; 4],
        "{left:?}"
    );
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_operation_is_not_found_and_its_name_is_free() {
    let service = TestService::start_with(|config| {
        config.retention.deleted = Duration::ZERO;
        config.retention.operations = Duration::ZERO;
        config.purge_interval = Duration::from_millis(20);
    })
    .await;
    let create = async || {
        let create = service.request(Method::POST, "/v1/projects");
        service.send(create.json(&json!({ "name": "web" }))).await
    };
    assert_eq!(create().await.status, 201);
    let delete = service.request(Method::DELETE, "/v1/projects/web");
    let delete = service.send(delete.header("prefer", "respond-async")).await;
    let operation = delete.header("location").to_owned();
    eventually("the operation is gone", async || {
        let answer = service.get(&operation).await;
        answer.status == 404 && answer.body["error_code"] == "not_found"
    })
    .await;
    eventually("and so are its project and all others", async || {
        let rows = "SELECT (SELECT count(*) FROM saga) + (SELECT count(*) FROM saga_event) \
                    + (SELECT count(*) FROM project) + (SELECT count(*) FROM project_quota)";
        service.database.number(rows).await == 0
    })
    .await;
    assert_eq!(create().await.status, 201);
    assert_eq!(
        service.get("/v1/projects/web").await.body["state"],
        "active"
    );
    service.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_whose_log_has_gone_is_gone() {
    let service = TestService::start().await;
    past::everything(&service.database.client().await, "old", 1, "1 day").await;
    let client = service.database.client().await;
    let row = client
        .query_one("SELECT id::text FROM saga", &[])
        .await
        .unwrap();
    let path = format!("/v1/operations/{}", row.get::<_, String>(0));
    assert_eq!(service.get(&path).await.status, 200);
    // As a request sees it whose two reads have a purge between them.
    client
        .batch_execute("DELETE FROM saga_event")
        .await
        .unwrap();
    assert_eq!(service.get(&path).await.status, 404);
    service.end().await;
}
