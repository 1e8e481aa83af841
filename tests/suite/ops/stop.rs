//! How a server stops: asked once, asked twice, in the middle of work.

use nexus_tests::folder::DataFolder;
use nexus_tests::history::{assert_balanced, session};
use nexus_tests::process::{Process, Program, records};
use nexus_tests::{Answer, TestDatabase, eventually};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// Locks the fleet's quota row, so that no project can be made until the session commits.
async fn held(database_url: &str) -> Client {
    let database = session(database_url).await;
    let lock = "BEGIN; SELECT FROM fleet_quota FOR UPDATE";
    database.batch_execute(lock).await.unwrap();
    database
}

/// Asks for a project and waits until its operation is under way. No answer when it is cut off.
async fn under_way(process: &Process) -> JoinHandle<Option<Answer>> {
    let create = process
        .request(Method::POST, "/v1/projects")
        .header("prefer", "respond-async, wait=60")
        .json(&json!({ "name": "web" }));
    let answer = tokio::spawn(async move { Some(Answer::read(create.send().await.ok()?).await) });
    eventually("the operation is under way", async || {
        let running = process.get("/v1/operations?state=running").await;
        running.body["items"].as_array().unwrap().len() == 1
    })
    .await;
    answer
}

async fn asked_to_end(process: &Process, signal: Signal) {
    process.signal(signal);
    eventually("it says that it is shutting down", async || {
        process
            .log()
            .iter()
            .any(|record| record["message"] == "shutting down")
    })
    .await;
}

fn released(log: &str) -> Value {
    let log = records(log);
    let drained = log.iter().find(|record| !record["released"].is_null());
    drained.unwrap()["released"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_finished_first() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Program::server_on(&url).start().await;
        let lock = held(&url).await;
        let answer = under_way(&process).await;
        asked_to_end(&process, signal).await;
        eventually("it accepts nobody any more", async || {
            let another = nexus_tests::process::client().get(process.api());
            another.send().await.is_err_and(|error| error.is_connect())
        })
        .await;
        let readyz = process.readyz().await.unwrap();
        assert_eq!(readyz.status, 503);
        assert!(
            readyz.body.to_string().contains("shutting down"),
            "{readyz:?}"
        );
        assert!(!process.has_exited());

        lock.batch_execute("COMMIT").await.unwrap();
        assert_eq!(answer.await.unwrap().unwrap().status, 201);
        let ended = process.exited().await;
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        assert_eq!(ended.stderr, "");
        assert_eq!(released(&ended.stdout), 0);
        let delete = Program::server_on(&url).start().await;
        let gone = delete
            .send(delete.request(Method::DELETE, "/v1/projects/web"))
            .await;
        assert_eq!(gone.status, 204);
        drop(delete);
    }
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_longer_than_the_grace_is_released_and_goes_on_later() {
    let folder = DataFolder::new().await;
    let short = |folder: &DataFolder| Program::server(folder).flag("--drain-grace-seconds", "3");
    let mut process = short(&folder).start().await;
    let url = process.database_url();
    let lock = held(&url).await;
    let answer = under_way(&process).await;
    process.signal(Signal::TERM);
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let operation = answer.header("location").to_owned();
    let ended = process.exited().await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(released(&ended.stdout), 1);
    assert_eq!(
        folder.server(),
        None,
        "the last user takes the server along"
    );
    assert!(lock.is_closed());

    let mut process = short(&folder).start().await;
    let ready = Instant::now();
    eventually("the operation has succeeded", async || {
        process.get(&operation).await.body["state"] == "succeeded"
    })
    .await;
    assert!(
        ready.elapsed() < Duration::from_secs(3),
        "{:?}",
        ready.elapsed()
    );
    assert_eq!(process.get("/v1/projects/web").await.status, 200);
    assert_balanced(&url).await;
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_ctrl_c_ends_it_at_once() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let mut process = Program::server_on(&url).start().await;
    let lock = held(&url).await;
    let answer = under_way(&process).await;
    asked_to_end(&process, Signal::INT).await;
    let again = Instant::now();
    process.signal(Signal::INT);
    let ended = process.exited().await;
    assert_eq!(ended.code(), Some(130), "{ended:?}");
    assert!(
        again.elapsed() < Duration::from_secs(5),
        "{:?}",
        again.elapsed()
    );
    assert!(answer.await.unwrap().is_none(), "nobody was answered");
    lock.batch_execute("COMMIT").await.unwrap();

    // What it left is ended by the next.
    let mut process = Program::server_on(&url).start().await;
    eventually("the operation has succeeded", async || {
        process.get("/v1/projects/web").await.body["state"] == "active"
    })
    .await;
    process.terminate().await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_interrupted_ends_well() {
    let folder = DataFolder::empty();
    let mut process = Program::server(&folder).spawn();
    eventually("the database is being made", async || {
        folder.data_dir().exists()
    })
    .await;
    process.terminate().await;
    assert_eq!(folder.server(), None);
    let mut process = Program::server(&folder).start().await;
    assert_balanced(&process.database_url()).await;
    process.terminate().await;
}
