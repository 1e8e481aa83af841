//! The service itself: its version, its health.

use super::client::Api;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_says_what_it_is_and_that_it_is_ready() {
    let api = Api::start().await;
    let version = api.get("/v1/version").await;
    assert_eq!(version.status, 200);
    assert_eq!(version.body["version"], env!("CARGO_PKG_VERSION"));
    let mut body = version.body;
    body["version"] = "[version]".into();
    insta::assert_json_snapshot!(body, @r#"
    {
      "api_version": "v1",
      "name": "nexus",
      "version": "[version]"
    }
    "#);

    let healthy = api.send_to(&api.admin_url("/healthz")).await;
    assert_eq!(healthy.status, 200);
    insta::assert_json_snapshot!(healthy.body, @r#"
    {
      "healthy": true
    }
    "#);
    nexus_tests::eventually("it is ready", async || {
        api.send_to(&api.admin_url("/readyz")).await.status == 200
    })
    .await;
    let ready = api.send_to(&api.admin_url("/readyz")).await;
    insta::assert_json_snapshot!(ready.body, @r#"
    {
      "missing": [],
      "ready": true
    }
    "#);
    assert!(!ready.header("x-request-id").is_empty());
    api.end().await;
}
