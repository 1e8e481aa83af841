//! The bound on operations that run at once.

use reqwest::Method;
use serde_json::json;

use super::client::{Api, redacted};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bound_an_operation_is_refused_for_now() {
    let api = Api::start_with(|config| config.sagas_running_max = 3).await;
    let create = |name: String| {
        let request = api
            .request(Method::POST, "/v1/projects")
            .json(&json!({ "name": name }));
        api.send(request.header("Prefer", "respond-async"))
    };
    let holder = api.database.client().await;
    holder
        .batch_execute("BEGIN; SELECT * FROM fleet_quota FOR UPDATE")
        .await
        .unwrap();
    for number in 0..3 {
        assert_eq!(create(format!("p{number}")).await.status, 202);
    }
    for number in 3..6 {
        let refused = create(format!("p{number}")).await;
        assert_eq!(refused.status, 503);
        assert_eq!(refused.header("retry-after"), "1");
        if number == 3 {
            let mut problem = redacted(&refused.body);
            problem["request_id"] = "[id]".into();
            insta::assert_json_snapshot!(problem, @r#"
            {
              "detail": "3 operations run here already, which is the limit",
              "error_code": "unavailable",
              "request_id": "[id]",
              "status": 503,
              "title": "The service is not available now",
              "type": "urn:nexus:problem:unavailable"
            }
            "#);
        }
    }
    // Reads, and changes of one batch, go on.
    assert_eq!(api.get("/v1/projects").await.status, 200);
    let running = api.get("/v1/operations?state=running").await.body;
    assert_eq!(running["items"].as_array().unwrap().len(), 3);
    holder.batch_execute("ROLLBACK").await.unwrap();
    nexus_tests::eventually("there is room again", async || {
        create("p3".to_owned()).await.status == 202
    })
    .await;
    nexus_tests::eventually("four are there, and what was refused is not", async || {
        let page = api.get("/v1/projects").await.body;
        let items = page["items"].as_array().unwrap();
        items.len() == 4 && items.iter().all(|item| item["state"] == "active")
    })
    .await;
    // No place is lost, whatever became of those who had it.
    for _ in 0..10 {
        let taken = api.post("/v1/projects", &json!({ "name": "p0" })).await;
        assert_eq!(taken.status, 409);
    }
    // Who waits and is refused has left no operation.
    assert_eq!(
        api.get("/v1/operations").await.body["items"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    api.end().await;
}
