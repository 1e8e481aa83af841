//! The whole document, checked.

use super::*;
use std::collections::BTreeSet;

fn parsed() -> Value {
    serde_json::from_str(&document()).unwrap()
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.push((format!("{method} {path}"), operation));
        }
    }
    found
}

fn walk<'a>(value: &'a Value, see: &mut impl FnMut(&str, &'a Value)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                see(key, value);
                walk(value, see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
        _ => {}
    }
}

#[test]
fn the_checked_in_document_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi/nexus.json");
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == document(),
        "run: cargo run -q -- openapi > openapi/nexus.json"
    );
}

#[test]
fn no_reference_dangles_and_no_schema_is_idle() {
    let document = parsed();
    let mut used = BTreeSet::new();
    walk(&document, &mut |key, value| {
        if key == "$ref" {
            let reference = value.as_str().unwrap();
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
            used.insert(reference.rsplit('/').next().unwrap());
        }
    });
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in schemas.keys() {
        assert!(used.contains(name.as_str()), "{name} is not used");
    }
}

#[test]
fn every_operation_is_whole() {
    let document = parsed();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    let operations = operations(&document);
    assert_eq!(operations.len(), 18);
    for (name, operation) in operations {
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap()),
            "{name}"
        );
        assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{name}");
        for text in ["summary", "description"] {
            assert!(
                !operation[text].as_str().unwrap_or_default().is_empty(),
                "{name}: {text}"
            );
        }
        for status in ["400", "500", "503"] {
            assert!(
                operation["responses"][status].is_object(),
                "{name}: {status}"
            );
        }
        if name.contains('{') {
            assert!(operation["responses"]["404"].is_object(), "{name}");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let described = parameter["description"].is_string() || parameter["$ref"].is_string();
            assert!(described, "{name}: {parameter}");
        }
    }
}

#[test]
fn every_body_has_an_example() {
    let document = parsed();
    for (name, operation) in operations(&document) {
        let mut contents = vec![&operation["requestBody"]["content"]];
        let responses = operation["responses"].as_object().unwrap();
        contents.extend(responses.values().map(|response| &response["content"]));
        for (media, content) in contents.into_iter().filter_map(Value::as_object).flatten() {
            let example = &content["example"];
            assert!(
                example.is_object() || content["examples"].is_object(),
                "{name} {media}"
            );
        }
    }
}

#[test]
fn every_code_that_an_endpoint_names_exists() {
    let (_, document) = router::routes().split_for_parts();
    let document = serde_json::to_value(document).unwrap();
    for (name, operation) in operations(&document) {
        for code in operation["x-error-codes"].as_array().into_iter().flatten() {
            assert!(
                ErrorCode::ALL.iter().any(|known| code == known.as_str()),
                "{name}: {code}"
            );
        }
    }
}
