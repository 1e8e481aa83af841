//! The edge around all routes: request id, span, log line, problems, panics, time-outs.
//!
//! Everything from 400 on leaves as `application/problem+json`, whoever made it: an endpoint, an
//! extractor, the router, a time-out or a panic.

use std::any::Any;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::task::JoinError;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use tracing::{Instrument, Span, field};

use super::error::{ApiError, retry_after};
use super::request_id::{REQUEST_ID, RequestId};
use crate::api::problem::{ErrorCode, Problem};

/// Marks an answer from 400 on that has the body that it shall have, which is left as it is.
#[derive(Clone, Copy, Debug)]
pub struct Complete;

/// Marks an answer that is given again and again and says nothing new: it is logged at debug.
#[derive(Clone, Copy, Debug)]
pub struct Routine;

/// The media type of problems.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Puts the edge around routes. A request that is not answered within `wait_max` is given up.
pub fn wrap<S: Clone + Send + Sync + 'static>(router: Router<S>, wait_max: Duration) -> Router<S> {
    // The last layer is the outermost.
    router
        .layer(middleware::from_fn(detach))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            wait_max,
        ))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(edge))
}

/// Runs changes in a task of their own: axum drops a handler when its caller hangs up or its time is
/// over, and a change that was asked for goes on all the same.
async fn detach(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let handler = tokio::spawn(next.run(request).instrument(Span::current()));
    match handler.await.map_err(JoinError::try_into_panic) {
        Ok(response) => response,
        Err(Ok(panic)) => panicked(panic),
        Err(Err(error)) => {
            ApiError::internal(format!("the handler ended: {error}")).into_response()
        }
    }
}

async fn edge(mut request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let request_id = RequestId::take(request.headers());
    // The route and never the path: that may hold names.
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("-", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        request_id = request_id.as_str(),
        method = %request.method(),
        path,
        operation_id = field::Empty,
    );
    request.extensions_mut().insert(request_id.clone());
    let response = next.run(request).instrument(span.clone()).await;
    span.in_scope(|| finish(response, &request_id, begin))
}

fn finish(response: Response, request_id: &RequestId, begin: Instant) -> Response {
    let status = response.status().as_u16();
    let latency_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let complete = response.extensions().get::<Complete>().is_some();
    let mut response = if response.extensions().get::<Routine>().is_some() {
        tracing::debug!(status, latency_ms, "answered");
        response
    } else if status < 400 || complete {
        tracing::info!(status, latency_ms, "answered");
        response
    } else {
        let error = error_of(&response);
        let logged = error.is_logged();
        let (mut problem, cause) = error.into_parts();
        problem.request_id = request_id.as_str().to_owned();
        let code = problem.error_code.as_str();
        let cause = cause.as_deref().unwrap_or("-");
        if status >= 500 && logged {
            tracing::info!(status, latency_ms, code, cause, "answered with an error");
        } else if status >= 500 {
            tracing::error!(status, latency_ms, code, cause, "answered with an error");
        } else {
            tracing::debug!(status, latency_ms, code, detail = problem.detail, "refused");
        }
        with_body(response, &problem)
    };
    response
        .headers_mut()
        .insert(REQUEST_ID, request_id.to_header());
    response
}

/// The error of an endpoint, or what the status of a plain answer says.
fn error_of(response: &Response) -> ApiError {
    if let Some(error) = response.extensions().get::<ApiError>() {
        return error.clone();
    }
    let status = response.status();
    let (code, detail) = match status {
        StatusCode::NOT_FOUND => (ErrorCode::NotFound, "there is no such path".to_owned()),
        // The router adds `Allow` outside of this layer.
        StatusCode::METHOD_NOT_ALLOWED => (
            ErrorCode::MethodNotAllowed,
            "this path does not know the method; Allow names those that it knows".to_owned(),
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            ErrorCode::Unavailable,
            "the request was not answered in time".to_owned(),
        ),
        _ if status.is_server_error() => (ErrorCode::Internal, status.to_string()),
        _ => (ErrorCode::InvalidRequest, status.to_string()),
    };
    let problem = Problem {
        status: status.as_u16(),
        ..Problem::new(code, detail)
    };
    problem.into()
}

