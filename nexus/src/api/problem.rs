//! Problems: every answer that is not what was asked for (RFC 9457).
//!
//! [`Problem::refused`] and [`Problem::of_failure`] are the one mapping from what the database and
//! the sagas say to what callers read, whether they waited or look at the operation later.

use db_model::constraint::Refusal;
use sagas::{Cause, Failure};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Declares the error codes with what belongs to each.
macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $status:literal, $title:literal;)+) => {
        /// What went wrong, for programs. The list only grows with the API's documentation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode { $($(#[doc = $doc])+ $variant,)+ }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The status that goes with the code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),+ }
            }

            /// A few words for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
        }
    };
}

error_codes! {
    /// A part of the request breaks a rule; `errors` names each.
    InvalidRequest = "invalid_request", 400, "The request is not valid";
    /// There is no such resource or path.
    NotFound = "not_found", 404, "Not found";
    /// The path does not know the method; `Allow` names those that it knows.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    /// The request's body did not arrive in time.
    RequestTimeout = "request_timeout", 408, "The request took too long to arrive";
    /// Another resource has the name; `existing_id` is its id.
    NameTaken = "name_taken", 409, "The name is taken";
    /// The project has instances; `blockers` names them.
    NotEmpty = "not_empty", 409, "The project is not empty";
    /// The resource's state does not allow it.
    WrongState = "wrong_state", 409, "The state does not allow it";
    /// A limit would be exceeded; `quota` has the numbers.
    QuotaExceeded = "quota_exceeded", 409, "The quota would be exceeded";
    /// Events behind the token have been purged: the reader has missed some.
    EventsExpired = "events_expired", 410, "The events are not kept any more";
    /// The resource has changed since the caller looked.
    PreconditionFailed = "precondition_failed", 412, "The resource has changed";
    /// The request's body is longer than the service takes.
    BodyTooLarge = "body_too_large", 413, "The body is too large";
    /// The request's body is not JSON by its content type.
    UnsupportedMediaType = "unsupported_media_type", 415, "The content type is not supported";
    /// A defect of the service. The log has more under the request's id.
    Internal = "internal", 500, "An internal error";
    /// What the operation had done could not be undone: a person has to look.
    OperationStuck = "operation_stuck", 500, "The operation is stuck";
    /// The service or its database cannot answer now; try again after `Retry-After` seconds.
    Unavailable = "unavailable", 503, "The service is not available now";
    /// Another process took the operation over: look at `operation_id`.
    OperationMoved = "operation_moved", 503, "The operation goes on elsewhere";
}

/// Which kind of rule a field broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Not well-formed.
    Syntax,
    /// Not valid UTF-8.
    Utf8,
    /// Has the character U+0000.
    Nul,
    /// There is no such field or parameter.
    Unknown,
    /// Has to be there and is not.
    Missing,
    /// Is there more than once.
    Duplicate,
    /// Of another type.
    Type,
    /// Breaks the rules of names.
    Name,
    /// Has too many characters.
    TooLong,
    /// A number outside its range.
    OutOfRange,
    /// A number that is not a multiple of its unit.
    NotAMultiple,
    /// None of the values that there are.
    Choice,
    /// Belongs to another list, order or filter.
    Mismatch,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field of the body (with dots), the parameter or the header; `body` for all of the body.
    pub field: String,
    /// The kind of rule.
    pub rule: Rule,
    /// The rule in words.
    pub detail: String,
}

impl FieldError {
    /// A broken rule.
    pub fn new(field: impl Into<String>, rule: Rule, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            rule,
            detail: detail.into(),
        }
    }
}

/// The numbers of a refused charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QuotaExcess {
    /// `fleet` or `project`.
    pub scope: String,
    /// The fleet's or the project's id.
    pub scope_id: Uuid,
    /// `projects`, `instances`, `vcpus` or `memory_bytes`.
    pub resource: String,
    /// The limit when the request was refused.
    pub limit: i64,
    /// The use when the request was refused.
    pub used: i64,
    /// What was asked for.
    pub requested: i64,
}

/// What stands in the way of a delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Blockers {
    /// How many instances there are.
    pub instances: i64,
    /// The first of them by name, 20 at most.
    pub first: Vec<Blocker>,
}

