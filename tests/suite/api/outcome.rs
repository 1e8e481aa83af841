//! How operations ended, as they tell it later.

use std::time::Duration;

use db_model::types::Name;
use nexus_tests::script::{Cue, Script};
use reqwest::Method;
use sagas::Outcome;
use sagas::saga::{InstanceCreate, instance_create};
use serde_json::json;
use uuid::Uuid;

use super::MIB;
use super::client::{Api, probed, redacted};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_tells_later_what_its_caller_was_told() {
    let api = Api::start().await;
    let limits = json!({ "instances": 2, "vcpus": 1 });
    api.project_with("web", limits).await;
    api.instance("web", "one").await;
    // Durable before anything else: otherwise a refusal leaves nothing to look at.
    let durable = |method, path| {
        api.request(method, path)
            .header("prefer", "respond-async, wait=30")
    };
    let create = async |name: &str| {
        let body = json!({ "name": name, "vcpus": 1, "memory_bytes": MIB });
        let create = durable(Method::POST, "/v1/projects/web/instances");
        api.send(create.json(&body)).await.body
    };
    let exceeded = create("two").await;
    api.put("/v1/projects/web/quota", &json!({ "vcpus": 9 }))
        .await;
    let taken = create("one").await;
    let delete = durable(Method::DELETE, "/v1/projects/web");
    let not_empty = api.send(delete).await.body;
    for (code, problem) in [
        ("quota_exceeded", exceeded),
        ("name_taken", taken),
        ("not_empty", not_empty),
    ] {
        assert_eq!(problem["error_code"], code);
        let id = problem["operation_id"].as_str().unwrap();
        let operation = api.get(&format!("/v1/operations/{id}")).await.body;
        assert_eq!(operation["state"], "failed");
        assert_eq!(operation["error"], problem);
        let failed = &operation["nodes"][0];
        assert_eq!(
            (&failed["state"], &failed["error"]),
            (&json!("failed"), &problem)
        );
        assert_eq!(operation["nodes"][1]["state"], "pending");
        if code == "quota_exceeded" {
            insta::assert_json_snapshot!(redacted(&operation), @r#"
            {
              "edges": [
                {
                  "from": "insert",
                  "to": "stop"
                }
              ],
              "error": {
                "detail": "the project quota of vcpus would be exceeded: 1 of 1 used, 1 requested",
                "error_code": "quota_exceeded",
                "operation_id": "[id 1]",
                "quota": {
                  "limit": 1,
                  "requested": 1,
                  "resource": "vcpus",
                  "scope": "project",
                  "scope_id": "[id 2]",
                  "used": 1
                },
                "request_id": "[id 3]",
                "status": 409,
                "title": "The quota would be exceeded",
                "type": "urn:nexus:problem:quota_exceeded"
              },
              "id": "[id 1]",
              "kind": "instance-create",
              "nodes": [
                {
                  "attempts": 1,
                  "duration_us": "[duration]",
                  "error": {
                    "detail": "the project quota of vcpus would be exceeded: 1 of 1 used, 1 requested",
                    "error_code": "quota_exceeded",
                    "operation_id": "[id 1]",
                    "quota": {
                      "limit": 1,
                      "requested": 1,
                      "resource": "vcpus",
                      "scope": "project",
                      "scope_id": "[id 2]",
                      "used": 1
                    },
                    "request_id": "[id 3]",
                    "status": 409,
                    "title": "The quota would be exceeded",
                    "type": "urn:nexus:problem:quota_exceeded"
                  },
                  "kind": "db",
                  "name": "insert",
                  "state": "failed",
                  "time_finished": "[time]",
                  "time_started": "[time]"
                },
                {
                  "kind": "db",
                  "name": "stop",
                  "state": "pending"
                }
              ],
              "project_id": "[id 2]",
              "resource": {
                "id": "[id 4]",
                "kind": "instance",
                "name": "two"
              },
              "stalled": false,
              "state": "failed",
              "time_created": "[time]",
              "time_finished": "[time]"
            }
            "#);
        }
        let listed = api.get("/v1/operations?state=failed").await.body;
        let listed = listed["items"].as_array().unwrap();
        assert_eq!(
            listed.iter().find(|item| item["id"] == id).unwrap()["error"],
            problem
        );
    }
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_undone_is_seen_node_by_node() {
    let api = Api::start().await;
    let project = api.project("web").await;
    let script = Script::default();
    script.set(vec![Cue::fail("stop")]);
    let other = probed(&api.database, script).await;
    let project_id: Uuid = project["id"].as_str().unwrap().parse().unwrap();
    let name = Name::new("one").unwrap();
    let params = instance_create::Params::new(project_id, name, String::new(), 1, MIB);
    let mut saga = other
        .submit::<InstanceCreate>(params, "by-hand")
        .await
        .unwrap();
    let outcome = saga.outcome().await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    let operation = api.get(&format!("/v1/operations/{}", saga.id())).await.body;
    insta::assert_json_snapshot!(redacted(&operation), @r#"
    {
      "edges": [
        {
          "from": "insert",
          "to": "stop"
        }
      ],
      "error": {
        "detail": "the database gave an answer that nobody expected",
        "error_code": "internal",
        "operation_id": "[id 1]",
        "request_id": "by-hand",
        "status": 500,
        "title": "An internal error",
        "type": "urn:nexus:problem:internal"
      },
      "id": "[id 1]",
      "kind": "instance-create",
      "nodes": [
        {
          "attempts": 1,
          "duration_us": "[duration]",
          "kind": "db",
          "name": "insert",
          "state": "undone",
          "time_finished": "[time]",
          "time_started": "[time]",
          "time_undo_finished": "[time]",
          "time_undo_started": "[time]",
          "undo_attempts": 1,
          "undo_duration_us": "[duration]"
        },
        {
          "attempts": 1,
          "duration_us": "[duration]",
          "error": {
            "detail": "the database gave an answer that nobody expected",
            "error_code": "internal",
            "operation_id": "[id 1]",
            "request_id": "by-hand",
            "status": 500,
            "title": "An internal error",
            "type": "urn:nexus:problem:internal"
          },
          "kind": "db",
          "name": "stop",
          "state": "failed",
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
      "state": "failed",
      "time_created": "[time]",
      "time_finished": "[time]"
    }
    "#);
    assert_eq!(api.get("/v1/projects/web/instances/one").await.status, 404);
    other.drain(Duration::from_secs(5)).await;
    api.end().await;
}
