//! Operations over HTTP: how long a caller waits for one, and what can be seen of it.

use std::time::{Duration, Instant};

use nexus_tests::Answer;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::MIB;
use super::client::{Api, redacted};

async fn preferring(
    api: &Api,
    prefer: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let request = api.request(method, path).header("Prefer", prefer);
    api.send(
        body.iter()
            .fold(request, |request, body| request.json(body)),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_is_accepted_at_once_and_looked_at_later() {
    let api = Api::start().await;
    let one = json!({ "name": "one", "vcpus": 1, "memory_bytes": MIB });
    let instance = "/v1/projects/web/instances/one";
    let mut project_id = Value::Null;
    for (kind, method, path, body) in [
        (
            "project-create",
            Method::POST,
            "/v1/projects",
            Some(json!({ "name": "web" })),
        ),
        (
            "instance-create",
            Method::POST,
            "/v1/projects/web/instances",
            Some(one),
        ),
        ("instance-delete", Method::DELETE, instance, None),
        ("project-delete", Method::DELETE, "/v1/projects/web", None),
    ] {
        let accepted = preferring(&api, "respond-async", method, path, body).await;
        assert_eq!(accepted.status, 202, "{kind}");
        assert_eq!(accepted.header("preference-applied"), "respond-async");
        let id = accepted.body["id"].as_str().unwrap();
        assert_eq!(accepted.header("location"), format!("/v1/operations/{id}"));
        assert_eq!(accepted.body["kind"], kind);
        let ended = api.ended(id).await;
        assert_eq!(ended["state"], "succeeded", "{kind}");
        if kind == "project-create" {
            project_id = ended["project_id"].clone();
            assert_eq!(api.get("/v1/projects/web").await.body["id"], project_id);
        }
        assert_eq!(ended["project_id"], project_id, "{kind}");
        let noun = kind.split('-').next().unwrap();
        let name = if noun == "project" { "web" } else { "one" };
        assert_eq!(ended["resource"]["kind"], noun);
        assert_eq!(ended["resource"]["name"], name);
        if kind == "instance-create" {
            assert_eq!(ended["resource"]["id"], api.get(instance).await.body["id"]);
            insta::assert_json_snapshot!(redacted(&ended), @r#"
            {
              "edges": [
                {
                  "from": "insert",
                  "to": "stop"
                }
              ],
              "id": "[id 1]",
              "kind": "instance-create",
              "nodes": [
                {
                  "attempts": 1,
                  "duration_us": "[duration]",
                  "kind": "db",
                  "name": "insert",
                  "state": "succeeded",
                  "time_finished": "[time]",
                  "time_started": "[time]"
                },
                {
                  "attempts": 1,
                  "duration_us": "[duration]",
                  "kind": "db",
                  "name": "stop",
                  "state": "succeeded",
                  "time_finished": "[time]",
                  "time_started": "[time]"
                }
              ],
              "project_id": "[id 2]",
              "resource": {
                "id": "[id 3]",
                "kind": "instance",
                "name": "one"
              },
              "stalled": false,
              "state": "succeeded",
              "time_created": "[time]",
              "time_finished": "[time]"
            }
            "#);
        }
        for node in ended["nodes"].as_array().unwrap() {
            assert!(
                node["time_started"].as_str() <= node["time_finished"].as_str(),
                "{node}"
            );
            assert!(
                ended["time_created"].as_str() <= node["time_started"].as_str(),
                "{ended}"
            );
        }
        assert!(ended["time_created"].as_str() < ended["time_finished"].as_str());
    }
    assert_eq!(api.get("/v1/projects/web").await.status, 404);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_waits_as_long_as_it_prefers() {
    let api = Api::start().await;
    let create = async |prefer: &str, name: &str| {
        let body = json!({ "name": name });
        preferring(&api, prefer, Method::POST, "/v1/projects", Some(body)).await
    };
    for (prefer, name, status, applied) in [
        ("wait=0", "a", 202, "wait=0"),
        ("wait=20", "b", 201, "wait=20"),
        ("respond-async, wait=20", "c", 201, "respond-async, wait=20"),
        ("wait=999", "d", 201, "wait=120"),
        ("wait=soon", "e", 201, ""),
        ("return=minimal", "f", 201, ""),
    ] {
        let answer = create(prefer, name).await;
        assert_eq!(answer.status, status, "{prefer}");
        assert_eq!(answer.header("preference-applied"), applied, "{prefer}");
    }
    nexus_tests::eventually("all are there", async || {
        let page = api.get("/v1/projects").await.body;
        page["items"].as_array().unwrap().len() == 6
            && page["items"]
                .as_array()
                .unwrap()
                .iter()
                .all(|item| item["state"] == "active")
    })
    .await;

    // One that takes longer than the caller waits.
    let holder = api.database.client().await;
    holder
        .batch_execute("BEGIN; SELECT * FROM fleet_quota FOR UPDATE")
        .await
        .unwrap();
    let begun = Instant::now();
    let slow = create("respond-async, wait=1", "slow").await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(slow.status, 202);
    assert_eq!(slow.header("preference-applied"), "respond-async, wait=1");
    let id = slow.body["id"].as_str().unwrap();
    let running = api.get(&format!("/v1/operations/{id}")).await.body;
    insta::assert_json_snapshot!(redacted(&running), @r#"
    {
      "edges": [
        {
          "from": "insert",
          "to": "activate"
        }
      ],
      "id": "[id 1]",
      "kind": "project-create",
      "nodes": [
        {
          "kind": "db",
          "name": "insert",
          "state": "running"
        },
        {
          "kind": "db",
          "name": "activate",
          "state": "pending"
        }
      ],
      "project_id": "[id 2]",
      "resource": {
        "id": "[id 2]",
        "kind": "project",
        "name": "slow"
      },
      "stalled": false,
      "state": "running",
      "time_created": "[time]"
    }
    "#);
    // Until it is durable there is nothing to look at later, so that is not answered.
    let hasty = create("wait=1", "hasty").await;
    assert_eq!(hasty.status, 503);
    assert_eq!(hasty.header("retry-after"), "1");
    assert!(hasty.body["operation_id"].is_null(), "{:?}", hasty.body);
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(api.ended(id).await["state"], "succeeded");
    assert_eq!(api.get("/v1/projects/slow").await.status, 200);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_request_id_stands_on_the_operation() {
    let api = Api::start().await;
    let create = |name: &str, request_id: &str| {
        let request = api
            .request(Method::POST, "/v1/projects")
            .json(&json!({ "name": name }));
        api.send(request.header("x-request-id", request_id))
    };
    let answer = create("web", "trace/4711").await;
    assert_eq!(answer.header("x-request-id"), "trace/4711");
    // What is refused has the request's id too, and leaves no operation.
    let refused = create("web", "trace/4712").await;
    assert_eq!(refused.body["request_id"], "trace/4712");
    // One that is not usable is replaced, and the answer says by which.
    let replaced = create("api", "not usable").await;
    let id = replaced.header("x-request-id").to_owned();
    assert!(Uuid::try_parse(&id).is_ok(), "{id}");
    let rows = api.database.client().await;
    let rows = rows
        .query("SELECT request_id FROM saga ORDER BY time_created", &[])
        .await
        .unwrap();
    let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(ids, ["trace/4711", &id]);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_are_filtered_by_state_kind_and_project() {
    let api = Api::start().await;
    let web = api.project("web").await;
    let web = web["id"].as_str().unwrap();
    api.project("api").await;
    api.instance("web", "one").await;
    api.instance("api", "one").await;
    let again = json!({ "name": "one", "vcpus": 1, "memory_bytes": MIB });
    let path = "/v1/projects/web/instances";
    let prefer = "respond-async, wait=30";
    let taken = preferring(&api, prefer, Method::POST, path, Some(again)).await;
    assert_eq!(taken.status, 409);
    api.delete("/v1/projects/web/instances/one").await;
    let find = async |query: &str| {
        let page = api
            .get(&format!("/v1/operations?sort_by=time_created&{query}"))
            .await;
        assert_eq!(page.status, 200, "{query}");
        let items = page.body["items"].as_array().unwrap().iter();
        let text = |item: &Value| format!("{} {}", item["kind"], item["state"]).replace('"', "");
        items.map(text).collect::<Vec<_>>()
    };
    let created = "instance-create succeeded";
    assert_eq!(find("").await.len(), 6);
    assert_eq!(find("state=failed").await, ["instance-create failed"]);
    assert_eq!(find("state=running").await.len(), 0);
    assert_eq!(find("state=stuck").await.len(), 0);
    assert_eq!(find("state=succeeded").await.len(), 5);
    assert_eq!(
        find("kind=instance-create&state=succeeded").await,
        [created; 2]
    );
    assert_eq!(
        find("kind=instance-create&state=succeeded&project=api").await,
        [created]
    );
    let all = [
        "project-create succeeded",
        created,
        "instance-create failed",
        "instance-delete succeeded",
    ];
    assert_eq!(find("project=web").await, all);
    // By its id also after it is gone; by its name no longer.
    assert_eq!(api.delete("/v1/projects/web").await.status, 204);
    assert_eq!(find(&format!("project={web}")).await.len(), 5);
    assert_eq!(api.get("/v1/operations?project=web").await.status, 404);
    assert_eq!(find(&format!("project={}", Uuid::nil())).await.len(), 0);
    let newest = api.get("/v1/operations?limit=1").await.body;
    assert_eq!(newest["items"][0]["kind"], "project-delete");
    insta::assert_json_snapshot!(redacted(&newest), @r#"
    {
      "items": [
        {
          "id": "[id 1]",
          "kind": "project-delete",
          "project_id": "[id 2]",
          "resource": {
            "id": "[id 2]",
            "kind": "project",
            "name": "web"
          },
          "state": "succeeded",
          "time_created": "[time]",
          "time_finished": "[time]"
        }
      ],
      "next_page": "[token]"
    }
    "#);
    api.end().await;
}
