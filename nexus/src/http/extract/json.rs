//! Bodies: JSON in, with a problem for everything that is not.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use db_model::types::limits::REQUEST_BODY_BYTES_MAX;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::api::problem::{ErrorCode, Rule};
use crate::api::value::Object;
use crate::http::error::ApiError;
use db_model::types::limits::{REQUEST_BODY_DISCARDED_BYTES_MAX, REQUEST_BODY_WAIT_MAX};

/// A request's body, read as JSON.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let type_checked = check_content_type(request.headers());
        // Read in any case: a connection with an unread body is cut, often before its answer.
        let bytes = within(REQUEST_BODY_WAIT_MAX, request.into_body()).await;
        type_checked?;
        parse(&bytes?).map(Self)
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let refuse = |detail: &str| Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail));
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return refuse("Content-Type is missing; it must be application/json");
    };
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    if parts.next() != Some("application/json") {
        return refuse("Content-Type must be application/json");
    }
    let charset = parts
        .filter_map(|part| part.strip_prefix("charset="))
        .next();
    if charset.is_none_or(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8")) {
        Ok(())
    } else {
        refuse("the charset must be utf-8")
    }
}

async fn within(wait: Duration, body: Body) -> Result<Bytes, ApiError> {
    let late = |_| {
        let detail = format!("the body did not arrive within {} s", wait.as_secs());
        Err(ApiError::new(ErrorCode::RequestTimeout, detail))
    };
    tokio::time::timeout(wait, collect(body))
        .await
        .unwrap_or_else(late)
}

/// Reads the body. One that is too long is read a little further and thrown away, so that its
/// sender gets to reading the answer.
async fn collect(mut body: Body) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(ApiError::invalid(
                "body",
                Rule::Syntax,
                "the body was cut off",
            ));
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length <= REQUEST_BODY_BYTES_MAX {
            bytes.extend_from_slice(&data);
        } else if length > REQUEST_BODY_DISCARDED_BYTES_MAX {
            break;
        }
    }
    if length > REQUEST_BODY_BYTES_MAX {
        let detail = format!("the body must have at most {REQUEST_BODY_BYTES_MAX} bytes");
        return Err(ApiError::new(ErrorCode::BodyTooLarge, detail));
    }
    Ok(bytes.into())
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(ApiError::invalid("body", Rule::Utf8, "must be valid UTF-8"));
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut reader);
    let Object(value) = read.map_err(|error| {
        let path = error.path().to_string();
        refusal(&path, error.inner())
    })?;
    // What follows the value is part of the body too.
    reader.end().map_err(|error| refusal(".", &error))?;
    Ok(value)
}

/// The broken rule behind what serde says, and the field that it is about.
fn refusal(path: &str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    // The place in the text helps with syntax only; the field says it better otherwise.
    let words = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(words, _)| words);
    // serde names our struct, which says nothing to a caller.
    let object = words
        .split_once(", expected struct ")
        .map(|(found, _)| format!("{found}, expected an object"));
    let words = object.as_deref().unwrap_or(words);
    let quoted = words.split('`').nth(1).unwrap_or_default();
    let (rule, named, detail) = match error.classify() {
        Category::Data if words.starts_with("unknown field") => (Rule::Unknown, quoted, words),
        Category::Data if words.starts_with("missing field") => (Rule::Missing, quoted, words),
        Category::Data if words.starts_with("duplicate field") => (Rule::Duplicate, quoted, words),
        Category::Data => (Rule::Type, "", words),
        Category::Syntax | Category::Eof | Category::Io => (Rule::Syntax, "", message.as_str()),
    };
    ApiError::invalid(&field(path, named), rule, detail)
}

