//! What a server writes to its log, and what it does not.

use nexus_tests::TestDatabase;
use nexus_tests::history::session;
use nexus_tests::process::{Program, records};
use reqwest::Method;
use serde_json::{Value, json};

/// A field of a record or of one of its spans.
fn field<'a>(record: &'a Value, name: &str) -> Option<&'a str> {
    let spans = record["spans"].as_array().into_iter().flatten();
    std::iter::once(record)
        .chain(spans)
        .find_map(|part| part[name].as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_json_with_ids_and_without_what_callers_sent() {
    let database = TestDatabase::new().await;
    let url = database.url().await.replacen('@', ":open-sesame@", 1);
    let mut process = Program::server_on(&url).start().await;
    let body = json!({ "name": "secret-project", "description": "secret words" });
    let create = process.request(Method::POST, "/v1/projects").json(&body);
    let created = process
        .send(create.header("x-request-id", "request-1"))
        .await;
    assert_eq!(created.status, 201);
    let body = json!({ "name": "secret-instance", "description": "secret words", "vcpus": 1, "memory_bytes": 1 << 20 });
    let path = "/v1/projects/secret-project/instances";
    assert_eq!(process.post(path, &body).await.status, 201);
    assert_eq!(process.get("/v1/projects/secret-nothing").await.status, 404);
    assert_eq!(process.get("/v1/projects?secret-query=1").await.status, 400);
    let operations = process.get("/v1/operations?kind=project-create").await;
    let operation = operations.body["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();

    let ended = process.terminate().await;
    assert_eq!(ended.stderr, "");
    for secret in ["secret", "open-sesame"] {
        assert!(!ended.stdout.contains(secret), "{}", ended.stdout);
    }
    let log = records(&ended.stdout);
    assert_eq!(
        log.len(),
        ended.stdout.lines().count(),
        "not JSON: {}",
        ended.stdout
    );
    let of_request: Vec<_> = log
        .iter()
        .filter(|r| field(r, "request_id") == Some("request-1"))
        .collect();
    let answered = of_request
        .iter()
        .find(|r| r["message"] == "answered")
        .unwrap();
    assert_eq!(field(answered, "operation_id"), Some(operation.as_str()));
    assert_eq!(field(answered, "path"), Some("/v1/projects"));
    let saga = of_request
        .iter()
        .find(|r| r["message"] == "succeeded")
        .unwrap();
    assert_eq!(field(saga, "saga_id"), Some(operation.as_str()));
    assert_eq!(field(saga, "saga"), Some("project-create"));
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_fails_is_one_error_of_the_log() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let program = Program::server_on(&url).flag("--sagas-running-max", "1");
    let mut process = program.start().await;
    let lock = session(&url).await;
    lock.batch_execute("BEGIN; SELECT FROM fleet_quota FOR UPDATE")
        .await
        .unwrap();
    let create = |name: &str| {
        process
            .request(Method::POST, "/v1/projects")
            .json(&json!({ "name": name }))
    };
    let first = create("first").header("prefer", "respond-async");
    assert_eq!(process.send(first).await.status, 202);
    let refused = process
        .send(create("second").header("x-request-id", "request-2"))
        .await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.body["request_id"], "request-2");
    lock.batch_execute("COMMIT").await.unwrap();
    let ended = process.terminate().await;
    let log = records(&ended.stdout);
    let errors: Vec<_> = log.iter().filter(|r| r["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(field(errors[0], "request_id"), Some("request-2"));
    assert_eq!(errors[0]["status"], 503);
    database.assert_books_balance().await;
}
