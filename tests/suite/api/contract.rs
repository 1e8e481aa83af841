//! What holds for every answer: what the OpenAPI document says of it, and what is said of problems.

use std::sync::LazyLock;

use nexus_tests::Answer;
use serde_json::{Map, Value};

/// The document as it is checked in.
pub static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../openapi/nexus.json")).unwrap());

/// Holds an answer against the document.
pub fn hold(method: &str, path: &str, answer: &Answer) {
    let request = format!("{method} {path}");
    assert!(!answer.header("x-request-id").is_empty(), "{request}");
    // The body of an answer to HEAD is not sent.
    if answer.status.as_u16() >= 400 && method != "HEAD" {
        hold_problem(&request, answer);
    }
    if let Some(operation) = operation(method, path) {
        hold_response(&request, operation, answer);
    }
}

fn hold_problem(request: &str, answer: &Answer) {
    let problem = &answer.body;
    let what = format!("{request}: {answer:?}");
    assert_eq!(
        answer.header("content-type"),
        "application/problem+json",
        "{what}"
    );
    assert_eq!(problem["status"], answer.status.as_u16(), "{what}");
    assert_eq!(
        problem["request_id"],
        answer.header("x-request-id"),
        "{what}"
    );
    let code = problem["error_code"].as_str().unwrap();
    assert_eq!(
        problem["type"],
        format!("urn:nexus:problem:{code}"),
        "{what}"
    );
    let schema = &DOCUMENT["components"]["schemas"]["Problem"];
    conform(problem, schema, &what);
    let errors = problem["errors"].as_array().map_or(0, Vec::len);
    let busy = answer.status == 503;
    assert_eq!(answer.headers.contains_key("retry-after"), busy, "{what}");
    assert!(
        errors > 0 || code != "invalid_request",
        "no field is named, {what}"
    );
}

fn hold_response(request: &str, operation: &Value, answer: &Answer) {
    let status = answer.status.as_u16();
    let what = format!("{request}: {answer:?}");
    let response = &operation["responses"][status.to_string()];
    assert!(
        response.is_object(),
        "status {status} is not documented, {what}"
    );
    if status >= 400 {
        let codes = operation["x-error-codes"].as_array().unwrap();
        let code = &answer.body["error_code"];
        assert!(
            code.is_null() || codes.contains(code),
            "{code} is not documented, {what}"
        );
    }
    let headers = response["headers"].as_object();
    for name in headers.into_iter().flat_map(Map::keys) {
        let there = answer.headers.contains_key(name) || name == "Preference-Applied";
        assert!(there, "header {name} is missing, {what}");
    }
    if answer.body.is_null() {
        return;
    }
    let media = answer.header("content-type");
    let schema = &response["content"][media]["schema"];
    assert!(schema.is_object(), "{media} is not documented, {what}");
    conform(&answer.body, schema, &what);
}

/// Holds the data of an event of a stream against the document.
pub fn hold_event(event: &str, data: &Value) {
    let path = "/v1/operations/{operation}/events";
    let kinds = &DOCUMENT["paths"][path]["get"]["x-event-data"];
    let schema = kinds.get(event).unwrap_or(&kinds["*"]);
    conform(data, schema, &format!("event {event}: {data}"));
}

/// The operation behind a request.
pub fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let segments: Vec<_> = path.split('/').collect();
    let fits = |template: &str| {
        let template: Vec<_> = template.split('/').collect();
        template.len() == segments.len()
            && template
                .iter()
                .zip(&segments)
                .all(|(part, segment)| part.starts_with('{') || part == segment)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let (_, item) = paths.iter().find(|(template, _)| fits(template))?;
    item.get(method.to_ascii_lowercase())
}

/// Holds a value against a schema: as much of JSON Schema as the document uses. An object has the
/// members that are documented and no other.
fn conform(value: &Value, schema: &Value, what: &str) {
    let mut flat = Map::new();
    flatten(schema, &mut flat);
    if let Some(known) = flat.get("type") {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let fits = known == kind
            || known
                .as_array()
                .is_some_and(|all| all.iter().any(|k| k == kind));
        assert!(fits, "{value} is no {known}, {what}");
    }
    if let Some(values) = flat.get("enum").and_then(Value::as_array) {
        assert!(
            values.contains(value),
            "{value} is not one of {values:?}, {what}"
        );
    }
    match value {
        Value::Array(items) => items
            .iter()
            .for_each(|item| conform(item, &flat["items"], what)),
        Value::Object(members) => {
            for (name, value) in members {
                let schema = &flat["properties"][name];
                assert!(
                    schema.is_object(),
                    "member {name} is not documented, {what}"
                );
                conform(value, schema, what);
            }
            let required = flat.get("required").and_then(Value::as_array);
            for name in required.into_iter().flatten() {
                assert!(
                    members.contains_key(name.as_str().unwrap()),
                    "no {name}, {what}"
                );
            }
        }
        _ => {}
    }
}

/// A schema with its references and parts put in.
fn flatten(schema: &Value, flat: &mut Map<String, Value>) {
    for (key, value) in schema.as_object().unwrap() {
        match key.as_str() {
            "$ref" => {
                let pointer = value.as_str().unwrap().trim_start_matches('#');
                flatten(DOCUMENT.pointer(pointer).unwrap(), flat);
            }
            "allOf" => value
                .as_array()
                .unwrap()
                .iter()
                .for_each(|part| flatten(part, flat)),
            // Members of all parts together.
            "properties" | "required" if flat.contains_key(key) => match (flat.get_mut(key), value)
            {
                (Some(Value::Object(own)), Value::Object(more)) => own.extend(more.clone()),
                (Some(Value::Array(own)), Value::Array(more)) => own.extend(more.clone()),
                _ => panic!("{key} is of two types in {schema}"),
            },
            _ => drop(flat.insert(key.clone(), value.clone())),
        }
    }
}
