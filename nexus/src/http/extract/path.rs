//! Paths: names and ids out of them. A text that can be neither is refused with its rule, for a
//! 404 would hide the mistake.

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use db_model::types::NameOrId;
use uuid::Uuid;

use crate::api::problem::Rule;
use crate::http::error::ApiError;

/// `{project}`.
#[derive(Clone, Debug)]
pub struct ProjectPath {
    /// Which project.
    pub project: NameOrId,
}

/// `{project}` and `{instance}`.
#[derive(Clone, Debug)]
pub struct InstancePath {
    /// Which project.
    pub project: NameOrId,
    /// Which of its instances.
    pub instance: NameOrId,
}

/// `{operation}`.
#[derive(Clone, Copy, Debug)]
pub struct OperationPath {
    /// Which operation.
    pub operation: Uuid,
}

impl<S: Sync + Send> FromRequestParts<S> for ProjectPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let segments = segments(parts, state).await?;
        Ok(Self {
            project: name_or_id(&segments, "project")?,
        })
    }
}

impl<S: Sync + Send> FromRequestParts<S> for InstancePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let segments = segments(parts, state).await?;
        let project = name_or_id(&segments, "project")?;
        Ok(Self {
            project,
            instance: name_or_id(&segments, "instance")?,
        })
    }
}

impl<S: Sync + Send> FromRequestParts<S> for OperationPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let segments = segments(parts, state).await?;
        let text = segment(&segments, "operation")?;
        let operation = Uuid::try_parse(text)
            .map_err(|_| ApiError::invalid("operation", Rule::Syntax, "must be a UUID"))?;
        Ok(Self { operation })
    }
}

/// Reads a name or an id that stands in `field`.
pub fn parse_name_or_id(field: &str, text: &str) -> Result<NameOrId, ApiError> {
    text.parse().map_err(|error| {
        ApiError::invalid(
            field,
            Rule::Name,
            format!("is neither an id nor a name: it {error}"),
        )
    })
}

fn name_or_id(segments: &RawPathParams, name: &str) -> Result<NameOrId, ApiError> {
    parse_name_or_id(name, segment(segments, name)?)
}

fn segment<'a>(segments: &'a RawPathParams, name: &str) -> Result<&'a str, ApiError> {
    let found = segments.iter().find(|(key, _)| *key == name);
    found
        .map(|(_, value)| value)
        .ok_or_else(|| ApiError::internal(format!("the route has no segment {name}")))
}

async fn segments<S: Sync + Send>(parts: &mut Parts, state: &S) -> Result<RawPathParams, ApiError> {
    RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|rejection| match rejection {
            RawPathParamsRejection::InvalidUtf8InPathParam(error) => {
                let text = error.body_text();
                let field = text.split('`').nth(1).unwrap_or("path");
                ApiError::invalid(field, Rule::Utf8, "must be valid UTF-8")
            }
            other => ApiError::internal(other.body_text()),
        })
}
