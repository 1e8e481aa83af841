//! The one error of all endpoints: a problem, and what only the log may see.
//!
//! Handlers and extractors return an [`ApiError`] with `?`; the edge gives it the request's id,
//! logs it and writes the body.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use db_model::batch::BatchError;
use db_model::read::ReadError;
use db_model::types::limits::RETRY_AFTER;
use sagas::SubmitError;
use uuid::Uuid;

use crate::api::problem::{ErrorCode, FieldError, Problem, Rule};

/// Why an endpoint did not do what was asked.
#[derive(Clone, Debug)]
pub struct ApiError(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    problem: Problem,
    cause: Option<String>,
    logged: bool,
}

impl ApiError {
    /// An error with a code and words for the caller.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// One broken rule.
    pub fn invalid(field: &str, rule: Rule, detail: impl Into<String>) -> Self {
        vec![FieldError::new(field, rule, detail)].into()
    }

    /// There is no such thing.
    pub fn not_found(kind: &str, which: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("there is no {kind} {which}"))
    }

    /// A defect; `cause` is for the log alone.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self::new(
            ErrorCode::Internal,
            "the log has more under the request's id",
        )
        .because(cause)
    }

    /// The service cannot answer now; `cause` is for the log alone.
    pub fn unavailable(detail: impl Into<String>, cause: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, detail).because(cause)
    }

    /// The same error with what only the log may see.
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The same error with the operation that stands behind it.
    pub fn of_operation(mut self, operation_id: Uuid) -> Self {
        self.0.problem.operation_id = Some(operation_id);
        self
    }

    /// The same error, of which the log has a record already: that of its operation.
    pub fn logged(mut self) -> Self {
        self.0.logged = true;
        self
    }

    /// Whether the log has a record of it already.
    pub fn is_logged(&self) -> bool {
        self.0.logged
    }

    /// The problem, and what only the log may see.
    pub fn into_parts(self) -> (Problem, Option<String>) {
        (self.0.problem, self.0.cause)
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(Parts {
            problem,
            cause: None,
            logged: false,
        }))
    }
}

impl From<Vec<FieldError>> for ApiError {
    fn from(errors: Vec<FieldError>) -> Self {
        Problem::invalid(errors).into()
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        if error.is_busy() {
            return Self::unavailable("the database gave no answer", chain(&error));
        }
        let said = error.server();
        let constraint = said.and_then(|server| server.constraint.as_deref());
        let problem = Problem::unexpected(said.map(|server| server.sqlstate.as_str()), constraint);
        Self::from(problem).because(chain(&error))
    }
}

impl From<BatchError> for ApiError {
    fn from(error: BatchError) -> Self {
        match &error {
            BatchError::Refused { refusal, .. } => Problem::refused(refusal).into(),
            BatchError::Busy(_) | BatchError::Ambiguous(_) => {
                Self::unavailable("the database is busy or away", chain(&error))
            }
            BatchError::Invalid(_)
            | BatchError::Recorded { .. }
            | BatchError::Unexpected { .. }
            | BatchError::AtCommit { .. }
            | BatchError::TooLarge(_)
            | BatchError::Unreadable { .. } => {
                let sqlstate = error.server().map(|server| server.sqlstate.as_str());
                let problem = Problem::unexpected(sqlstate, error.constraint());
                Self::from(problem).because(chain(&error))
            }
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let cause = chain(&error);
        match error {
            SubmitError::Busy { limit } => {
                let detail = format!("{limit} operations run here already, which is the limit");
                Self::unavailable(detail, cause)
            }
            SubmitError::ProjectBusy { limit } => {
                let detail = format!(
                    "{limit} operations of this project run here already, which is the limit"
                );
                Self::unavailable(detail, cause)
            }
            SubmitError::Draining | SubmitError::Lost => {
                Self::unavailable("this process is shutting down", cause)
            }
            SubmitError::Unavailable(_) => Self::unavailable("the database is busy or away", cause),
            SubmitError::Unexpected(_) => Self::internal(cause),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.problem.status)
            .expect("every error code has a valid status");
        let mut response = status.into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, retry_after());
        }
        // The edge writes the body: it knows the request's id.
        response.extensions_mut().insert(self);
        response
    }
}

/// What `Retry-After` says.
pub fn retry_after() -> HeaderValue {
    HeaderValue::from(RETRY_AFTER.as_secs())
}

/// An error with its sources, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        // Many errors repeat their source.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use db_model::batch::flight::ServerError;
    use db_model::batch::{Busy, StepName};
    use db_model::constraint::Refusal;
    use db_model::types::ResourceKind;

    fn status(error: impl Into<ApiError>) -> u16 {
        let response = error.into().into_response();
        let status = response.status().as_u16();
        assert_eq!(
            response.headers().contains_key(header::RETRY_AFTER),
            status == 503
        );
        status
    }

    fn server_error(sqlstate: &str) -> Box<ServerError> {
        let sqlstate = sqlstate.to_owned();
        Box::new(ServerError {
            sqlstate,
            ..ServerError::default()
        })
    }

    const STEP: StepName = StepName {
        label: "project.insert",
        index: 0,
    };

    fn away() -> BatchError {
        BatchError::Busy(Busy::NotSent("away".into()))
    }

    #[test]
    fn a_busy_service_is_503_with_retry_after() {
        assert_eq!(status(SubmitError::Busy { limit: 1 }), 503);
        assert_eq!(status(SubmitError::Draining), 503);
        assert_eq!(status(SubmitError::Lost), 503);
        assert_eq!(status(SubmitError::Unavailable(Arc::new(away()))), 503);
        assert_eq!(status(away()), 503);
        assert_eq!(status(BatchError::Ambiguous("lost".into())), 503);
    }

    #[test]
    fn a_defect_is_500_and_a_refusal_is_not() {
        assert_eq!(
            status(SubmitError::Unexpected(Arc::new(std::fmt::Error))),
            500
        );
        assert_eq!(
            status(BatchError::Unexpected {
                step: STEP,
                attempts: 1,
                error: server_error("23514")
            }),
            500
        );
        assert_eq!(
            status(BatchError::AtCommit {
                attempts: 1,
                error: server_error("23503")
            }),
            500
        );
        let refusal = Refusal::NotFound {
            kind: ResourceKind::Project,
            id: Uuid::nil(),
        };
        let error = server_error("NX001");
        assert_eq!(
            status(BatchError::Refused {
                step: STEP,
                refusal,
                error
            }),
            404
        );
    }

    #[test]
    fn a_chain_says_nothing_twice() {
        let error = SubmitError::Unavailable(Arc::new(away()));
        assert_eq!(
            chain(&error),
            "the database is busy or away: the batch was not sent: away"
        );
    }
}