/// A path and the field that the message names below it, which the path may end with already.
fn field(path: &str, named: &str) -> String {
    let path = if path == "." || path == "?" { "" } else { path };
    let last = path.rsplit('.').next().unwrap_or_default();
    match (path.is_empty(), named.is_empty()) {
        (true, true) => "body".to_owned(),
        (true, false) => named.to_owned(),
        (false, true) => path.to_owned(),
        (false, false) if last == named => path.to_owned(),
        (false, false) => format!("{path}.{named}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::instance::InstanceCreate;
    use crate::api::project::ProjectCreate;

    async fn read(
        content_type: Option<&str>,
        body: impl Into<Body>,
    ) -> Result<(), (u16, String, Option<Rule>)> {
        let mut request = Request::builder().method("POST").uri("/");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(body.into()).unwrap();
        let result = Json::<ProjectCreate>::from_request(request, &()).await;
        result.map(drop).map_err(told)
    }

    fn told(error: ApiError) -> (u16, String, Option<Rule>) {
        let problem = error.into_parts().0;
        let first = problem.errors.into_iter().next();
        let field = first
            .as_ref()
            .map(|error| error.field.clone())
            .unwrap_or_default();
        (problem.status, field, first.map(|error| error.rule))
    }

    const JSON: Option<&str> = Some("application/json");

    #[tokio::test]
    async fn content_types() {
        let body = r#"{"name": "web"}"#;
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;v=1",
        ] {
            assert!(read(Some(good), body).await.is_ok(), "{good}");
        }
        for bad in [
            None,
            Some("text/plain"),
            Some("application/jsonp"),
            Some("application/json; charset=latin1"),
            Some(""),
        ] {
            assert_eq!(read(bad, body).await.unwrap_err().0, 415, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn bodies_up_to_the_limit() {
        let fill = |length: usize| format!("{}{{\"name\": \"web\"}}", " ".repeat(length - 15));
        assert!(read(JSON, fill(REQUEST_BODY_BYTES_MAX)).await.is_ok());
        let error = read(JSON, fill(REQUEST_BODY_BYTES_MAX + 1))
            .await
            .unwrap_err();
        assert_eq!(error.0, 413);
    }

    #[tokio::test]
    async fn what_is_wrong_names_field_and_rule() {
        for (body, field, rule) in [
            (&b""[..], "body", Rule::Syntax),
            (b"{", "body", Rule::Syntax),
            (b"[]x", "body", Rule::Type),
            (b"[\"web\", null, null]", "body", Rule::Type),
            (
                b"{\"name\": \"a\", \"quota\": [1, 2, 3]}",
                "quota",
                Rule::Type,
            ),
            (b"{\"name\": \"web\"} x", "body", Rule::Syntax),
            (b"null", "body", Rule::Type),
            (b"{\"name\": \"\xff\"}", "body", Rule::Utf8),
            (b"{\"name\": 1}", "name", Rule::Type),
            (b"{}", "name", Rule::Missing),
            (
                b"{\"name\": \"a\", \"name\": \"a\"}",
                "name",
                Rule::Duplicate,
            ),
            (b"{\"name\": \"a\", \"colour\": 1}", "colour", Rule::Unknown),
            (
                b"{\"name\": \"a\", \"quota\": {\"disks\": 1}}",
                "quota.disks",
                Rule::Unknown,
            ),
            (
                b"{\"name\": \"a\", \"quota\": {\"vcpus\": 1.5}}",
                "quota.vcpus",
                Rule::Type,
            ),
            (
                b"{\"name\": \"a\", \"quota\": {\"vcpus\": \"1\"}}",
                "quota.vcpus",
                Rule::Type,
            ),
            (
                b"{\"name\": \"a\", \"quota\": {\"vcpus\": 1e400}}",
                "quota.vcpus",
                Rule::Syntax,
            ),
            (b"{\"name\": \"a\", \"quota\": 1}", "quota", Rule::Type),
        ] {
            let error = read(JSON, body).await.unwrap_err();
            let text = String::from_utf8_lossy(body);
            assert_eq!(error, (400, field.to_owned(), Some(rule)), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_told_without_our_types() {
        let error = parse::<ProjectCreate>(b"[]").unwrap_err();
        let detail = error.into_parts().0.detail;
        assert_eq!(detail, "body: invalid type: sequence, expected an object");
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let body = "[".repeat(10_000);
        assert_eq!(
            told(parse::<InstanceCreate>(body.as_bytes()).unwrap_err()).0,
            400
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_408() {
        let body = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(JSON, body).await.unwrap_err().0, 408);
    }
}
