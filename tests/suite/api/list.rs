//! Lists: pages in every order, that nothing moves while others change the list.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::client::Api;

const ORDERS: [&str; 4] = ["name", "-name", "time_created", "-time_created"];

/// Names in an order that is neither that of the alphabet nor its reverse.
const NAMES: [&str; 11] = [
    "kiwi", "a", "zebra", "b-1", "b1", "b", "mango", "a-a", "x9", "x10", "date",
];

/// Walks a list by pages of three.
async fn walk(api: &Api, path: &str, order: &str) -> Vec<Vec<Value>> {
    let joint = if path.contains('?') { '&' } else { '?' };
    let mut pages = Vec::new();
    let mut next = format!("{path}{joint}limit=3&sort_by={order}");
    loop {
        let page = api.get(&next).await;
        assert_eq!(page.status, 200, "{next}");
        pages.push(page.body["items"].as_array().unwrap().clone());
        let Some(token) = page.body["next_page"].as_str() else {
            return pages;
        };
        // The order comes with the token, and may be said again.
        next = match pages.len() % 2 {
            0 => format!("{path}{joint}limit=3&sort_by={order}&page_token={token}"),
            _ => format!("{path}{joint}limit=3&page_token={token}"),
        };
    }
}

/// What an item is sorted by.
fn keys(item: &Value, order: &str) -> (String, String) {
    let name = item.get("name").or(item["resource"].get("name")).unwrap();
    let key = if order.ends_with("name") {
        name
    } else {
        &item["time_created"]
    };
    (key.as_str().unwrap().to_owned(), id(item))
}

fn id(item: &Value) -> String {
    item["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_list_is_walked_in_every_order() {
    let api = Api::start().await;
    for name in NAMES {
        api.project(name).await;
    }
    for name in NAMES {
        api.instance("kiwi", name).await;
    }
    for project in ["a", "b"] {
        api.instance(project, "kiwi").await;
    }
    for (path, count) in [
        ("/v1/projects", 11),
        ("/v1/projects/kiwi/instances", 11),
        ("/v1/instances", 13),
        ("/v1/operations", 24),
        ("/v1/operations?kind=instance-create&state=succeeded", 13),
    ] {
        for order in ORDERS {
            let pages = walk(&api, path, order).await;
            let (last, full) = pages.split_last().unwrap();
            assert!(
                full.len() >= 3 && full.iter().all(|page| page.len() == 3),
                "{path}"
            );
            assert!(!last.is_empty(), "{path}");
            let items: Vec<_> = pages.concat();
            let found: Vec<_> = items.iter().map(|item| keys(item, order)).collect();
            let mut sorted = found.clone();
            sorted.sort();
            if order.starts_with('-') {
                sorted.reverse();
            }
            assert_eq!(found, sorted, "{path} by {order}");
            let distinct: BTreeSet<_> = items.iter().map(id).collect();
            assert_eq!(
                (items.len(), distinct.len()),
                (count, count),
                "{path} by {order}"
            );
            // The same as in one piece, whose limit is the greatest.
            let joint = if path.contains('?') { '&' } else { '?' };
            let whole = format!("{path}{joint}limit=1000&sort_by={order}");
            let whole = api.get(&whole).await.body;
            assert_eq!(
                whole,
                json!({ "items": items, "next_page": null }),
                "{path} by {order}"
            );
        }
    }
    // A list whose last page is full has no page behind it.
    let exact = api.get("/v1/projects?limit=11").await.body;
    assert!(exact["next_page"].is_null());
    // Without a limit there are a hundred; without an order it is by name.
    let plain = api.get("/v1/projects").await.body;
    assert_eq!(plain["items"][0]["name"], "a");
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stays_is_listed_once_while_the_list_changes() {
    let api = Api::start().await;
    for order in ORDERS {
        let project = format!("p-{}", order.trim_matches('-').replace('_', "-"));
        if api.get(&format!("/v1/projects/{project}")).await.status == 404 {
            api.project(&project).await;
        }
        let list = format!("/v1/projects/{project}/instances");
        for number in 0..12 {
            api.instance(&project, &format!("m{number:02}")).await;
        }
        let mut staying: BTreeSet<_> = (0..12).map(|number| format!("m{number:02}")).collect();
        let mut seen = Vec::new();
        let mut next = format!("{list}?limit=3&sort_by={order}");
        let mut round = 0;
        loop {
            let page = api.get(&next).await.body;
            let items = page["items"].as_array().unwrap();
            seen.extend(
                items
                    .iter()
                    .map(|item| item["name"].as_str().unwrap().to_owned()),
            );
            let Some(token) = page["next_page"].as_str() else {
                break;
            };
            next = format!("{list}?limit=3&page_token={token}");
            // New ones at both ends, and the very item that the token points behind goes.
            for place in ["a", "z"] {
                api.instance(&project, &format!("{place}-{round}")).await;
            }
            let last = seen.last().unwrap().clone();
            assert_eq!(api.delete(&format!("{list}/{last}")).await.status, 204);
            // And one that is still to come.
            if round == 0 {
                let far = if order.starts_with('-') { "m01" } else { "m10" };
                assert_eq!(api.delete(&format!("{list}/{far}")).await.status, 204);
                staying.remove(far);
            }
            round += 1;
            assert!(round < 50, "{order}: the walk has no end");
        }
        let distinct: BTreeSet<_> = seen.iter().cloned().collect();
        assert_eq!(distinct.len(), seen.len(), "{order}: {seen:?}");
        assert!(staying.is_subset(&distinct), "{order}: {seen:?}");
        let gone = if order.starts_with('-') { "m01" } else { "m10" };
        assert!(!distinct.contains(gone), "{order}: {seen:?}");
        // For the next order.
        let rest = api.get(&format!("{list}?limit=1000")).await.body;
        for item in rest["items"].as_array().unwrap() {
            let path = format!("{list}/{}", item["id"].as_str().unwrap());
            assert_eq!(api.delete(&path).await.status, 204);
        }
    }
    api.end().await;
}