/// The response's headers with the problem as its body.
fn with_body(response: Response, problem: &Problem) -> Response {
    let (mut parts, _) = response.into_parts();
    let body = serde_json::to_vec(problem).expect("texts and numbers are valid JSON");
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
    if parts.status == StatusCode::SERVICE_UNAVAILABLE {
        parts.headers.insert(header::RETRY_AFTER, retry_after());
    }
    Response::from_parts(parts, Body::from(body))
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    ApiError::internal(format!("panicked: {text}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use serde_json::Value;
    use tower::ServiceExt;

    fn routes() -> Router {
        async fn slow() {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        async fn broken() -> StatusCode {
            panic!("a secret of the row")
        }
        let router = Router::new()
            .route("/fine", get(|| async { "fine" }))
            .route("/slow", get(slow))
            .route("/broken", get(broken))
            .route(
                "/teapot",
                get(|| async { (StatusCode::IM_A_TEAPOT, "plain") }),
            );
        wrap(router, Duration::from_secs(10))
    }

    async fn ask(method: &str, path: &str) -> (Response<()>, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(REQUEST_ID, "id-1");
        let response = routes()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        assert_eq!(parts.headers[REQUEST_ID], "id-1");
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if parts.status.as_u16() >= 400 {
            assert_eq!(parts.headers[header::CONTENT_TYPE], PROBLEM_JSON);
            assert_eq!(problem["status"], parts.status.as_u16());
            assert_eq!(problem["request_id"], "id-1");
        }
        (Response::from_parts(parts, ()), problem)
    }

    #[tokio::test]
    async fn what_is_fine_passes() {
        assert_eq!(ask("GET", "/fine").await.0.status(), 200);
    }

    #[tokio::test]
    async fn the_routers_own_refusals_are_problems() {
        let (_, problem) = ask("GET", "/nowhere").await;
        assert_eq!(
            (&problem["status"], &problem["error_code"]),
            (&404.into(), &"not_found".into())
        );
        let (response, problem) = ask("POST", "/fine").await;
        assert_eq!(problem["error_code"], "method_not_allowed");
        assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
        assert_eq!(ask("GET", "/teapot").await.1["status"], 418);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_goes_on_when_its_caller_hangs_up() {
        let (done, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let change = move || async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            done.send(()).unwrap();
        };
        let routes = Router::new().route("/change", axum::routing::post(change));
        let routes = wrap(routes, Duration::from_secs(10));
        let request = Request::builder()
            .method("POST")
            .uri("/change")
            .body(Body::empty());
        let answer = routes.oneshot(request.unwrap());
        assert!(
            tokio::time::timeout(Duration::from_secs(1), answer)
                .await
                .is_err()
        );
        assert!(seen.recv().await.is_some());
    }

    #[tokio::test]
    async fn a_panic_is_a_500_that_says_nothing() {
        let (_, problem) = ask("GET", "/broken").await;
        assert_eq!(problem["error_code"], "internal");
        assert!(!problem.to_string().contains("secret"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_takes_as_long_as_it_takes() {
        async fn stream() -> Body {
            Body::from_stream(futures::stream::once(async {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Ok::<_, std::convert::Infallible>("late")
            }))
        }
        let routes = wrap(
            Router::new().route("/stream", get(stream)),
            Duration::from_secs(10),
        );
        let request = Request::builder().uri("/stream").body(Body::empty());
        let response = routes.oneshot(request.unwrap()).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        assert_eq!(body.unwrap(), "late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_too_long_is_503_with_retry_after() {
        let (response, problem) = ask("GET", "/slow").await;
        assert_eq!(problem["error_code"], "unavailable");
        assert!(response.headers().contains_key(header::RETRY_AFTER));
    }
}
