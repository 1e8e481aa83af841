//! The OpenAPI document: what the endpoints say, and what holds for all of them.
//!
//! Error answers, common headers and examples follow from rules; they are added here and not
//! written at each endpoint, where one would be forgotten.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use crate::api::operation::{Operation, OperationEvent};
use crate::api::problem::{Blocker, Blockers, ErrorCode, FieldError, Problem, QuotaExcess, Rule};
use crate::router;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Nexus",
        description = "A control plane: projects and instances, with limits that hold and changes that are never half done.",
        license(name = "MPL-2.0", identifier = "MPL-2.0"),
    ),
    servers((url = "/", description = "Where this document comes from.")),
    tags(
        (name = "projects", description = "What instances belong to, and whose quota they use."),
        (name = "instances", description = "What projects have."),
        (name = "quotas", description = "Limits, and what is used of them."),
        (name = "operations", description = "Changes of more than one step, how they stand and how they ended."),
        (name = "events", description = "What happened to projects, instances and quotas, to follow along."),
        (name = "service", description = "The service itself."),
    ),
    components(schemas(Problem, Operation, OperationEvent)),
)]
struct Base;

/// The document without the endpoints.
pub fn base() -> OpenApi {
    Base::openapi()
}

/// The document as it is served, printed and checked in.
pub fn document() -> String {
    finish(router::routes().get_openapi())
}

/// Adds what holds for all endpoints, and renders the document.
pub fn finish(document: &OpenApi) -> String {
    let mut document = serde_json::to_value(document).expect("the document is valid JSON");
    share_components(&mut document["components"]);
    let schemas = document["components"]["schemas"].clone();
    let paths = document["paths"]
        .as_object_mut()
        .expect("the document has paths");
    for item in paths.values_mut() {
        let operations = item.as_object_mut().expect("a path has operations");
        for operation in operations
            .values_mut()
            .filter(|value| value["responses"].is_object())
        {
            answer_errors(operation);
            document_headers(operation);
            name_kinds(operation);
            show_examples(operation, &schemas);
        }
    }
    let mut text = serde_json::to_string_pretty(&document).expect("it was JSON before");
    text.push('\n');
    text
}

/// What every operation refers to.
fn share_components(components: &mut Value) {
    components["headers"]["RequestId"] = header("The request's id: the caller's, or a new one.");
    components["parameters"]["RequestId"] = json!({
        "name": "x-request-id", "in": "header", "required": false,
        "description": "An id for the request: 1 to 128 visible ASCII characters. Another is replaced by a new one.",
        "schema": {"type": "string"}, "example": "0199c0de-0000-7000-8000-00000000000a",
    });
    for &code in ErrorCode::ALL {
        components["examples"][code.as_str()] =
            json!({"summary": code.title(), "value": example(code)});
    }
}

/// The kinds of operations are those that the registry has.
fn name_kinds(operation: &mut Value) {
    for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
        if parameter["name"] == "kind" && parameter["schema"]["enum"].is_null() {
            parameter["schema"]["enum"] = json!(sagas::registry::builtin().names());
        }
    }
}

fn has_parameter(operation: &Value, place: &str, name: Option<&str>) -> bool {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters
        .filter(|parameter| parameter["in"] == place)
        .any(|parameter| name.is_none_or(|name| parameter["name"] == name))
}

/// The codes with which an operation may answer: those that it names, and those that follow from
/// what it takes.
fn error_codes(operation: &Value) -> Vec<ErrorCode> {
    use ErrorCode as Code;
    let own = operation["x-error-codes"].as_array();
    let named = |code: &Code| own.is_some_and(|own| own.iter().any(|own| own == code.as_str()));
    let mut codes = vec![Code::InvalidRequest, Code::Internal, Code::Unavailable];
    codes.extend(Code::ALL.iter().copied().filter(named));
    if has_parameter(operation, "path", None) {
        codes.push(Code::NotFound);
    }
    if operation["requestBody"].is_object() {
        codes.extend([
            Code::RequestTimeout,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
        ]);
    }
    if has_parameter(operation, "header", Some("If-Match")) {
        codes.push(Code::PreconditionFailed);
    }
    if has_parameter(operation, "header", Some("Prefer")) {
        codes.extend([Code::OperationStuck, Code::OperationMoved]);
    }
    codes.sort_by_key(|code| (code.status(), code.as_str()));
    codes.dedup();
    codes
}

