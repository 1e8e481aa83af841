//! Clients that hang up. What they asked for goes on all the same.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Api, head};

/// How long a client stays after it has asked.
const STAYS: [Option<Duration>; 4] = [
    None,
    Some(Duration::from_micros(200)),
    Some(Duration::from_millis(1)),
    Some(Duration::from_millis(4)),
];

/// Sends a request and hangs up.
async fn ask(api: &Api, request: String, stay: Option<Duration>) {
    let mut stream = api.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    if let Some(stay) = stay {
        tokio::time::sleep(stay).await;
    }
}

fn post(path: &str, body: &serde_json::Value) -> String {
    let body = body.to_string();
    let length = format!(
        "Content-Type: application/json\r\nContent-Length: {}",
        body.len()
    );
    format!("{}{length}\r\n\r\n{body}", head("POST", path))
}

/// Waits until nothing runs.
async fn rest(api: &Api) {
    let unfinished = "SELECT count(*) FROM saga WHERE time_finished IS NULL";
    nexus_tests::eventually("every operation ends", async || {
        api.database.number(unfinished).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_cancels_nothing() {
    let api = Api::start().await;
    api.project_with("web", json!({ "instances": 1_000 })).await;
    let name = |number: usize| format!("i{number:03}");
    let count = 80;
    let stays = || STAYS.into_iter().cycle().enumerate().take(count);
    let requests = stays().map(|(number, stay)| {
        let body = json!({ "name": name(number), "vcpus": 1, "memory_bytes": super::MIB });
        ask(&api, post("/v1/projects/web/instances", &body), stay)
    });
    futures::future::join_all(requests).await;
    let begun = "SELECT count(*) FROM saga WHERE name = 'instance-create'";
    nexus_tests::eventually("all have begun", async || {
        usize::try_from(api.database.number(begun).await).unwrap() == count
    })
    .await;
    rest(&api).await;
    let page = api.get("/v1/instances?limit=1000").await.body;
    let items = page["items"].as_array().unwrap();
    assert_eq!(items.len(), count);
    assert!(items.iter().all(|item| item["state"] == "stopped"));
    let quota = api.get("/v1/projects/web/quota").await.body;
    assert_eq!(quota["instances"]["used"], count);

    let requests = stays().map(|(number, stay)| {
        let path = format!("/v1/projects/web/instances/{}", name(number));
        ask(&api, head("DELETE", &path) + "\r\n", stay)
    });
    futures::future::join_all(requests).await;
    nexus_tests::eventually("all are gone", async || {
        api.get("/v1/instances").await.body["items"] == json!([])
    })
    .await;
    rest(&api).await;
    let quota = api.get("/v1/projects/web/quota").await.body;
    assert_eq!(quota["instances"]["used"], 0);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_while_its_operation_waits_cancels_nothing() {
    let api = Api::start().await;
    let holder = api.database.client().await;
    holder
        .batch_execute("BEGIN; SELECT * FROM fleet_quota FOR UPDATE")
        .await
        .unwrap();
    let requests = (0..20).map(|number| {
        let body = json!({ "name": format!("p{number}") });
        ask(
            &api,
            post("/v1/projects", &body),
            Some(Duration::from_millis(200)),
        )
    });
    futures::future::join_all(requests).await;
    assert_eq!(api.get("/v1/projects").await.body["items"], json!([]));
    holder.batch_execute("ROLLBACK").await.unwrap();
    nexus_tests::eventually("all are active", async || {
        let page = api.get("/v1/projects").await.body;
        let items = page["items"].as_array().unwrap();
        items.len() == 20 && items.iter().all(|item| item["state"] == "active")
    })
    .await;
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_its_side_only_is_answered() {
    let api = Api::start().await;
    let requests = (0..20).map(async |number| {
        let mut stream = api.connect().await;
        let request = post("/v1/projects", &json!({ "name": format!("p{number}") }));
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer:?}");
    });
    futures::future::join_all(requests).await;
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_one_batch_is_made_though_its_caller_hangs_up() {
    let api = Api::start().await;
    api.project("web").await;
    let holder = api.database.client().await;
    holder
        .batch_execute("BEGIN; SELECT * FROM project_quota FOR UPDATE")
        .await
        .unwrap();
    let request = post("/v1/projects/web/quota", &json!({ "vcpus": 7 })).replacen("POST", "PUT", 1);
    ask(&api, request, Some(Duration::from_millis(200))).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    nexus_tests::eventually("the limit is set", async || {
        api.get("/v1/projects/web/quota").await.body["vcpus"]["limit"] == 7
    })
    .await;
    api.end().await;
}
