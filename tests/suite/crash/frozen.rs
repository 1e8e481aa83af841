//! A process that is frozen for longer than its lease, and wakes up again.

use super::*;
use nexus_tests::folder::DataFolder;
use nexus_tests::history::session;
use nexus_tests::load::Load;
use nexus_tests::process::Program;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_wakes_up_after_its_lease_changes_nothing_and_ends() {
    let folder = DataFolder::new().await;
    let mut frozen = Program::server(&folder).start().await;
    let mut other = Program::server(&folder).start().await;
    let url = other.database_url();
    let database = session(&url).await;
    let load = Load::start(seed(), 4, vec![frozen.api(), other.api()]);
    load.goes_on(30).await;
    frozen.freeze().await;
    let at = Instant::now();
    let late = frozen
        .request(Method::POST, "/v1/projects")
        .json(&json!({ "name": "too-late" }));
    let late = tokio::spawn(late.send());

    // Its sessions are there, so only the lease says that it is dead.
    let dead = format!(
        "SELECT count(*) FROM executor WHERE pid = {} AND time_ended IS NOT NULL",
        frozen.pid()
    );
    nexus_tests::eventually("the frozen process is declared dead", async || {
        database
            .query_one(&dead, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 1
    })
    .await;
    let noticed = at.elapsed();
    // The clients of the frozen one still wait: they go on elsewhere from their next request on.
    load.aim(vec![other.api()]);
    nexus_tests::eventually("the others have ended its sagas", async || {
        let of_dead = format!(
            "SELECT count(*) FROM saga s JOIN executor e ON e.id = s.executor_id \
             WHERE e.pid = {} AND s.time_finished IS NULL",
            frozen.pid()
        );
        database
            .query_one(&of_dead, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
    })
    .await;
    let stop = tokio::spawn(load.stop());
    nexus_tests::eventually("nothing is under way", async || {
        unfinished(&database).await.is_empty()
    })
    .await;
    // The clients of the other have stopped once nothing changes for two heartbeats.
    let before = unchanging(&database).await;

    frozen.signal(Signal::CONT);
    let ended = frozen.exited().await;
    println!("declared dead after {noticed:?}");
    assert_eq!(ended.code(), Some(1));
    let line =
        "nexus: this process has lost its lease and ends: others go on with its operations\n";
    assert_eq!(ended.stderr, line);
    if let Ok(response) = late.await.unwrap() {
        assert_eq!(response.status(), 503);
    }
    let history = stop.await.unwrap();
    assert_eq!(
        fingerprint(&database).await,
        before,
        "it has changed something"
    );
    history.verify(&other.api(), &url).await;
    other.terminate().await;
}

/// What the tables hold.
async fn fingerprint(database: &Client) -> Vec<String> {
    let mut all = Vec::new();
    for table in [
        "fleet_quota",
        "project",
        "project_quota",
        "instance",
        "saga",
        "saga_event",
    ] {
        let sql = format!(
            "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} t"
        );
        let hash: String = database.query_one(&sql, &[]).await.unwrap().get(0);
        all.push(format!("{table} {hash}"));
    }
    all
}

/// The same once nobody changes anything.
async fn unchanging(database: &Client) -> Vec<String> {
    let mut last = fingerprint(database).await;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = fingerprint(database).await;
        if now == last {
            return now;
        }
        last = now;
    }
}