fn answer_errors(operation: &mut Value) {
    let codes = error_codes(operation);
    operation["x-error-codes"] = codes.iter().map(|code| code.as_str()).collect();
    let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status()).or_default().push(code);
    }
    for (status, codes) in by_status {
        let words: Vec<_> = codes
            .iter()
            .map(|code| format!("`{}`: {}.", code.as_str(), code.title()))
            .collect();
        let examples: Map<_, _> = codes
            .iter()
            .map(|&code| {
                (
                    code.as_str().to_owned(),
                    json!({"$ref": format!("#/components/examples/{}", code.as_str())}),
                )
            })
            .collect();
        operation["responses"][status.to_string()] = json!({
            "description": words.join(" "),
            "content": {"application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": examples,
            }},
        });
    }
}

fn document_headers(operation: &mut Value) {
    if has_parameter(operation, "header", Some("Prefer")) {
        operation["responses"]["202"] = json!({
            "description": "The operation goes on; look at it until it has ended.",
            "headers": {"Location": header("The path of the operation.")},
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Operation"}}},
        });
        for status in ["201", "202", "204"] {
            if operation["responses"][status].is_object() {
                operation["responses"][status]["headers"]["Preference-Applied"] =
                    header("The preferences of `Prefer` that were honoured, if there were any.");
            }
        }
    }
    if has_parameter(operation, "header", Some("If-None-Match")) {
        operation["responses"]["304"] = json!({
            "description": "The caller has it already.",
            "headers": {"ETag": header("The entity tag.")},
        });
    }
    operation["responses"]["503"]["headers"]["Retry-After"] =
        header("After how many seconds to try again.");
    let responses = operation["responses"]
        .as_object_mut()
        .expect("an operation has responses");
    for response in responses.values_mut() {
        response["headers"]["x-request-id"] = json!({"$ref": "#/components/headers/RequestId"});
    }
    let request_id = json!({"$ref": "#/components/parameters/RequestId"});
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(request_id),
        None => operation["parameters"] = json!([request_id]),
    }
}

fn header(description: &str) -> Value {
    json!({"description": description, "schema": {"type": "string"}})
}

/// Shows the example of each body's schema beside the body, where most tools look.
fn show_examples(operation: &mut Value, schemas: &Value) {
    let show = |content: &mut Value| {
        let Some(content) = content.as_object_mut() else {
            return;
        };
        for media in content
            .values_mut()
            .filter(|media| media["examples"].is_null())
        {
            let reference = media["schema"]["$ref"].as_str().unwrap_or_default();
            let name = reference.rsplit('/').next().unwrap_or_default();
            let example = schemas[name]["examples"][0].clone();
            media["example"] = example;
        }
    };
    show(&mut operation["requestBody"]["content"]);
    if operation["requestBody"]["content"].is_null() {
        let fields = operation
            .as_object_mut()
            .expect("an operation is an object");
        fields.remove("requestBody");
    }
    let responses = operation["responses"]
        .as_object_mut()
        .expect("an operation has responses");
    for response in responses
        .values_mut()
        .filter(|response| response["content"].is_object())
    {
        show(&mut response["content"]);
    }
}

/// A problem as it may look.
fn example(code: ErrorCode) -> Problem {
    let id = uuid::uuid!("0199c0de-0000-7000-8000-000000000002");
    let project_id = uuid::uuid!("0199c0de-0000-7000-8000-000000000001");
    let operation_id = uuid::uuid!("0199c0de-0000-7000-8000-000000000003");
    let request_id = "0199c0de-0000-7000-8000-00000000000a".to_owned();
    let problem = Problem {
        request_id,
        ..Problem::new(code, code.title())
    };
    match code {
        ErrorCode::InvalidRequest => {
            let detail = "must begin with a lower-case letter a-z";
            let errors = vec![FieldError::new("name", Rule::Name, detail)];
            Problem {
                detail: format!("name: {detail}"),
                errors,
                ..problem
            }
        }
        ErrorCode::QuotaExceeded => {
            let (scope, resource) = ("project".into(), "vcpus".into());
            let quota = QuotaExcess {
                scope,
                scope_id: project_id,
                resource,
                limit: 400,
                used: 398,
                requested: 4,
            };
            Problem {
                quota: Some(quota),
                operation_id: Some(operation_id),
                ..problem
            }
        }
        ErrorCode::NameTaken => Problem {
            existing_id: Some(id),
            operation_id: Some(operation_id),
            ..problem
        },
        ErrorCode::NotEmpty => {
            let first = vec![Blocker {
                id,
                name: "front-1".into(),
            }];
            let blockers = Some(Blockers {
                instances: 1,
                first,
            });
            Problem {
                blockers,
                operation_id: Some(operation_id),
                ..problem
            }
        }
        ErrorCode::WrongState => Problem {
            state: Some("creating".into()),
            operation_id: Some(operation_id),
            ..problem
        },
        ErrorCode::OperationStuck | ErrorCode::OperationMoved => Problem {
            operation_id: Some(operation_id),
            ..problem
        },
        _ => problem,
    }
}

#[cfg(test)]
mod tests;
