//! Projects over HTTP.

use reqwest::Method;
use serde_json::json;

use super::client::{Api, redacted};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_is_created_viewed_listed_and_deleted() {
    let api = Api::start().await;
    let body = json!({ "name": "web", "description": "Ünïcode ☂" });
    let created = api.post("/v1/projects", &body).await;
    assert_eq!(created.status, 201);
    insta::assert_json_snapshot!(redacted(&created.body), @r#"
    {
      "description": "Ünïcode ☂",
      "id": "[id 1]",
      "name": "web",
      "state": "active",
      "time_created": "[time]",
      "time_modified": "[time]"
    }
    "#);
    let id = created.body["id"].as_str().unwrap();
    assert_eq!(created.header("location"), format!("/v1/projects/{id}"));
    let tag = created.header("etag");
    assert!(
        tag.starts_with(&format!("\"{id}-")) && tag.ends_with('"'),
        "{tag}"
    );
    assert_eq!(created.body["time_created"].as_str().unwrap().len(), 27);

    for path in ["/v1/projects/web".to_owned(), format!("/v1/projects/{id}")] {
        let viewed = api.get(&path).await;
        assert_eq!((viewed.status.as_u16(), &viewed.body), (200, &created.body));
        assert_eq!(viewed.header("etag"), tag);
        assert_eq!(viewed.header("content-type"), "application/json");
    }
    let listed = api.get("/v1/projects").await;
    assert_eq!(
        listed.body,
        json!({ "items": [created.body], "next_page": null })
    );

    let deleted = api.delete("/v1/projects/web").await;
    assert_eq!(
        (deleted.status.as_u16(), deleted.body.is_null()),
        (204, true)
    );
    for path in ["/v1/projects/web".to_owned(), format!("/v1/projects/{id}")] {
        assert_eq!(api.get(&path).await.status, 404);
        assert_eq!(api.delete(&path).await.status, 404);
    }
    assert_eq!(api.get("/v1/projects").await.body["items"], json!([]));
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_has_the_limits_of_its_creator_and_otherwise_the_defaults() {
    let api = Api::start().await;
    api.project("plain").await;
    let viewed = api.get("/v1/projects/plain/quota").await;
    insta::assert_json_snapshot!(viewed.body, @r#"
    {
      "instances": {
        "limit": 100,
        "used": 0
      },
      "memory_bytes": {
        "limit": 1099511627776,
        "used": 0
      },
      "vcpus": {
        "limit": 400,
        "used": 0
      }
    }
    "#);
    api.project_with(
        "some",
        json!({ "instances": 0, "vcpus": 9_007_199_254_740_992_i64 }),
    )
    .await;
    let viewed = api.get("/v1/projects/some/quota").await;
    insta::assert_json_snapshot!(viewed.body, @r#"
    {
      "instances": {
        "limit": 0,
        "used": 0
      },
      "memory_bytes": {
        "limit": 1099511627776,
        "used": 0
      },
      "vcpus": {
        "limit": 9007199254740992,
        "used": 0
      }
    }
    "#);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_free_again_after_a_delete() {
    let api = Api::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let project = api.project("web").await;
        let instance = api.instance("web", "one").await;
        ids.extend([project["id"].clone(), instance["id"].clone()]);
        assert_eq!(
            api.delete("/v1/projects/web/instances/one").await.status,
            204
        );
        let again = api.instance("web", "one").await;
        ids.push(again["id"].clone());
        assert_eq!(
            api.delete("/v1/projects/web/instances/one").await.status,
            204
        );
        assert_eq!(api.delete("/v1/projects/web").await.status, 204);
    }
    // A name lives on; ids do not.
    for id in &ids {
        let path = format!("/v1/projects/{}", id.as_str().unwrap());
        assert_eq!(api.get(&path).await.status, 404);
    }
    ids.sort_by_key(ToString::to_string);
    ids.dedup();
    assert_eq!(ids.len(), 9);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_named_with_its_kind() {
    let api = Api::start().await;
    api.project("web").await;
    let nobody = "0199c0de-0000-7000-8000-000000000001";
    let mut asked = Vec::new();
    for project in ["nobody", nobody] {
        for path in ["", "/quota", "/instances", "/instances/one"] {
            asked.push((format!("/v1/projects/{project}{path}"), "project", project));
        }
    }
    for instance in ["nobody", nobody] {
        asked.push((
            format!("/v1/projects/web/instances/{instance}"),
            "instance",
            instance,
        ));
    }
    asked.push((format!("/v1/operations/{nobody}"), "operation", nobody));
    asked.push((
        "/v1/operations?project=nobody".to_owned(),
        "project",
        "nobody",
    ));
    for (path, kind, which) in asked {
        let answer = api.get(&path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.body["error_code"], "not_found", "{path}");
        assert_eq!(
            answer.body["detail"],
            format!("there is no {kind} {which}"),
            "{path}"
        );
    }
    let one = json!({ "name": "one", "vcpus": 1, "memory_bytes": super::MIB });
    for (method, path, body) in [
        (Method::DELETE, "/v1/projects/nobody", None),
        (Method::PUT, "/v1/projects/nobody/quota", Some(json!({}))),
        (Method::POST, "/v1/projects/nobody/instances", Some(one)),
        (Method::DELETE, "/v1/projects/nobody/instances/one", None),
        (Method::DELETE, "/v1/projects/web/instances/nobody", None),
    ] {
        let request = api.request(method, path);
        let request = body
            .iter()
            .fold(request, |request, body| request.json(body));
        let answer = api.send(request).await;
        assert_eq!(answer.body["error_code"], "not_found", "{path}");
        assert!(
            answer.body["detail"].as_str().unwrap().ends_with(" nobody"),
            "{path}"
        );
        // Refused before there was an operation.
        assert!(answer.body["operation_id"].is_null(), "{path}");
    }
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_never_taken_for_a_name() {
    let api = Api::start().await;
    let project = api.project("web").await;
    let id = project["id"].as_str().unwrap();
    let other = api.project("api").await;
    // Text that a UUID reader takes too is an id, and a name never looks like one.
    let upper = id.to_uppercase();
    assert_eq!(
        api.get(&format!("/v1/projects/{upper}")).await.body,
        project
    );
    for name in [
        id,
        "a0b1c2d3-0000-4000-8000-000000000000",
        "a0b1c2d3000040008000000000000000",
    ] {
        let refused = api.post("/v1/projects", &json!({ "name": name })).await;
        assert_eq!(refused.status, 400, "{name}");
        assert_eq!(refused.body["errors"][0]["detail"], "must not be a UUID");
    }
    // An instance is found in its own project only.
    let instance = api.instance("web", "one").await;
    let instance = instance["id"].as_str().unwrap();
    let other = other["id"].as_str().unwrap();
    for (project, status) in [("web", 200), (id, 200), ("api", 404), (other, 404)] {
        for which in ["one", instance] {
            let path = format!("/v1/projects/{project}/instances/{which}");
            assert_eq!(api.get(&path).await.status, status, "{path}");
        }
    }
    api.end().await;
}
