//! The OpenAPI document and the documentation, as they are served.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::Api;
use super::contract::DOCUMENT;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_that_is_served_is_the_one_that_is_checked_in() {
    let api = Api::start().await;
    let served = api
        .client
        .get(api.url("/openapi.json"))
        .send()
        .await
        .unwrap();
    assert_eq!(served.headers()["content-type"], "application/json");
    let checked_in = include_str!("../../../openapi/nexus.json");
    assert!(served.text().await.unwrap() == checked_in);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documentation_needs_nothing_from_elsewhere() {
    let api = Api::start().await;
    for path in ["/docs", "/docs/", "/docs/index.html"] {
        let page = api.client.get(api.url(path)).send().await.unwrap();
        assert_eq!(page.status(), 200, "{path}");
        assert!(
            page.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );
    }
    let page = api.get("/docs/").await;
    let html = page.body.as_str().unwrap();
    let mut assets = Vec::new();
    for attribute in ["src=\"", "href=\""] {
        let values = html
            .split(attribute)
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap());
        assets.extend(values.map(|value| value.trim_start_matches("./").to_owned()));
    }
    assert!(assets.len() >= 4, "{assets:?}");
    for asset in &assets {
        assert!(!asset.contains("//"), "{asset} is elsewhere");
        let path = if asset.starts_with('/') {
            asset.clone()
        } else {
            format!("/docs/{asset}")
        };
        let answer = api.client.get(api.url(&path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let text = answer.bytes().await.unwrap();
        assert!(!text.is_empty(), "{path}");
        let text = String::from_utf8_lossy(&text);
        if asset.ends_with(".css") {
            assert!(
                !text.contains("url(http") && !text.contains("@import"),
                "{path}"
            );
        }
        if asset.ends_with("swagger-initializer.js") {
            assert!(!text.contains("://"), "{text}");
            assert!(text.contains("/openapi.json"), "{text}");
            // Without this the page asks a validator in the internet.
            assert!(text.contains(r#""validatorUrl": "none""#), "{text}");
        }
    }
    assert!(
        !html.contains("http://") && !html.contains("https://"),
        "{html}"
    );
    assert!(
        assets
            .iter()
            .any(|asset| asset.ends_with("swagger-initializer.js"))
    );
    let missing = api
        .client
        .get(api.url("/docs/none.js"))
        .send()
        .await
        .unwrap();
    assert_eq!(missing.status(), 404);
    api.end().await;
}

/// Each operation's method and path, with what it says.
fn operations() -> BTreeMap<String, (Method, String, &'static Value)> {
    let mut operations = BTreeMap::new();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            operations.insert(id, (method, path.clone(), operation));
        }
    }
    operations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_of_a_request_does_what_it_says() {
    let api = Api::start().await;
    let operations = operations();
    let order = [
        "project_create",
        "instance_create",
        "fleet_quota_update",
        "project_quota_update",
        "project_list",
        "project_view",
        "project_quota_view",
        "fleet_quota_view",
        "instance_list",
        "fleet_instance_list",
        "instance_view",
        "operation_list",
        "operation_view",
        "operation_event_list",
        "version_view",
        "event_list",
        "instance_delete",
        "project_delete",
    ];
    let mut known: Vec<_> = operations.keys().map(String::as_str).collect();
    known.sort_by_key(|id| order.iter().position(|other| other == id));
    assert_eq!(known, order, "an operation is in no order yet");
    let mut operation_id = Value::Null;
    for id in order {
        let (method, path, operation) = &operations[id];
        let (mut path, mut query, mut headers) = (path.clone(), Vec::new(), Vec::new());
        for parameter in operation["parameters"].as_array().unwrap() {
            let name = parameter["name"].as_str().unwrap_or_default();
            // The example is of an operation that is not.
            let example = if name == "operation" {
                &operation_id
            } else {
                &parameter["example"]
            };
            let text = example
                .as_str()
                .map_or_else(|| example.to_string(), str::to_owned);
            match parameter["in"].as_str() {
                Some("path") => path = path.replace(&format!("{{{name}}}"), &text),
                Some("query") if !example.is_null() => query.push(format!("{name}={text}")),
                // Only looked at by those who wait for the answer.
                Some("header") if !example.is_null() && name != "Prefer" => {
                    headers.push((name.to_owned(), text));
                }
                _ => {}
            }
        }
        let mut request = api.request(method.clone(), &format!("{path}?{}", query.join("&")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let body = &operation["requestBody"]["content"]["application/json"]["example"];
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = api.send(request).await;
        assert!(answer.status.is_success(), "{id}: {answer:?}");
        for (member, value) in body.as_object().into_iter().flatten() {
            let echoed = answer.body[member]
                .get("limit")
                .unwrap_or(&answer.body[member]);
            assert!(
                echoed == value || member == "quota",
                "{id}: {member} is {echoed}"
            );
        }
        if id == "operation_list" {
            operation_id = answer.body["items"][0]["id"].clone();
        }
    }
    assert_eq!(api.get("/v1/projects").await.body["items"], json!([]));
    api.end().await;
}
