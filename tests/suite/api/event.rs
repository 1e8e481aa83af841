//! The change feed over HTTP.

use nexus_tests::eventually;
use nexus_tests::feed::published;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Api;

/// A page of the feed.
async fn page(api: &Api, query: &str) -> Value {
    let answer = api.get(&format!("/v1/events{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

fn kinds(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    let kind = |item: &Value| item["kind"].as_str().unwrap().to_owned();
    items.iter().map(kind).collect()
}

fn token(page: &Value) -> String {
    page["next_page"].as_str().unwrap().to_owned()
}

/// Each kind of change once, in a service whose events are all published then.
async fn changed() -> (Api, Value) {
    let api = Api::start().await;
    let project = api.project("web").await;
    api.instance("web", "one").await;
    let taken = api.post("/v1/projects", &json!({ "name": "web" })).await;
    assert_eq!(taken.status, 409);
    for (path, body) in [
        ("/v1/projects/web/quota", json!({ "instances": 7 })),
        ("/v1/fleet/quota", json!({ "projects": 9 })),
    ] {
        assert_eq!(api.put(path, &body).await.status, 200);
    }
    for path in ["/v1/projects/web/instances/one", "/v1/projects/web"] {
        assert_eq!(api.delete(path).await.status, 204);
    }
    published(&api.database.client().await).await;
    (api, project)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_is_told_once_and_in_order() {
    let (api, project) = changed().await;
    let whole = page(&api, "").await;
    assert_eq!(
        kinds(&whole),
        [
            "project.created",
            "instance.created",
            "project.quota_updated",
            "fleet.quota_updated",
            "instance.deleted",
            "project.deleted",
        ]
    );
    assert_eq!(whole["has_more"], false);
    let items = whole["items"].as_array().unwrap();
    insta::assert_json_snapshot!(items[2], {
        ".id" => "[id]", ".project_id" => "[project]", ".resource.id" => "[project]", ".time_recorded" => "[time]",
    }, @r#"
    {
      "id": "[id]",
      "kind": "project.quota_updated",
      "project_id": "[project]",
      "resource": {
        "generation": 4,
        "id": "[project]",
        "kind": "project_quota",
        "name": "web"
      },
      "sequence": 3,
      "time_recorded": "[time]"
    }
    "#);
    assert_eq!(items[0]["resource"]["id"], project["id"]);
    assert_eq!(items[3]["resource"]["kind"], "fleet_quota");
    assert!(items[3].get("project_id").is_none());
    for (item, operation) in [
        (&items[1], "instance-create"),
        (&items[5], "project-delete"),
    ] {
        let path = format!("/v1/operations/{}", item["operation_id"].as_str().unwrap());
        assert_eq!(api.get(&path).await.body["kind"], operation);
    }

    // By pages it is the same; behind the end there is a token, and later there are events.
    let mut paged = Vec::new();
    let mut query = "?limit=4".to_owned();
    for (count, has_more) in [(4, true), (2, false), (0, false)] {
        let page = page(&api, &query).await;
        assert_eq!(page["items"].as_array().unwrap().len(), count);
        assert_eq!(page["has_more"], has_more);
        paged.extend(page["items"].as_array().unwrap().clone());
        query = format!("?limit=4&page_token={}", token(&page));
    }
    assert_eq!(Value::from(paged), whole["items"]);
    api.project("later").await;
    published(&api.database.client().await).await;
    assert_eq!(kinds(&page(&api, &query).await), ["project.created"]);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_is_filtered_by_kind_and_by_a_project_that_may_be_deleted() {
    let (api, project) = changed().await;
    api.project("other").await;
    published(&api.database.client().await).await;
    let id = project["id"].as_str().unwrap();
    let filtered = page(&api, &format!("?project={id}&limit=1")).await;
    assert_eq!(kinds(&filtered), ["project.created"]);
    assert_eq!(filtered["has_more"], true);
    let query = format!("?project={id}&page_token={}", token(&filtered));
    let rest = page(&api, &query).await;
    assert_eq!(
        kinds(&rest),
        [
            "instance.created",
            "project.quota_updated",
            "instance.deleted",
            "project.deleted",
        ]
    );
    assert_eq!(rest["has_more"], false, "{rest}");
    let named = page(&api, "?project=other").await;
    assert_eq!(kinds(&named), ["project.created"]);
    let created = page(&api, "?kind=project.created").await;
    assert_eq!(kinds(&created), ["project.created", "project.created"]);
    assert_eq!(api.get("/v1/events?project=web").await.status, 404);

    // A token belongs to its filter, and to the feed.
    let list = api.get("/v1/projects?limit=1").await.body;
    assert!(list["next_page"].is_null());
    for (query, rule) in [
        (format!("?page_token={}", token(&filtered)), "mismatch"),
        (
            format!("?kind=project.created&page_token={}", token(&rest)),
            "mismatch",
        ),
        ("?page_token=abc".to_owned(), "syntax"),
        ("?kind=project.renamed".to_owned(), "choice"),
        ("?limit=0".to_owned(), "out_of_range"),
        ("?sort_by=name".to_owned(), "unknown"),
    ] {
        let answer = api.get(&format!("/v1/events{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.body["errors"][0]["rule"], rule, "{query}");
    }
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_history_is_refused() {
    let (api, _) = changed().await;
    let first = page(&api, "?limit=1").await;
    let third = page(&api, "?limit=3").await;
    // The last event that was read need not be one that passed the filter.
    let kind = "?kind=project.created";
    let filtered = page(&api, kind).await;
    assert_eq!(kinds(&filtered), ["project.created"]);
    let filtered = format!("{kind}&page_token={}", token(&filtered));
    let rest = page(&api, &filtered).await;
    assert_eq!((kinds(&rest).len(), &rest["has_more"]), (0, &json!(false)));
    // The backup knows of the first one only, and of no operation or change of limits. Life goes on.
    let client = api.database.client().await;
    let restore = "BEGIN; DELETE FROM event WHERE sequence > 1; DELETE FROM saga_event; DELETE FROM saga; \
                   DELETE FROM harness.limit_change; DELETE FROM harness.event_gone; \
                   UPDATE event_feed SET last_sequence = 1; COMMIT";
    client.batch_execute(restore).await.unwrap();
    let last = "SELECT last_sequence FROM event_feed";
    let go_on = "INSERT INTO event (id, kind, resource_id, resource_name, resource_generation) \
                 SELECT gen_random_uuid(), 'project.created', gen_random_uuid(), 'n' || n, 2 \
                 FROM generate_series(1, 9) AS n";
    client.batch_execute(go_on).await.unwrap();
    eventually("the others are published", async || {
        api.database.number(last).await == 10
    })
    .await;
    for query in [format!("?page_token={}", token(&third)), filtered] {
        let answer = api.get(&format!("/v1/events{query}")).await;
        assert_eq!(answer.status, 410, "{answer:?}");
        assert_eq!(answer.body["error_code"], "events_expired");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains("restored from an older copy"), "{detail}");
    }
    // What both histories have in common leads on.
    let rest = page(&api, &format!("?page_token={}", token(&first))).await;
    assert_eq!(rest["items"][0]["sequence"], 2);
    assert_eq!(kinds(&rest).len(), 9);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_behind_what_was_purged_is_told_that_it_missed_events() {
    let (api, _) = changed().await;
    let first = page(&api, "?limit=1").await;
    let third = page(&api, "?limit=3").await;
    let client = api.database.client().await;
    client
        .batch_execute(
            "BEGIN; UPDATE event_feed SET purged_sequence = 3; DELETE FROM event WHERE sequence <= 3; COMMIT",
        )
        .await
        .unwrap();
    let expired = api
        .get(&format!("/v1/events?page_token={}", token(&first)))
        .await;
    assert_eq!(expired.status, 410);
    assert_eq!(expired.body["error_code"], "events_expired");
    assert_eq!(
        expired.body["detail"],
        "the events 2 to 3 have been purged; list projects and instances anew, and read the feed from its \
         beginning, without page_token"
    );
    // Who had read them all misses none, and who begins now begins with the oldest.
    for query in [format!("?page_token={}", token(&third)), String::new()] {
        let page = page(&api, &query).await;
        assert_eq!(page["items"][0]["sequence"], 4, "{query}");
        assert_eq!(kinds(&page).len(), 3);
    }
    let delete = api.request(Method::DELETE, "/v1/events");
    assert_eq!(api.send(delete).await.status, 405);
    api.end().await;
}