/// A resource that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Blocker {
    /// The id.
    pub id: Uuid,
    /// The name.
    pub name: String,
}

/// Why the answer is not what was asked for (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// A URN that ends in the error code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The error code in words.
    #[schema(value_type = String)]
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened, for people.
    pub detail: String,
    /// What happened, for programs.
    pub error_code: ErrorCode,
    /// The request's id, also in the header `x-request-id` and in the log.
    pub request_id: String,
    /// The operation that stands behind the answer, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub operation_id: Option<Uuid>,
    /// The broken rules, with `invalid_request`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    /// The numbers, with `quota_exceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub quota: Option<QuotaExcess>,
    /// Who has the name, with `name_taken`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub existing_id: Option<Uuid>,
    /// What stands in the way, with `not_empty`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub blockers: Option<Blockers>,
    /// The state that does not allow it, with `wrong_state`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub state: Option<String>,
}

impl Problem {
    /// A problem without further members.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:nexus:problem:{}", code.as_str()),
            title: code.title(),
            status: code.status(),
            detail: detail.into(),
            error_code: code,
            request_id: String::new(),
            operation_id: None,
            errors: Vec::new(),
            quota: None,
            existing_id: None,
            blockers: None,
            state: None,
        }
    }

    /// Broken rules.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.detail))
            .collect::<Vec<_>>()
            .join("; ");
        Self {
            errors,
            ..Self::new(ErrorCode::InvalidRequest, detail)
        }
    }

    /// What the database said no with.
    pub fn refused(refusal: &Refusal) -> Self {
        let new = |code| Self::new(code, refusal.to_string());
        match refusal.clone() {
            Refusal::QuotaExceeded {
                scope,
                scope_id,
                resource,
                limit,
                used,
                requested,
            } => {
                let quota = QuotaExcess {
                    scope,
                    scope_id,
                    resource,
                    limit,
                    used,
                    requested,
                };
                Self {
                    quota: Some(quota),
                    ..new(ErrorCode::QuotaExceeded)
                }
            }
            Refusal::NameTaken { id, .. } => Self {
                existing_id: Some(id),
                ..new(ErrorCode::NameTaken)
            },
            Refusal::NotEmpty {
                instances, first, ..
            } => {
                let first = first.into_iter().map(|b| Blocker {
                    id: b.id,
                    name: b.name,
                });
                let blockers = Blockers {
                    instances,
                    first: first.collect(),
                };
                Self {
                    blockers: Some(blockers),
                    ..new(ErrorCode::NotEmpty)
                }
            }
            Refusal::NotFound { .. } => new(ErrorCode::NotFound),
            Refusal::WrongState { state, .. } => Self {
                state: Some(state),
                ..new(ErrorCode::WrongState)
            },
            Refusal::Changed { .. } => new(ErrorCode::PreconditionFailed),
        }
    }

    /// Why a saga failed.
    pub fn of_failure(failure: &Failure) -> Self {
        match &failure.cause {
            Cause::Refused(refusal) => Self::refused(refusal),
            Cause::Unexpected {
                sqlstate,
                constraint,
                ..
            } => Self::unexpected(sqlstate.as_deref(), constraint.as_deref()),
            Cause::Call { class, message } => {
                let node = &failure.node;
                Self::new(
                    ErrorCode::Internal,
                    format!("node {node}: {class}: {message}"),
                )
            }
        }
    }

    /// Why a saga is stuck: it failed so, and then could not be undone.
    pub fn of_stuck(failure: &Failure) -> Self {
        let cause = Self::of_failure(failure).detail;
        let detail = format!("it failed and could not be undone, a person has to look: {cause}");
        Self::new(ErrorCode::OperationStuck, detail)
    }

    /// An answer of the database that nobody expected. Its message may hold data of rows and
    /// stays in the log.
    pub fn unexpected(sqlstate: Option<&str>, constraint: Option<&str>) -> Self {
        let mut detail = String::from("the database gave an answer that nobody expected");
        for (what, value) in [("SQLSTATE", sqlstate), ("constraint", constraint)] {
            if let Some(value) = value {
                detail.push_str(&format!(", {what} {value}"));
            }
        }
        Self::new(ErrorCode::Internal, detail)
    }
}

#[cfg(test)]
mod tests;
