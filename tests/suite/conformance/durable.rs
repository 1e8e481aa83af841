//! Group C: durable hooks, which are the events of the change feed. An event is a row of the change's
//! own transaction, and is published afterwards.

use std::sync::Arc;

use db_model::query::project_quota::{self, LimitsUpdate};
use db_model::query::{Change, event};
use db_model::{feed as product, read};
use nexus_tests::TestDatabase;
use nexus_tests::feed::{self, Follower};
use nexus_tests::fixture::{self, WIDE};
use nexus_tests::process::Program;
use nexus_tests::proxy::Trouble;
use nexus_tests::script::{Cue, Script};
use reqwest::Method;
use sagas::Outcome;
use serde_json::json;

use super::{
    create, delete, executor, failure, instances, params, probed, refusal, waits_for_locks,
};

const UNPUBLISHED: &str = "SELECT count(*) FROM event WHERE sequence IS NULL";

/// What is told, in the feed's order: what, of whom, at which generation.
async fn told(database: &TestDatabase) -> Vec<(String, String, i64)> {
    let pools = database.pools();
    while product::publish(&pools).await.unwrap() > 0 {}
    let filter = read::event::EventFilter::default();
    let page = read::event::list(&pools.reads, &filter, None, 1_000).await;
    let line = |event: db_model::model::Event| {
        (
            event.kind.to_string(),
            event.resource_name,
            event.resource_generation,
        )
    };
    page.unwrap().events.into_iter().map(line).collect()
}

fn line(kind: &str, name: &str, generation: i64) -> (String, String, i64) {
    (kind.to_owned(), name.to_owned(), generation)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c01_c02_what_is_done_is_told_and_what_is_refused_or_undone_is_not() {
    let database = TestDatabase::new().await;
    let script = Arc::new(Script::default());
    let executor = probed(database.pools(), script.clone()).await;
    let project = fixture::project(&executor, "web", instances(1)).await;
    let one = fixture::instance(&executor, project.id, "one").await;
    refusal(create(&executor, params(project.id, "two")).await);
    script.set(vec![Cue::fail("delete")]);
    failure(delete(&executor, &one).await);
    script.set(vec![Cue::fail("stop")]);
    failure(create(&executor, params(project.id, "three")).await);
    script.set(Vec::new());
    let writes = database.pools().writes;
    let update = |generation| {
        let limits = LimitsUpdate {
            instances: Some(9),
            ..LimitsUpdate::default()
        };
        project_quota::update(Change::new(), project.id, limits, generation)
    };
    let rows = update(None).commit(&writes).await.unwrap();
    update(Some(1)).commit(&writes).await.unwrap_err();
    let deleted = delete(&executor, &one).await;
    assert!(matches!(deleted, Outcome::Succeeded(_)), "{deleted:?}");
    let expected = [
        line("project.created", "web", 2),
        line("instance.created", "one", 2),
        line("project.quota_updated", "web", rows[0].generation),
        // Taken out of use and back, then again, and deleted.
        line("instance.deleted", "one", 6),
    ];
    assert_eq!(told(&database).await, expected);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c13_an_event_of_a_process_that_died_before_it_was_published_is_told_once() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let mut first = Program::server_on(&url).start().await;
    let mut follower = Follower::default();
    first
        .post("/v1/projects", &json!({ "name": "before" }))
        .await;
    follower.reads(&first.api(), 1).await;

    // Committed, and nobody can publish it while the feed is locked.
    let holder = database.client().await;
    let lock = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SELECT FROM event_feed FOR UPDATE";
    holder.batch_execute(lock).await.unwrap();
    let made = first
        .post("/v1/projects", &json!({ "name": "between" }))
        .await;
    assert_eq!(made.status, 201);
    waits_for_locks(&database, 1).await;
    first.kill().await;
    // The server sees that the one who waited is gone.
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    database
        .eventually("nobody waits any more", async || {
            database.number(waiting).await == 0
        })
        .await;
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(database.number(UNPUBLISHED).await, 1, "it was published");

    // Two of them come up, and one tells it. Who followed the first goes on with its token.
    let mut second = Program::server_on(&url).start().await;
    let mut third = Program::server_on(&url).start().await;
    second
        .post("/v1/projects", &json!({ "name": "after" }))
        .await;
    follower.reads(&third.api(), 3).await;
    feed::published(&database.client().await).await;
    assert!(!follower.page(&second.api(), 100).await);
    follower.assert_whole(0);
    let names: Vec<_> = follower
        .events
        .iter()
        .map(|event| event["resource"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["before", "between", "after"]);
    assert_eq!(follower.events[1]["resource"]["id"], made.body["id"]);
    second.terminate().await;
    third.terminate().await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c14_a_change_whose_reply_was_lost_is_answered_and_told_once() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    let mut process = Program::server_on(proxy.url()).start().await;
    process
        .post("/v1/projects", &json!({ "name": "web" }))
        .await;
    for (path, body, kind) in [
        (
            "/v1/projects/web/quota",
            json!({ "instances": 7 }),
            "project.quota_updated",
        ),
        (
            "/v1/fleet/quota",
            json!({ "projects": 7 }),
            "fleet.quota_updated",
        ),
    ] {
        let tag = process.get(path).await.header("etag").to_owned();
        let troubles = proxy.troubles();
        proxy.on(Trouble::LoseReply.to("INSERT INTO \"event\""));
        let put = process.request(Method::PUT, path).json(&body);
        let answer = process.send(put.header("if-match", tag)).await;
        assert_eq!(proxy.troubles(), troubles + 1);
        assert_eq!(answer.status, 200, "{answer:?}");
        let view = process.get(path).await;
        assert_eq!(answer.body, view.body);
        assert_eq!(answer.header("etag"), view.header("etag"));
        let of_kind = format!("SELECT count(*) FROM event WHERE kind = '{kind}'");
        assert_eq!(database.number(&of_kind).await, 1);
    }
    process.terminate().await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c14_a_change_that_is_sent_again_does_not_win_over_one_that_came_in_between() {
    let database = TestDatabase::new().await;
    let executor = executor(&database).await;
    let project = fixture::project(&executor, "web", WIDE).await;
    let writes = database.pools().writes;
    let change = Change::new();
    let set = |change, instances| {
        let limits = LimitsUpdate {
            instances: Some(instances),
            ..LimitsUpdate::default()
        };
        project_quota::update(change, project.id, limits, None)
    };
    set(change, 5).commit(&writes).await.unwrap();
    set(Change::new(), 6).commit(&writes).await.unwrap();
    let again = set(change, 5).commit(&writes).await.unwrap_err();
    assert!(event::is_recorded(&again), "{again:?}");
    let limit = "SELECT instances_limit FROM project_quota";
    assert_eq!(database.number(limit).await, 6);
    database.assert_books_balance().await;
}
