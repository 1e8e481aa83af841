//! Refusals: each with its numbers, names and ids, and never a 5xx.

use std::time::Duration;

use db_model::read;
use db_model::types::{Name, NameOrId};
use reqwest::Method;
use sagas::Executor;
use sagas::saga::{
    InstanceCreate, InstanceDelete, ProjectCreate, ProjectDelete, instance_create, instance_delete,
    project_create, project_delete,
};
use serde_json::{Value, json};

use super::MIB;
use super::client::{Api, halting, redacted};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charge_beyond_a_limit_is_refused_with_its_numbers() {
    let api = Api::start().await;
    let limits = json!({ "instances": 2, "vcpus": 10, "memory_bytes": 10 * MIB });
    let project = api.project_with("web", limits).await;
    let create = async |name: &str, vcpus: i64, mebibytes: i64| {
        let body = json!({ "name": name, "vcpus": vcpus, "memory_bytes": mebibytes * MIB });
        api.post("/v1/projects/web/instances", &body).await
    };
    assert_eq!(create("one", 4, 3).await.status, 201);
    let vcpus = create("two", 7, 1).await;
    insta::assert_json_snapshot!(redacted(&vcpus.body), @r#"
    {
      "detail": "the project quota of vcpus would be exceeded: 4 of 10 used, 7 requested",
      "error_code": "quota_exceeded",
      "quota": {
        "limit": 10,
        "requested": 7,
        "resource": "vcpus",
        "scope": "project",
        "scope_id": "[id 1]",
        "used": 4
      },
      "request_id": "[id 2]",
      "status": 409,
      "title": "The quota would be exceeded",
      "type": "urn:nexus:problem:quota_exceeded"
    }
    "#);
    assert_eq!(vcpus.body["quota"]["scope_id"], project["id"]);
    for (name, asked, resource, numbers) in [
        ("two", (1, 8), "memory_bytes", [10 * MIB, 3 * MIB, 8 * MIB]),
        // More than one is short: the first is named.
        ("two", (7, 8), "vcpus", [10, 4, 7]),
    ] {
        let refused = create(name, asked.0, asked.1).await;
        assert_refused(&refused.body, "project", resource, numbers);
    }
    // What just fits is given.
    assert_eq!(create("two", 6, 7).await.status, 201);
    let refused = create("three", 1, 1).await;
    assert_refused(&refused.body, "project", "instances", [2, 2, 1]);

    let fleet = api.put("/v1/fleet/quota", &json!({ "projects": 1 })).await;
    let refused = api.post("/v1/projects", &json!({ "name": "api" })).await;
    assert_refused(&refused.body, "fleet", "projects", [1, 1, 1]);
    let tag = fleet.header("etag");
    let scope_id = refused.body["quota"]["scope_id"].as_str().unwrap();
    assert!(tag.starts_with(&format!("\"{scope_id}-")), "{tag}");
    assert_eq!(api.get("/v1/projects/api").await.status, 404);
    api.end().await;
}

/// Holds a refused charge against its scope, its resource, and limit, use and request.
fn assert_refused(problem: &Value, scope: &str, resource: &str, numbers: [i64; 3]) {
    assert_eq!(problem["status"], 409);
    assert_eq!(problem["error_code"], "quota_exceeded");
    let quota = &problem["quota"];
    assert_eq!(
        (&quota["scope"], &quota["resource"]),
        (&json!(scope), &json!(resource))
    );
    let found = ["limit", "used", "requested"].map(|name| quota[name].as_i64().unwrap());
    assert_eq!(found, numbers, "{resource}");
    assert!(
        problem["operation_id"].is_null(),
        "it has left an operation"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_name_says_who_has_it() {
    let api = Api::start().await;
    let project = api.project("web").await;
    let instance = api.instance("web", "one").await;
    let refused = api.post("/v1/projects", &json!({ "name": "web" })).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.body["existing_id"], project["id"]);
    insta::assert_json_snapshot!(redacted(&refused.body), @r#"
    {
      "detail": "the project name \"web\" is taken by [id 1]",
      "error_code": "name_taken",
      "existing_id": "[id 1]",
      "request_id": "[id 2]",
      "status": 409,
      "title": "The name is taken",
      "type": "urn:nexus:problem:name_taken"
    }
    "#);
    let refused = api.try_instance("web", "one").await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.body["error_code"], "name_taken");
    assert_eq!(refused.body["existing_id"], instance["id"]);
    // What was charged before the name was found taken is given back.
    let quota = api.get("/v1/projects/web/quota").await;
    assert_eq!(quota.body["instances"]["used"], 1);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_with_instances_names_the_first_twenty() {
    let api = Api::start().await;
    api.project("web").await;
    let names: Vec<_> = (0..25).map(|number| format!("i{number:02}")).collect();
    // Not in the order of their names.
    futures::future::join_all(names.iter().rev().map(|name| api.instance("web", name))).await;
    let refused = api.delete("/v1/projects/web").await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.body["error_code"], "not_empty");
    assert_eq!(refused.body["blockers"]["instances"], 25);
    let first = refused.body["blockers"]["first"].as_array().unwrap();
    let named: Vec<_> = first
        .iter()
        .map(|blocker| blocker["name"].as_str().unwrap())
        .collect();
    assert_eq!(named, names[..20]);
    for blocker in [&first[0], &first[19]] {
        let path = format!(
            "/v1/projects/web/instances/{}",
            blocker["id"].as_str().unwrap()
        );
        assert_eq!(api.get(&path).await.body["name"], blocker["name"]);
    }
    // The project is as it was.
    assert_eq!(api.get("/v1/projects/web").await.body["state"], "active");
    api.instance("web", "more").await;
    api.end().await;
}

/// Begins the saga whose `node` halts another process, on project `web` and instance `one` or, for
/// projects, on project `half`; gives its id once it lies still.
pub async fn begin(api: &Api, other: &Executor, node: &str) -> String {
    let reads = api.database.pools().reads;
    let web = NameOrId::Name(Name::new("web").unwrap());
    let project = read::project::view(&reads, &web).await.unwrap();
    let begun = match node {
        "insert" => {
            let project_id = project.unwrap().id;
            let name = Name::new("one").unwrap();
            let params = instance_create::Params::new(project_id, name, String::new(), 1, MIB);
            let mut saga = other
                .submit::<InstanceCreate>(params, "other")
                .await
                .unwrap();
            (saga.id(), format!("{:?}", saga.outcome().await))
        }
        "retire" => {
            let one = NameOrId::Name(Name::new("one").unwrap());
            let instance = read::instance::view(&reads, project.unwrap().id, &one).await;
            let params = instance_delete::Params::new(&instance.unwrap().unwrap(), None);
            let mut saga = other
                .submit::<InstanceDelete>(params, "other")
                .await
                .unwrap();
            (saga.id(), format!("{:?}", saga.outcome().await))
        }
        "close" => {
            let params = project_delete::Params::new(&project.unwrap(), None);
            let mut saga = other
                .submit::<ProjectDelete>(params, "other")
                .await
                .unwrap();
            (saga.id(), format!("{:?}", saga.outcome().await))
        }
        _ => panic!("nothing halts at {node}"),
    };
    assert_eq!(begun.1, "Lost");
    begun.0.to_string()
}

/// Begins to create project `web`, and leaves it half made.
pub async fn begin_project(other: &Executor) -> String {
    let limits = nexus_tests::fixture::WIDE;
    let name = Name::new("web").unwrap();
    let params = project_create::Params::new(name, String::new(), limits);
    let mut saga = other
        .submit::<ProjectCreate>(params, "other")
        .await
        .unwrap();
    assert_eq!(format!("{:?}", saga.outcome().await), "Lost");
    saga.id().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_is_half_made_or_half_gone_takes_nothing() {
    let api = Api::start().await;
    for state in ["creating", "deleting"] {
        let node = if state == "creating" {
            "insert"
        } else {
            "close"
        };
        let other = halting(&api.database, node).await;
        let operation = match state {
            "creating" => begin_project(&other).await,
            _ => begin(&api, &other, node).await,
        };
        let viewed = api.get("/v1/projects/web").await;
        assert_eq!(viewed.body["state"], state);
        let create = api.try_instance("web", "one").await;
        let delete = api.delete("/v1/projects/web").await;
        for refused in [create, delete] {
            assert_eq!(refused.status, 409);
            assert_eq!(refused.body["error_code"], "wrong_state");
            assert_eq!(refused.body["state"], state);
        }
        let taken = api.post("/v1/projects", &json!({ "name": "web" })).await;
        assert_eq!(taken.body["error_code"], "name_taken");
        assert_eq!(taken.body["existing_id"], viewed.body["id"]);
        // Limits of a closed project are nobody's.
        let limits = api
            .put("/v1/projects/web/quota", &json!({ "vcpus": 1 }))
            .await;
        assert_eq!(limits.body["error_code"], "wrong_state", "{limits:?}");
        other.drain(Duration::ZERO).await;
        assert_eq!(api.ended(&operation).await["state"], "succeeded");
        let status = api.get("/v1/projects/web").await.status;
        assert_eq!(status, if state == "creating" { 200 } else { 404 });
    }
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_half_made_or_half_gone_is_not_deleted() {
    let api = Api::start().await;
    api.project("web").await;
    let path = "/v1/projects/web/instances/one";
    for (node, state) in [("insert", "creating"), ("retire", "deleting")] {
        let other = halting(&api.database, node).await;
        let operation = begin(&api, &other, node).await;
        let refused = api.delete(path).await;
        assert_eq!(refused.status, 409);
        assert_eq!(refused.body["error_code"], "wrong_state");
        assert_eq!(refused.body["state"], state);
        if state == "deleting" {
            insta::assert_json_snapshot!(redacted(&refused.body), @r#"
            {
              "detail": "instance [id 1] is deleting",
              "error_code": "wrong_state",
              "request_id": "[id 2]",
              "state": "deleting",
              "status": 409,
              "title": "The state does not allow it",
              "type": "urn:nexus:problem:wrong_state"
            }
            "#);
        }
        assert_eq!(
            api.try_instance("web", "one").await.body["error_code"],
            "name_taken"
        );
        assert_eq!(
            api.delete("/v1/projects/web").await.body["error_code"],
            "not_empty"
        );
        other.drain(Duration::ZERO).await;
        assert_eq!(api.ended(&operation).await["state"], "succeeded");
    }
    assert_eq!(api.get(path).await.status, 404);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_goes_ahead_only_at_the_tag_that_is_named() {
    let api = Api::start().await;
    api.project("web").await;
    let delete = |path: &'static str, tag: &str| {
        let request = api.request(Method::DELETE, path).header("If-Match", tag);
        api.send(request)
    };
    api.instance("web", "one").await;
    for path in ["/v1/projects/web/instances/one", "/v1/projects/web"] {
        let tag = api.get(path).await.header("etag").to_owned();
        let (_, generation) = tag.trim_matches('"').rsplit_once('-').unwrap();
        let next = generation.parse::<i64>().unwrap() + 1;
        let other = tag.replace(&format!("-{generation}\""), &format!("-{next}\""));
        for stale in [other, "\"x\"".to_owned(), format!("W/{tag}")] {
            let refused = delete(path, &stale).await;
            assert_eq!(refused.status, 412, "{path} {stale}");
            assert_eq!(refused.body["error_code"], "precondition_failed");
        }
        assert_eq!(delete(path, "nonsense").await.status, 400);
        assert_eq!(delete(path, &tag).await.status, 204, "{path}");
    }
    api.project("web").await;
    assert_eq!(delete("/v1/projects/web", "*").await.status, 204);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_changes_at_one_tag_one_is_made() {
    let api = Api::start().await;
    api.project("web").await;
    for round in 0..10 {
        let tag = api
            .get("/v1/projects/web/quota")
            .await
            .header("etag")
            .to_owned();
        let put = |vcpus: i64| {
            let request = api.request(Method::PUT, "/v1/projects/web/quota");
            api.send(
                request
                    .json(&json!({ "vcpus": vcpus }))
                    .header("If-Match", &tag),
            )
        };
        let answers = futures::future::join_all((0..8).map(put)).await;
        let made = answers.iter().filter(|answer| answer.status == 200).count();
        let refused = answers.iter().filter(|answer| answer.status == 412).count();
        assert_eq!((made, refused), (1, 7), "round {round}");
    }
    // And of two deletes: the other finds nothing, or a project on its way out.
    let deletes = (0..4).map(|_| api.delete("/v1/projects/web"));
    let answers = futures::future::join_all(deletes).await;
    let gone = answers.iter().filter(|answer| answer.status == 204).count();
    assert_eq!(gone, 1);
    for answer in answers.iter().filter(|answer| answer.status != 204) {
        assert!([404, 409].contains(&answer.status.as_u16()), "{answer:?}");
    }
    api.end().await;
}
