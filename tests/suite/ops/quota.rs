//! `nexus quota check`, alone and beside a server under load.

use nexus_tests::TestDatabase;
use nexus_tests::history::session;
use nexus_tests::load::{Load, seed};
use nexus_tests::process::{Ended, Program};
use serde_json::json;

async fn check(url: &str, repair: bool) -> Ended {
    let mut arguments = vec!["quota", "check", "--database-url", url];
    if repair {
        arguments.push("--repair");
    }
    Program::new(&arguments).run().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drift_is_named_and_mended() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let mut process = Program::server_on(&url).start().await;
    let project = process
        .post("/v1/projects", &json!({ "name": "web" }))
        .await;
    let id = project.body["id"].as_str().unwrap();
    let ended = check(&url, false).await;
    assert_eq!(
        (ended.code(), ended.stdout.as_str()),
        (Some(0), "The books balance.\n")
    );

    let forge = "UPDATE project_quota SET vcpus_used = 7; UPDATE fleet_quota SET projects_used = 0";
    database.client().await.batch_execute(forge).await.unwrap();
    let ended = check(&url, false).await;
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(1), ""));
    let drift = format!("project {id}: the counter of vcpus says 7, the rows say 0\n");
    assert!(ended.stdout.contains(&drift), "{ended:?}");
    assert!(
        ended
            .stdout
            .contains("the counter of projects says 0, the rows say 1\n"),
        "{ended:?}"
    );
    assert!(
        ended.stdout.ends_with("The books do not balance.\n"),
        "{ended:?}"
    );

    let ended = check(&url, true).await;
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    assert!(
        ended.stdout.contains(&format!("mended: {drift}")),
        "{ended:?}"
    );
    assert!(ended.stdout.ends_with("The books balance.\n"), "{ended:?}");
    assert_eq!(check(&url, false).await.code(), Some(0));
    process.terminate().await;
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_mended_before_a_failure_is_told() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let mut process = Program::server_on(&url).start().await;
    let project = process
        .post("/v1/projects", &json!({ "name": "web" }))
        .await;
    assert_eq!(project.status, 201);
    process.terminate().await;
    let client = database.client().await;
    let forge = "UPDATE project_quota SET vcpus_used = 7; UPDATE fleet_quota SET projects_used = 5; \
                 CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ \
                 BEGIN RAISE EXCEPTION 'not now'; END $$; \
                 CREATE TRIGGER refused BEFORE UPDATE ON project_quota FOR EACH ROW EXECUTE FUNCTION refuse()";
    client.batch_execute(forge).await.unwrap();
    let ended = check(&url, true).await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert!(
        ended.stdout.starts_with("mended: fleet ") && ended.stdout.lines().count() == 1,
        "{ended:?}"
    );
    assert!(ended.stderr.contains("books.count"), "{ended:?}");
    let fleet = "SELECT projects_used FROM fleet_quota";
    assert_eq!(database.number(fleet).await, 1);
    let drop = "DROP TRIGGER refused ON project_quota";
    client.batch_execute(drop).await.unwrap();
    assert_eq!(check(&url, true).await.code(), Some(0));
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_and_repairs_are_safe_beside_a_server_under_load() {
    const ROUNDS: usize = 6;
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let mut process = Program::server_on(&url).start().await;
    let load = Load::start(seed(), 4, vec![process.api()]);
    for _ in 0..ROUNDS {
        load.goes_on(15).await;
        let ended = check(&url, false).await;
        assert_eq!(ended.code(), Some(0), "{ended:?}");
    }
    let meddler = session(&url).await;
    for _ in 0..ROUNDS {
        load.goes_on(15).await;
        let forge = "UPDATE project_quota SET vcpus_used = vcpus_used + 3";
        meddler.batch_execute(forge).await.unwrap();
        check(&url, true).await;
        let ended = check(&url, false).await;
        assert_eq!(ended.code(), Some(0), "{ended:?}");
    }
    let history = load.stop().await;
    history.verify(&process.api(), &url).await;
    process.terminate().await;
    database.assert_books_balance().await;
}
