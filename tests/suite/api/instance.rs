//! Instances over HTTP.

use reqwest::Method;
use serde_json::json;

use super::MIB;
use super::client::{Api, halting, redacted};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_created_viewed_listed_and_deleted() {
    let api = Api::start().await;
    let project = api.project("web").await;
    let project_id = project["id"].as_str().unwrap();
    let body = json!({
        "name": "front-1", "description": "First", "vcpus": 4, "memory_bytes": 512 * MIB,
    });
    let created = api.post("/v1/projects/web/instances", &body).await;
    assert_eq!(created.status, 201);
    insta::assert_json_snapshot!(redacted(&created.body), @r#"
    {
      "allowed_actions": [
        "delete"
      ],
      "description": "First",
      "id": "[id 1]",
      "memory_bytes": 536870912,
      "name": "front-1",
      "project_id": "[id 2]",
      "state": "stopped",
      "time_created": "[time]",
      "time_modified": "[time]",
      "vcpus": 4
    }
    "#);
    assert_eq!(created.body["project_id"], project["id"]);
    let id = created.body["id"].as_str().unwrap();
    let path = format!("/v1/projects/{project_id}/instances/{id}");
    assert_eq!(created.header("location"), path);
    let tag = created.header("etag");
    assert!(tag.starts_with(&format!("\"{id}-")), "{tag}");

    for project in ["web", project_id] {
        for instance in ["front-1", id] {
            let path = format!("/v1/projects/{project}/instances/{instance}");
            let viewed = api.get(&path).await;
            assert_eq!((viewed.status.as_u16(), &viewed.body), (200, &created.body));
            assert_eq!(viewed.header("etag"), tag);
        }
    }
    let page = json!({ "items": [created.body], "next_page": null });
    for path in ["/v1/instances", "/v1/projects/web/instances"] {
        assert_eq!(api.get(path).await.body, page, "{path}");
    }
    let quota = api.get("/v1/projects/web/quota").await;
    insta::assert_json_snapshot!(quota.body, @r#"
    {
      "instances": {
        "limit": 100,
        "used": 1
      },
      "memory_bytes": {
        "limit": 1099511627776,
        "used": 536870912
      },
      "vcpus": {
        "limit": 400,
        "used": 4
      }
    }
    "#);

    let deleted = api.delete(&path).await;
    assert_eq!(
        (deleted.status.as_u16(), deleted.body.is_null()),
        (204, true)
    );
    assert_eq!(api.get(&path).await.status, 404);
    assert_eq!(api.delete(&path).await.status, 404);
    let quota = api.get("/v1/projects/web/quota").await;
    assert_eq!(quota.body["memory_bytes"]["used"], 0);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_greatest_instance_and_the_smallest_are_made() {
    let api = Api::start().await;
    let wide = json!({ "vcpus": 2_000, "memory_bytes": 1_i64 << 50 });
    api.project_with("web", wide).await;
    let longest = "a".repeat(63);
    let description = "☂".repeat(512);
    for (name, description, vcpus, memory_bytes) in [
        ("a", "", 1, MIB),
        (&longest, &description, 1_024, 16_i64 << 40),
    ] {
        let body = json!({
            "name": name, "description": description, "vcpus": vcpus, "memory_bytes": memory_bytes,
        });
        let created = api.post("/v1/projects/web/instances", &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        for (member, value) in body.as_object().unwrap() {
            assert_eq!(&created.body[member], value);
        }
    }
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_name_may_stand_in_two_projects() {
    let api = Api::start().await;
    for project in ["web", "api"] {
        api.project(project).await;
        api.instance(project, "one").await;
    }
    let all = api.get("/v1/instances").await;
    assert_eq!(all.body["items"].as_array().unwrap().len(), 2);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operation_at_work_on_an_instance_is_named_by_its_view() {
    let api = Api::start().await;
    api.project("web").await;
    for (node, state) in [("insert", "creating"), ("retire", "deleting")] {
        let other = halting(&api.database, node).await;
        let operation = super::refusal::begin(&api, &other, node).await;
        let path = "/v1/projects/web/instances/one";
        let viewed = api.get(path).await;
        assert_eq!(viewed.body["state"], state);
        assert_eq!(viewed.body["operation_id"], operation);
        assert_eq!(viewed.body["allowed_actions"], json!([]));
        // Its tag changes with its state.
        let tag = viewed.header("etag").to_owned();
        other.drain(std::time::Duration::ZERO).await;
        assert_eq!(api.ended(&operation).await["state"], "succeeded");
        let known = api.request(Method::GET, path).header("If-None-Match", tag);
        let status = api.send(known).await.status;
        assert_eq!(status, if node == "insert" { 200 } else { 404 });
    }
    api.end().await;
}
