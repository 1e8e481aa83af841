//! Limits under load: never exceeded, never lost, and every refusal with true numbers.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use futures::future::join_all;
use nexus_tests::Answer;
use serde_json::{Value, json};

use super::MIB;
use super::client::Api;

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

/// Sorts answers to creates: how many were made, and the quotas of the refusals.
fn sort(answers: &[Answer]) -> (usize, Vec<&Value>) {
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    let quota = |answer: &&'_ Answer| {
        assert_eq!(answer.status, 409, "{answer:?}");
        assert_eq!(answer.body["error_code"], "quota_exceeded");
    };
    refused.iter().for_each(quota);
    (
        made.len(),
        refused
            .into_iter()
            .map(|answer| &answer.body["quota"])
            .collect(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixty_four_clients_exactly_twenty_get_the_twenty_instances() {
    let api = Api::start().await;
    let project = api.project_with("web", json!({ "instances": 20 })).await;
    let names: Vec<_> = (0..64).map(|number| format!("i{number}")).collect();
    let answers = join_all(names.iter().map(|name| api.try_instance("web", name))).await;
    let (made, refused) = sort(&answers);
    assert_eq!((made, refused.len()), (20, 44));
    let told = json!({
        "scope": "project", "scope_id": project["id"], "resource": "instances",
        "limit": 20, "used": 20, "requested": 1,
    });
    assert!(refused.iter().all(|quota| **quota == told), "{refused:?}");
    let rows = "SELECT count(*) FROM instance WHERE time_deleted IS NULL AND state = 'stopped'";
    assert_eq!(api.database.number(rows).await, 20);
    assert_eq!(
        api.database.number("SELECT count(*) FROM instance").await,
        20
    );
    let quota = api.get("/v1/projects/web/quota").await.body;
    assert_eq!(quota["instances"], json!({ "limit": 20, "used": 20 }));
    assert_eq!(quota["vcpus"]["used"], 20);
    assert_eq!(quota["memory_bytes"]["used"], 20 * MIB);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixty_four_clients_exactly_twenty_get_the_twenty_projects() {
    let api = Api::start_with(|config| config.database.write_pool_size = 16).await;
    api.put("/v1/fleet/quota", &json!({ "projects": 20 })).await;
    let bodies: Vec<_> = (0..64)
        .map(|number| json!({ "name": format!("p{number}") }))
        .collect();
    let answers = join_all(bodies.iter().map(|body| api.post("/v1/projects", body))).await;
    let (made, refused) = sort(&answers);
    assert_eq!((made, refused.len()), (20, 44));
    for quota in refused {
        assert_eq!(
            (&quota["scope"], &quota["resource"]),
            (&json!("fleet"), &json!("projects"))
        );
        let numbers = ["limit", "used", "requested"].map(|name| number(&quota[name]));
        assert_eq!(numbers, [20, 20, 1]);
    }
    let rows = "SELECT count(*) FROM project WHERE time_deleted IS NULL AND state = 'active'";
    assert_eq!(api.database.number(rows).await, 20);
    let quota = api.get("/v1/fleet/quota").await.body;
    assert_eq!(quota["projects"], json!({ "limit": 20, "used": 20 }));
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixty_four_clients_exactly_one_gets_the_name() {
    let api = Api::start().await;
    api.project("web").await;
    let answers = join_all((0..64).map(|_| api.try_instance("web", "one"))).await;
    let made: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 201)
        .collect();
    assert_eq!(made.len(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.body["error_code"], "name_taken", "{answer:?}");
        assert_eq!(answer.body["existing_id"], made[0].body["id"]);
    }
    let quota = api.get("/v1/projects/web/quota").await.body;
    assert_eq!(quota["instances"]["used"], 1);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_and_deletes_churn_at_the_limit() {
    let api = Api::start().await;
    api.project_with("web", json!({ "instances": 4 })).await;
    let made = AtomicI64::new(0);
    let refused = AtomicI64::new(0);
    let client = async |client: usize| {
        for round in 0..10 {
            let name = format!("i{client}-{round}");
            let answer = api.try_instance("web", &name).await;
            if answer.status == 201 {
                made.fetch_add(1, Ordering::Relaxed);
                let path = format!("/v1/projects/web/instances/{name}");
                assert_eq!(api.delete(&path).await.status, 204);
                continue;
            }
            assert_eq!(answer.body["error_code"], "quota_exceeded", "{answer:?}");
            let numbers =
                ["limit", "used", "requested"].map(|name| number(&answer.body["quota"][name]));
            assert_eq!(numbers, [4, 4, 1]);
            refused.fetch_add(1, Ordering::Relaxed);
        }
    };
    join_all((0..8).map(client)).await;
    let (made, refused) = (made.into_inner(), refused.into_inner());
    assert_eq!(made + refused, 80);
    assert!(made >= 10 && refused > 0, "{made} made, {refused} refused");
    let quota = api.get("/v1/projects/web/quota").await.body;
    for resource in ["instances", "vcpus", "memory_bytes"] {
        assert_eq!(quota[resource]["used"], 0);
    }
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_changed_under_load() {
    let api = Api::start().await;
    api.project_with("web", json!({ "instances": 6 })).await;
    let done = AtomicBool::new(false);
    let changes = async {
        let mut changes = 0;
        while !done.load(Ordering::Relaxed) {
            let limit = [2, 6, 0, 4][changes % 4];
            let changed = api
                .put("/v1/projects/web/quota", &json!({ "instances": limit }))
                .await;
            assert_eq!(changed.status, 200, "{changed:?}");
            assert_eq!(changed.body["instances"]["limit"], limit);
            assert!(
                number(&changed.body["instances"]["used"]) <= 6,
                "{changed:?}"
            );
            changes += 1;
        }
        changes
    };
    let client = async |client: usize| {
        for round in 0..10 {
            let name = format!("i{client}-{round}");
            let answer = api.try_instance("web", &name).await;
            if answer.status == 201 {
                let path = format!("/v1/projects/web/instances/{name}");
                assert_eq!(api.delete(&path).await.status, 204);
            } else {
                // The numbers are of one moment, and say themselves why.
                assert_eq!(answer.body["error_code"], "quota_exceeded", "{answer:?}");
                let quota = &answer.body["quota"];
                let [limit, used] = ["limit", "used"].map(|name| number(&quota[name]));
                assert!(used + 1 > limit && used <= 6, "{quota}");
                assert!([0, 2, 4, 6].contains(&limit), "{quota}");
            }
        }
    };
    let load = async {
        join_all((0..8).map(client)).await;
        done.store(true, Ordering::Relaxed);
    };
    let (changes, ()) = tokio::join!(changes, load);
    assert!(changes >= 8, "only {changes} changes");
    let quota = api.get("/v1/projects/web/quota").await.body;
    assert_eq!(quota["instances"]["used"], 0);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_and_the_end_of_its_project_exclude_each_other() {
    let api = Api::start().await;
    for round in 0..8 {
        let project = format!("p{round}");
        api.project(&project).await;
        let creates = join_all((0..4).map(|number| {
            let (api, project) = (&api, &project);
            async move { api.try_instance(project, &format!("i{number}")).await }
        }));
        let path = format!("/v1/projects/{project}");
        let (creates, delete) = tokio::join!(creates, api.delete(&path));
        let made = creates.iter().filter(|answer| answer.status == 201).count();
        match delete.status.as_u16() {
            204 => assert_eq!(made, 0, "round {round}"),
            _ => assert_eq!(
                delete.body["error_code"], "not_empty",
                "round {round}: {delete:?}"
            ),
        }
        for answer in creates.iter().filter(|answer| answer.status != 201) {
            let code = answer.body["error_code"].as_str().unwrap();
            assert!(
                ["not_found", "wrong_state"].contains(&code),
                "round {round}: {answer:?}"
            );
        }
    }
    api.end().await;
}
