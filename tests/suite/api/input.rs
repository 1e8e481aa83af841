//! Bodies that are refused: each a problem that names field and rule, and nothing is done.

use serde_json::{Value, json};

use super::client::Api;

pub const PROJECTS: (&str, &str) = ("POST", "/v1/projects");
pub const INSTANCES: (&str, &str) = ("POST", "/v1/projects/web/instances");
pub const QUOTA: (&str, &str) = ("PUT", "/v1/projects/web/quota");
pub const FLEET: (&str, &str) = ("PUT", "/v1/fleet/quota");

/// A service with project `web`, and what of it must not change.
pub async fn start() -> (Api, [Value; 4]) {
    let api = Api::start().await;
    api.project("web").await;
    let state = state(&api).await;
    (api, state)
}

/// What a refused request must not change.
pub async fn state(api: &Api) -> [Value; 4] {
    let lists = [
        "/v1/projects",
        "/v1/instances",
        "/v1/projects/web/quota",
        "/v1/fleet/quota",
    ];
    let answers = lists.map(|path| api.get(path));
    let mut state = [const { Value::Null }; 4];
    for (place, answer) in state.iter_mut().zip(answers) {
        *place = answer.await.body;
    }
    state
}

/// Sends a body as it is, and finds it refused for one field and rule.
async fn assert_refused(
    api: &Api,
    to: (&str, &str),
    body: impl AsRef<[u8]>,
    field: &str,
    rule: &str,
) {
    let text = String::from_utf8_lossy(body.as_ref()).into_owned();
    let what = format!("{} {} {}", to.0, to.1, text.get(..200).unwrap_or(&text));
    let answer = api.raw_body(to.0, to.1, body).await;
    assert_eq!(answer.status, 400, "{what}: {answer:?}");
    assert_eq!(answer.body["error_code"], "invalid_request", "{what}");
    let errors = answer.body["errors"].as_array().unwrap();
    let named = |error: &Value| error["field"] == field && error["rule"] == rule;
    assert!(errors.len() == 1 && named(&errors[0]), "{what}: {errors:?}");
    // The words name the field and the rule too.
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(
        detail.starts_with(&format!("{field}: ")) && detail.len() > field.len() + 8,
        "{what}: {detail}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_break_a_rule_are_refused() {
    let (api, before) = start().await;
    let long = "a".repeat(64);
    let huge = "a".repeat(60_000);
    for name in [
        "",
        " ",
        "Web",
        "wEb",
        "1web",
        "-web",
        "web-",
        "web_1",
        "web.1",
        "web/1",
        "we b",
        " web",
        "web ",
        "wéb",
        "ｗeb",
        "web\\n",
        "web\\u0000",
        "\\u0000",
        "..",
        "%77eb",
        "🚀",
        "-",
        "0199c0de-0000-7000-8000-000000000001",
        "a199c0de-0000-7000-8000-000000000001",
        "A199C0DE-0000-7000-8000-000000000001",
        "a199c0de000070008000000000000001",
        &long,
        &huge,
    ] {
        assert_refused(
            &api,
            PROJECTS,
            format!(r#"{{"name": "{name}"}}"#),
            "name",
            "name",
        )
        .await;
        let body = format!(r#"{{"name": "{name}", "vcpus": 1, "memory_bytes": 1048576}}"#);
        assert_refused(&api, INSTANCES, body, "name", "name").await;
    }
    assert_eq!(state(&api).await, before);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_of_wrong_types_unknown_missing_and_twice_are_refused() {
    let (api, before) = start().await;
    for value in ["1", "1.5", "true", "null", "[]", "{}"] {
        assert_refused(
            &api,
            PROJECTS,
            format!(r#"{{"name": {value}}}"#),
            "name",
            "type",
        )
        .await;
    }
    for value in ["1", "true", "[]", "{}"] {
        let body = format!(r#"{{"name": "a", "description": {value}}}"#);
        assert_refused(&api, PROJECTS, body, "description", "type").await;
    }
    for value in ["1", "true", "[]", "\"\""] {
        let body = format!(r#"{{"name": "a", "quota": {value}}}"#);
        assert_refused(&api, PROJECTS, body, "quota", "type").await;
    }
    for (to, body, field, rule) in [
        (PROJECTS, "{}", "name", "missing"),
        (PROJECTS, r#"{"Name": "a"}"#, "Name", "unknown"),
        (PROJECTS, r#"{"name": "a", "id": 1}"#, "id", "unknown"),
        (PROJECTS, r#"{"name": "a", "": 1}"#, "body", "unknown"),
        (
            PROJECTS,
            r#"{"name": "a", "quota": {"disks": 1}}"#,
            "quota.disks",
            "unknown",
        ),
        (
            PROJECTS,
            r#"{"name": "a", "name": "b"}"#,
            "name",
            "duplicate",
        ),
        (
            PROJECTS,
            r#"{"name": "a", "quota": {"vcpus": 1, "vcpus": 1}}"#,
            "quota.vcpus",
            "duplicate",
        ),
        (
            INSTANCES,
            r#"{"name": "a", "memory_bytes": 1048576}"#,
            "vcpus",
            "missing",
        ),
        (
            INSTANCES,
            r#"{"name": "a", "vcpus": 1}"#,
            "memory_bytes",
            "missing",
        ),
        (
            INSTANCES,
            r#"{"vcpus": 1, "memory_bytes": 1048576}"#,
            "name",
            "missing",
        ),
        (QUOTA, r#"{"projects": 1}"#, "projects", "unknown"),
        (QUOTA, r#"{"instances": {"limit": 1}}"#, "instances", "type"),
        (FLEET, "{}", "projects", "missing"),
        (FLEET, r#"{"projects": null}"#, "projects", "type"),
        (FLEET, r#"{"projects": 1, "used": 0}"#, "used", "unknown"),
    ] {
        assert_refused(&api, to, body, field, rule).await;
    }
    assert_eq!(state(&api).await, before);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptions_that_break_a_rule_are_refused() {
    let (api, before) = start().await;
    for (description, rule) in [
        ("a".repeat(513), "too_long"),
        ("☂".repeat(513), "too_long"),
        ("a".repeat(50_000), "too_long"),
        ("\\u0000".to_owned(), "nul"),
        ("before\\u0000after".to_owned(), "nul"),
    ] {
        let body = format!(r#"{{"name": "a", "description": "{description}"}}"#);
        assert_refused(&api, PROJECTS, &body, "description", rule).await;
        let body = body.replace('}', r#", "vcpus": 1, "memory_bytes": 1048576}"#);
        assert_refused(&api, INSTANCES, &body, "description", rule).await;
    }
    // A lone half of a surrogate pair is no text.
    let half = r#"{"name": "a", "description": "\ud800"}"#;
    assert_refused(&api, PROJECTS, half, "description", "syntax").await;
    assert_eq!(state(&api).await, before);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_break_a_rule_are_refused() {
    let (api, before) = start().await;
    let instance = |vcpus: &str, memory_bytes: &str| {
        format!(r#"{{"name": "a", "vcpus": {vcpus}, "memory_bytes": {memory_bytes}}}"#)
    };
    for (number, rule) in [
        ("0", "out_of_range"),
        ("-1", "out_of_range"),
        ("1025", "out_of_range"),
        ("9007199254740993", "out_of_range"),
        ("9223372036854775808", "out_of_range"),
        ("-9223372036854775809", "out_of_range"),
        ("18446744073709551616", "out_of_range"),
        ("1e300", "out_of_range"),
        ("-1e300", "out_of_range"),
        ("1.5", "type"),
        ("1e-1", "type"),
        ("\"1\"", "type"),
        ("true", "type"),
        ("null", "type"),
        ("[1]", "type"),
        ("{}", "type"),
        ("1e400", "syntax"),
        ("NaN", "syntax"),
        ("01", "syntax"),
        ("+1", "syntax"),
    ] {
        assert_refused(&api, INSTANCES, instance(number, "1048576"), "vcpus", rule).await;
    }
    for (number, rule) in [
        ("0", "out_of_range"),
        ("-1048576", "out_of_range"),
        ("17592187092992", "out_of_range"),
        ("1048577", "not_a_multiple"),
        ("17592186044415", "not_a_multiple"),
        ("1048576.5", "type"),
    ] {
        assert_refused(&api, INSTANCES, instance("1", number), "memory_bytes", rule).await;
    }
    for (number, rule) in [
        ("-1", "out_of_range"),
        ("9007199254740993", "out_of_range"),
        ("9223372036854775807", "out_of_range"),
        ("9223372036854775808", "out_of_range"),
        ("1e30", "out_of_range"),
        ("0.5", "type"),
        ("1e400", "syntax"),
    ] {
        assert_refused(
            &api,
            FLEET,
            format!(r#"{{"projects": {number}}}"#),
            "projects",
            rule,
        )
        .await;
        for name in ["instances", "vcpus", "memory_bytes"] {
            assert_refused(
                &api,
                QUOTA,
                format!(r#"{{"{name}": {number}}}"#),
                name,
                rule,
            )
            .await;
            let field = format!("quota.{name}");
            let body = format!(r#"{{"name": "a", "quota": {{"{name}": {number}}}}}"#);
            assert_refused(&api, PROJECTS, body, &field, rule).await;
        }
    }
    assert_eq!(state(&api).await, before);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broken_rule_of_a_body_is_named_at_once() {
    let (api, _) = start().await;
    let body =
        json!({ "name": "Web", "description": "a".repeat(600), "vcpus": 0, "memory_bytes": 1 });
    let answer = api.post("/v1/projects/web/instances", &body).await;
    insta::assert_json_snapshot!(answer.body["errors"], @r#"
    [
      {
        "detail": "must have only lower-case letters a-z, digits and hyphens, has 'W'",
        "field": "name",
        "rule": "name"
      },
      {
        "detail": "must have at most 512 characters, has 600",
        "field": "description",
        "rule": "too_long"
      },
      {
        "detail": "must be a whole number from 1 to 1024",
        "field": "vcpus",
        "rule": "out_of_range"
      },
      {
        "detail": "must be a whole number from 1048576 to 17592186044416",
        "field": "memory_bytes",
        "rule": "out_of_range"
      },
      {
        "detail": "must be a multiple of 1048576 (1 MiB)",
        "field": "memory_bytes",
        "rule": "not_a_multiple"
      }
    ]
    "#);
    let body =
        json!({ "name": "a", "quota": { "instances": -1, "vcpus": -1, "memory_bytes": -1 } });
    let answer = api.post("/v1/projects", &body).await;
    let fields: Vec<_> = answer.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["field"])
        .collect();
    assert_eq!(
        fields,
        ["quota.instances", "quota.vcpus", "quota.memory_bytes"]
    );
    api.end().await;
}
