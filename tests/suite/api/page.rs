//! Queries of lists that are refused: limits, orders, tokens, filters.

use reqwest::Method;
use serde_json::json;

use super::client::Api;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_breaks_a_rule_is_refused_with_parameter_and_rule() {
    let api = Api::start().await;
    api.project("web").await;
    let lists = [
        "/v1/projects",
        "/v1/projects/web/instances",
        "/v1/instances",
        "/v1/operations",
    ];
    for (query, field, rule) in [
        ("limit=0", "limit", "out_of_range"),
        ("limit=1001", "limit", "out_of_range"),
        ("limit=99999999999999999999", "limit", "out_of_range"),
        ("limit=abc", "limit", "type"),
        ("limit=-1", "limit", "type"),
        ("limit=1.0", "limit", "type"),
        ("limit=", "limit", "type"),
        ("limit", "limit", "type"),
        ("limit=1&limit=2", "limit", "duplicate"),
        ("sort_by=size", "sort_by", "choice"),
        ("sort_by=", "sort_by", "choice"),
        ("sort_by=Name", "sort_by", "choice"),
        ("page_token=garbage", "page_token", "syntax"),
        ("page_token=", "page_token", "syntax"),
        ("page_token=e30", "page_token", "syntax"),
        ("page_token=%00", "page_token", "nul"),
        ("page_token=%FF", "page_token", "utf8"),
        ("page_token=%", "page_token", "syntax"),
        ("page_token=%4", "page_token", "syntax"),
        ("page_token=%zz", "page_token", "syntax"),
        ("colour=red", "colour", "unknown"),
        ("LIMIT=1", "LIMIT", "unknown"),
        ("=1", "", "unknown"),
        ("%ff=1", "query", "utf8"),
    ] {
        for list in lists {
            let answer = api.get(&format!("{list}?{query}")).await;
            assert_eq!(answer.status, 400, "{list}?{query}");
            let error = &answer.body["errors"][0];
            assert_eq!(
                (&error["field"], &error["rule"]),
                (&json!(field), &json!(rule)),
                "{list}?{query}"
            );
        }
    }
    let long = "A".repeat(5_000);
    assert_eq!(
        api.get(&format!("/v1/projects?page_token={long}"))
            .await
            .status,
        400
    );
    let all = api
        .get("/v1/operations?limit=0&sort_by=x&state=y&kind=z&w=1")
        .await;
    assert_eq!(all.body["errors"].as_array().unwrap().len(), 5);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_that_break_a_rule_are_refused() {
    let api = Api::start().await;
    for (query, field, rule) in [
        ("state=unwinding", "state", "choice"),
        ("state=", "state", "choice"),
        ("kind=instance", "kind", "choice"),
        ("kind=", "kind", "choice"),
        ("project=Web", "project", "name"),
        ("project=", "project", "name"),
        ("project=%00", "project", "nul"),
    ] {
        let answer = api.get(&format!("/v1/operations?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        let error = &answer.body["errors"][0];
        assert_eq!(
            (&error["field"], &error["rule"]),
            (&json!(field), &json!(rule)),
            "{query}"
        );
    }
    // Filters of one list are unknown to another.
    assert_eq!(api.get("/v1/projects?state=active").await.status, 400);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_take_no_query_refuse_any() {
    let api = Api::start().await;
    api.project("web").await;
    api.instance("web", "one").await;
    let body = json!({ "name": "two", "vcpus": 1, "memory_bytes": super::MIB });
    let operation = api.get("/v1/operations?limit=1").await.body["items"][0]["id"].clone();
    let operation = format!("/v1/operations/{}", operation.as_str().unwrap());
    for (method, path, body) in [
        (Method::POST, "/v1/projects", Some(json!({ "name": "api" }))),
        (Method::GET, "/v1/projects/web", None),
        (Method::GET, "/v1/projects/web/quota", None),
        (Method::PUT, "/v1/projects/web/quota", Some(json!({}))),
        (Method::GET, "/v1/fleet/quota", None),
        (
            Method::PUT,
            "/v1/fleet/quota",
            Some(json!({ "projects": 1 })),
        ),
        (Method::POST, "/v1/projects/web/instances", Some(body)),
        (Method::GET, "/v1/projects/web/instances/one", None),
        (Method::DELETE, "/v1/projects/web/instances/one", None),
        (Method::DELETE, "/v1/projects/web", None),
        (Method::GET, operation.as_str(), None),
        (Method::GET, "/v1/version", None),
    ] {
        let request = api.request(method.clone(), &format!("{path}?force=true"));
        let request = body
            .iter()
            .fold(request, |request, body| request.json(body));
        let answer = api.send(request).await;
        assert_eq!(answer.status, 400, "{method} {path}");
        assert_eq!(answer.body["errors"][0]["field"], "force");
        assert_eq!(answer.body["errors"][0]["rule"], "unknown");
    }
    // Nothing of it was done.
    let projects = api.get("/v1/fleet/quota").await.body;
    assert_eq!(projects["projects"], json!({ "limit": 1_000, "used": 1 }));
    assert_eq!(
        api.get("/v1/projects/web/instances").await.body["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_holds_for_its_list_its_filters_and_its_order_only() {
    let api = Api::start().await;
    for project in ["web", "api"] {
        api.project(project).await;
        api.instance(project, "one").await;
        api.instance(project, "two").await;
    }
    let token = async |list: &str| {
        let page = api.get(list).await.body;
        page["next_page"]
            .as_str()
            .unwrap_or_else(|| panic!("{list} has no next page"))
            .to_owned()
    };
    let projects = token("/v1/projects?limit=1").await;
    let web = token("/v1/projects/web/instances?limit=1").await;
    let all = token("/v1/instances?limit=1").await;
    let operations = token("/v1/operations?limit=1&state=succeeded").await;
    for (path, token, status) in [
        ("/v1/projects?", &projects, 200),
        ("/v1/projects?limit=7&sort_by=name&", &projects, 200),
        ("/v1/projects?sort_by=-name&", &projects, 400),
        ("/v1/projects?sort_by=time_created&", &projects, 400),
        ("/v1/instances?", &projects, 400),
        ("/v1/projects/web/instances?", &web, 200),
        ("/v1/projects/api/instances?", &web, 400),
        ("/v1/instances?", &web, 400),
        ("/v1/projects/web/instances?", &all, 400),
        ("/v1/operations?state=succeeded&", &operations, 200),
        ("/v1/operations?", &operations, 400),
        ("/v1/operations?state=failed&", &operations, 400),
        (
            "/v1/operations?state=succeeded&kind=instance-create&",
            &operations,
            400,
        ),
        (
            "/v1/operations?state=succeeded&project=web&",
            &operations,
            400,
        ),
        (
            "/v1/operations?state=succeeded&sort_by=name&",
            &operations,
            400,
        ),
    ] {
        let answer = api.get(&format!("{path}page_token={token}")).await;
        assert_eq!(answer.status, status, "{path}");
        if status == 400 {
            let error = &answer.body["errors"][0];
            assert_eq!(
                (&error["field"], &error["rule"]),
                (&json!("page_token"), &json!("mismatch"))
            );
        }
    }
    // The project's name and its id are the same list.
    let id = api.get("/v1/projects/web").await.body["id"].clone();
    let by_id = format!(
        "/v1/projects/{}/instances?page_token={web}",
        id.as_str().unwrap()
    );
    assert_eq!(api.get(&by_id).await.status, 200);
    // A token that lost a character is none.
    let cut = &projects[..projects.len() - 1];
    assert_eq!(
        api.get(&format!("/v1/projects?page_token={cut}"))
            .await
            .status,
        400
    );
    api.end().await;
}
