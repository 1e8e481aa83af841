//! From a request to a saga and back: submit, wait as long as the caller prefers, answer.
//!
//! Nothing here owns the work: who stops waiting cancels nothing.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sagas::{Outcome, Saga, Submitted};
use serde::Serialize;
use tracing::Span;
use uuid::Uuid;

use super::error::ApiError;
use super::etag::Tag;
use super::prefer::{PREFERENCE_APPLIED, Prefer};
use super::request_id::RequestId;
use crate::api::operation::Operation;
use crate::api::problem::{ErrorCode, Problem};
use crate::app::App;

/// Who asks: what a change needs of the request besides its body.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The request's id.
    pub request_id: RequestId,
    /// How the caller wants to be answered.
    pub prefer: Prefer,
    /// All headers, for the preconditions.
    pub headers: HeaderMap,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self {
            request_id: RequestId::from_request_parts(parts, state).await?,
            prefer: Prefer::read(&parts.headers),
            headers: parts.headers.clone(),
        })
    }
}

/// Runs a saga for a caller. `answer` makes the response of its output.
pub async fn run<S: Saga>(
    app: &App,
    caller: &Caller,
    params: S::Params,
    answer: impl FnOnce(S::Output) -> Response,
) -> Result<Response, ApiError> {
    // The edge runs every change in a task of its own: nothing drops this submit half-way.
    let request_id = caller.request_id.as_str();
    // A 202 says that the operation is durable: who asks for one gets it first. For who waits, it
    // becomes so with the first thing that it does, and a refusal leaves nothing behind.
    let mut submitted = if caller.prefer.is_async() {
        app.executor().submit::<S>(params, request_id).await?
    } else {
        app.executor().begin::<S>(params, request_id).await?
    };
    let outcome = wait(app, caller, &mut submitted).await;
    let id = submitted.id();
    if submitted.is_born() {
        Span::current().record("operation_id", tracing::field::display(id));
    }
    let mut response = match outcome {
        None if submitted.is_born() => accepted(app, id).await?,
        None => {
            submitted.give_up();
            return Err(ApiError::unavailable(NOT_TAKEN, "the wait is over"));
        }
        Some(Outcome::NotTaken(error)) => return Err(error.into()),
        Some(Outcome::Refused(failure)) => {
            let error = ApiError::from(Problem::of_failure(&failure));
            return Err(error.because(failure.to_string()).logged());
        }
        Some(Outcome::Succeeded(output)) => answer(output),
        Some(Outcome::Failed(failure)) => {
            let error = ApiError::from(Problem::of_failure(&failure)).of_operation(id);
            return Err(error.because(failure.to_string()).logged());
        }
        Some(Outcome::Stuck(failure)) => {
            let error = ApiError::from(Problem::of_stuck(&failure)).of_operation(id);
            return Err(error.because(failure.to_string()).logged());
        }
        Some(Outcome::Lost) => {
            let detail = "another process has taken the operation over: look at it again";
            return Err(ApiError::new(ErrorCode::OperationMoved, detail).of_operation(id));
        }
    };
    if let Some(applied) = caller.prefer.applied() {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

const NOT_TAKEN: &str = "the database did not take the operation in time; it may still: look before you \
                         try again";

/// The outcome, unless the caller's patience ends before it, or the process is about to.
async fn wait<S: Saga>(
    app: &App,
    caller: &Caller,
    submitted: &mut Submitted<S>,
) -> Option<Outcome<S::Output>> {
    let patience = caller.prefer.wait();
    if patience.is_zero() {
        return None;
    }
    tokio::select! {
        biased;
        outcome = submitted.outcome() => Some(outcome),
        () = tokio::time::sleep(patience) => None,
        () = app.waits_end().cancelled() => None,
    }
}

/// 202 with the operation as it stands.
async fn accepted(app: &App, id: Uuid) -> Result<Response, ApiError> {
    let read = db_model::read::saga::view(app.reads(), id).await;
    let saga = read.map_err(|error| ApiError::from(error).of_operation(id))?;
    let saga = saga.ok_or_else(|| {
        ApiError::internal("an operation that was just begun is not there").of_operation(id)
    })?;
    let location = location(format!("/v1/operations/{id}"));
    let body = Json(Operation::from(saga));
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], body).into_response())
}

/// 201 with the resource, where it is and its tag.
pub fn created(path: String, tag: Tag, body: impl Serialize) -> Response {
    let headers = [
        (header::LOCATION, location(path)),
        (header::ETAG, tag.to_header()),
    ];
    (StatusCode::CREATED, headers, Json(body)).into_response()
}

fn location(path: String) -> HeaderValue {
    HeaderValue::try_from(path).expect("words and UUIDs are valid in a header")
}
