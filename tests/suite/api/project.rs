//! Projects over HTTP.

use nexus_tests::TestService;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_is_created_viewed_and_deleted() {
    let service = TestService::start().await;
    let created = service
        .post("/v1/projects", &json!({ "name": "web" }))
        .await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(service.get("/v1/projects/web").await.body, created.body);
    assert_eq!(service.delete("/v1/projects/web").await.status, 204);
    assert_eq!(service.get("/v1/projects/web").await.status, 404);
    service.end().await;
}
