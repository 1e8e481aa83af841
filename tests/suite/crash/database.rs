//! The database dies under load, and comes back.

use super::*;
use db_model::embedded;
use nexus_tests::folder::{DataFolder, signal};
use nexus_tests::history::session;
use nexus_tests::load::Load;
use nexus_tests::process::{Process, Program};
use nexus_tests::{Answer, eventually};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use std::fs;

const CLIENTS: usize = 6;

/// Sees that the service says what is missing, on both listeners.
async fn says_that_the_database_is_away(process: &Process) {
    eventually("/readyz says that the database is away", async || {
        let answer = process.readyz().await.unwrap();
        answer.status == 503
            && answer.body["ready"] == false
            && answer.body["missing"]
                .as_array()
                .unwrap()
                .iter()
                .any(|part| part["what"] == "database")
    })
    .await;
    let post = process
        .request(Method::POST, "/v1/projects")
        .json(&json!({ "name": "refused" }));
    let (read, write) = tokio::join!(process.get("/v1/projects"), process.send(post));
    for Answer {
        status,
        headers,
        body,
    } in [read, write]
    {
        assert_eq!(status, 503, "{body}");
        assert_eq!(headers["retry-after"], "1");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(body["error_code"], "unavailable");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_embedded_server_is_brought_back_and_nothing_is_lost() {
    let folder = DataFolder::new().await;
    let mut process = Program::server(&folder).start().await;
    let url = process.database_url();
    let load = Load::start(seed(), CLIENTS, vec![process.api()]);
    load.goes_on(60).await;

    // A new server waits for the last process of the old one: held, it keeps the database away.
    let database = session(&url).await;
    let backend: i32 = database
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let backend = u32::try_from(backend).unwrap();
    let server = folder.server().unwrap();
    signal(backend, Signal::STOP);
    signal(server, Signal::KILL);
    says_that_the_database_is_away(&process).await;
    signal(backend, Signal::CONT);
    let back = Instant::now();
    process.ready().await;
    println!("ready {:?} after the last backend had gone", back.elapsed());
    let database = session(&url).await;
    let open = unfinished(&database).await;
    let took = ended(&database, &open, Instant::now()).await;
    println!(
        "{} sagas were under way, ended {took:?} after ready",
        open.len()
    );
    assert!(took < RECOVERY_MAX, "{took:?}");

    // And once more, at an instant of its own choice.
    load.goes_on(60).await;
    let server = folder.server().unwrap();
    signal(server, Signal::KILL);
    let killed = Instant::now();
    load.goes_on(60).await;
    println!(
        "60 changes within {:?} after the second kill",
        killed.elapsed()
    );
    assert_ne!(folder.server(), Some(server));

    let history = load.stop().await;
    history.verify(&process.api(), &url).await;
    process.terminate().await;
    assert_eq!(folder.server(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_ones_own_that_was_away_is_found_again_and_nothing_is_lost() {
    let folder = DataFolder::new().await;
    let server = embedded::start(folder.options()).await.unwrap();
    let url = server.url();
    let mut process = Program::server_on(&url).start().await;
    let load = Load::start(seed(), CLIENTS, vec![process.api()]);
    load.goes_on(60).await;
    signal(folder.server().unwrap(), Signal::KILL);
    says_that_the_database_is_away(&process).await;
    assert_eq!(
        folder.server(),
        None,
        "a database of one's own is nobody else's to start"
    );
    assert!(!process.has_exited());

    server.revive().await.unwrap();
    let back = Instant::now();
    process.ready().await;
    println!("ready {:?} after the database", back.elapsed());
    let database = session(&url).await;
    let open = unfinished(&database).await;
    let took = ended(&database, &open, Instant::now()).await;
    println!(
        "{} sagas were under way, ended {took:?} after ready",
        open.len()
    );
    assert!(took < RECOVERY_MAX, "{took:?}");
    load.goes_on(60).await;
    let history = load.stop().await;
    history.verify(&process.api(), &url).await;
    process.terminate().await;
    assert!(
        folder.server().is_some(),
        "a database of one's own is nobody else's to stop"
    );
    fs::metadata(folder.data_dir()).unwrap();
    server.stop().await.unwrap();
}
