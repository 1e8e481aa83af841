//! Two processes on one folder: two replicas on one database, of which one ends.

use super::*;
use nexus_tests::folder::DataFolder;
use nexus_tests::history::{assert_balanced, session};
use nexus_tests::load::Load;
use nexus_tests::process::Program;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process_takes_over_and_its_callers_notice_nothing() {
    let folder = DataFolder::new().await;
    let mut first = Program::server(&folder).start().await;
    let mut second = Program::server(&folder).start().await;
    let server = folder.server().unwrap();
    let database = session(&second.database_url()).await;
    let load = Load::start(seed(), CLIENTS, vec![first.api(), second.api()]);
    load.goes_on(60).await;

    // The one that started the server, and surely in the middle of something.
    settled(&database).await;
    let lock = "BEGIN; SELECT FROM fleet_quota FOR UPDATE";
    database.batch_execute(lock).await.unwrap();
    let held = first
        .request(Method::POST, "/v1/projects")
        .header("prefer", "respond-async")
        .json(&json!({ "name": "held" }));
    assert_eq!(first.send(held).await.status, 202);
    first.kill().await;
    let killed = Instant::now();
    database.batch_execute("COMMIT").await.unwrap();
    let interrupted = unfinished(&database).await;
    load.aim(vec![second.api()]);
    let took = ended(&database, &interrupted, killed).await;
    println!(
        "{} sagas were under way, ended {took:?} after the kill",
        interrupted.len()
    );
    // Noticed and waited for twice a heartbeat, and then run.
    assert!(took < RECOVERY_MAX, "{took:?}");
    let delete = second.request(Method::DELETE, "/v1/projects/held");
    assert_eq!(second.send(delete).await.status, 204);
    load.goes_on(60).await;
    let history = load.stop().await;
    for (number, seen) in history.seen.iter().enumerate() {
        if number % 2 == 1 {
            assert!(
                seen.failures.is_empty(),
                "client {number}: {:#?}",
                seen.failures
            );
        }
    }
    history.verify(&second.api(), &second.database_url()).await;
    assert_eq!(
        folder.server(),
        Some(server),
        "the database stays for the other"
    );

    second.terminate().await;
    assert_eq!(
        folder.server(),
        None,
        "the last user takes the server along"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_started_the_server_may_stop_first() {
    let folder = DataFolder::new().await;
    let mut first = Program::server(&folder).start().await;
    let mut second = Program::server(&folder).start().await;
    let server = folder.server().unwrap();
    let load = Load::start(seed(), CLIENTS, vec![first.api(), second.api()]);
    load.goes_on(30).await;
    first.signal(Signal::TERM);
    load.aim(vec![second.api()]);
    assert_eq!(first.exited().await.code(), Some(0));
    assert_eq!(
        folder.server(),
        Some(server),
        "the database stays for the other"
    );
    load.goes_on(30).await;

    let history = load.stop().await;
    // Whoever was being answered was answered to the end, or told to come again.
    for failure in history.seen.iter().flat_map(|seen| &seen.failures) {
        assert!(
            failure.contains(": 503 ")
                || failure.contains("ConnectionRefused")
                || failure.contains("Connect"),
            "{failure}"
        );
    }
    history.verify(&second.api(), &second.database_url()).await;
    assert_balanced(&second.database_url()).await;
    second.terminate().await;
    assert_eq!(folder.server(), None);
}
