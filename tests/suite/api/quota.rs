//! Quotas over HTTP: their views, and their limits.

use reqwest::Method;
use serde_json::{Value, json};

use super::MIB;
use super::client::Api;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_a_project_are_changed_one_by_one() {
    let api = Api::start().await;
    api.project_with(
        "web",
        json!({ "instances": 1, "vcpus": 2, "memory_bytes": 3 }),
    )
    .await;
    let path = "/v1/projects/web/quota";
    let before = api.get(path).await;
    for (body, limits) in [
        (json!({ "instances": 10 }), [10, 2, 3]),
        (json!({ "vcpus": 20 }), [10, 20, 3]),
        (json!({ "memory_bytes": 30, "instances": 0 }), [0, 20, 30]),
        (json!({}), [0, 20, 30]),
        (json!({ "vcpus": 4.2e1 }), [0, 42, 30]),
    ] {
        let changed = api.put(path, &body).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        let viewed = api.get(path).await;
        assert_eq!(changed.body, viewed.body);
        assert_eq!(changed.header("etag"), viewed.header("etag"));
        let found =
            ["instances", "vcpus", "memory_bytes"].map(|name| viewed.body[name]["limit"].clone());
        assert_eq!(found, limits.map(Value::from), "{body}");
    }
    assert_ne!(before.header("etag"), api.get(path).await.header("etag"));
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_the_fleet_is_changed() {
    let api = Api::start().await;
    api.project("web").await;
    let viewed = api.get("/v1/fleet/quota").await;
    insta::assert_json_snapshot!(viewed.body, @r#"
    {
      "projects": {
        "limit": 1000,
        "used": 1
      }
    }
    "#);
    let changed = api.put("/v1/fleet/quota", &json!({ "projects": 7 })).await;
    insta::assert_json_snapshot!(changed.body, @r#"
    {
      "projects": {
        "limit": 7,
        "used": 1
      }
    }
    "#);
    let viewed = api.get("/v1/fleet/quota").await;
    assert_eq!(viewed.body, changed.body);
    assert_eq!(viewed.header("etag"), changed.header("etag"));
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_below_what_is_used_takes_nothing_away_and_gives_nothing_more() {
    let api = Api::start().await;
    api.project("web").await;
    for name in ["one", "two", "three"] {
        api.instance("web", name).await;
    }
    let quota = "/v1/projects/web/quota";
    let lowered = api
        .put(quota, &json!({ "instances": 1, "memory_bytes": MIB }))
        .await;
    insta::assert_json_snapshot!(lowered.body, @r#"
    {
      "instances": {
        "limit": 1,
        "used": 3
      },
      "memory_bytes": {
        "limit": 1048576,
        "used": 3145728
      },
      "vcpus": {
        "limit": 400,
        "used": 3
      }
    }
    "#);
    let refused = api.try_instance("web", "four").await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.body["quota"]["limit"], 1);
    assert_eq!(refused.body["quota"]["used"], 3);
    // Room comes back only once the use is below the limit.
    for (name, status) in [("one", 409), ("two", 409), ("three", 201)] {
        assert_eq!(
            api.delete(&format!("/v1/projects/web/instances/{name}"))
                .await
                .status,
            204
        );
        assert_eq!(
            api.try_instance("web", "four").await.status,
            status,
            "after {name}"
        );
    }

    api.put("/v1/fleet/quota", &json!({ "projects": 0 })).await;
    let refused = api.post("/v1/projects", &json!({ "name": "api" })).await;
    assert_eq!(refused.body["quota"]["limit"], 0);
    assert_eq!(refused.body["quota"]["used"], 1);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_changed_only_at_the_tag_that_is_named() {
    let api = Api::start().await;
    api.project("web").await;
    for (path, body) in [
        ("/v1/projects/web/quota", json!({ "vcpus": 5 })),
        ("/v1/fleet/quota", json!({ "projects": 5 })),
    ] {
        let put = |tag: &str| {
            let request = api.request(Method::PUT, path).json(&body);
            api.send(request.header("If-Match", tag))
        };
        let first = api.get(path).await.header("etag").to_owned();
        let changed = put(&first).await;
        assert_eq!(changed.status, 200, "{path}");
        let second = changed.header("etag").to_owned();
        assert_ne!(first, second);
        let weak = format!("W/{second}");
        for stale in [first.as_str(), weak.as_str(), "\"other\""] {
            let refused = put(stale).await;
            assert_eq!(
                refused.body["error_code"], "precondition_failed",
                "{path} {stale}"
            );
            assert!(refused.body["detail"].as_str().unwrap().contains(&second));
        }
        for good in [second.clone(), "*".to_owned()] {
            assert_eq!(put(&good).await.status, 200, "{path} {good}");
        }
        let now = api.get(path).await.header("etag").to_owned();
        let either = put(&format!("\"other\", {now}")).await;
        assert_eq!(either.status, 200, "{path}");
        for bad in ["", "x", "\"open"] {
            let refused = put(bad).await;
            assert_eq!(
                refused.body["errors"][0]["field"], "if-match",
                "{path} {bad:?}"
            );
        }
    }
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_that_the_caller_has_are_not_sent_again() {
    let api = Api::start().await;
    api.project("web").await;
    api.instance("web", "one").await;
    for path in [
        "/v1/projects/web",
        "/v1/projects/web/quota",
        "/v1/fleet/quota",
        "/v1/projects/web/instances/one",
    ] {
        let tag = api.get(path).await.header("etag").to_owned();
        let view = |known: String| {
            api.send(
                api.request(Method::GET, path)
                    .header("If-None-Match", known),
            )
        };
        for known in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"a\", {tag}"),
            "*".to_owned(),
        ] {
            let answer = view(known).await;
            assert_eq!(
                (answer.status.as_u16(), answer.body.is_null()),
                (304, true),
                "{path}"
            );
            assert_eq!(answer.header("etag"), tag);
        }
        assert_eq!(view("\"other\"".to_owned()).await.status, 200, "{path}");
        assert_eq!(view("bare".to_owned()).await.status, 400, "{path}");
    }
    api.end().await;
}
