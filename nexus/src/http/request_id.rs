//! The request's id: the caller's when it is usable, otherwise a new one.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use db_model::types::limits::REQUEST_ID_CHARACTERS_MAX;
use uuid::Uuid;

use super::error::ApiError;

/// The header of request and response.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The request's id: 1 to [`REQUEST_ID_CHARACTERS_MAX`] visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The caller's id. One that is not usable is not worth a refusal: a new one takes its place,
    /// and the response says which.
    pub fn take(headers: &HeaderMap) -> Self {
        let usable = |text: &&str| {
            (1..=REQUEST_ID_CHARACTERS_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let given = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(usable);
        Self(given.map_or_else(|| Uuid::now_v7().to_string().into(), Into::into))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as a header.
    pub fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("visible ASCII is a valid header")
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        // The edge has set it; a router without the edge takes it here.
        Ok(parts
            .extensions
            .get()
            .cloned()
            .unwrap_or_else(|| Self::take(&parts.headers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(value: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        RequestId::take(&headers).as_str().to_owned()
    }

    #[test]
    fn a_usable_id_is_kept_and_another_replaced() {
        assert_eq!(take(b"a/B-1"), "a/B-1");
        assert_eq!(take(&[b'x'; 128]), "x".repeat(128));
        for bad in [&b""[..], b"a b", b"caf\xc3\xa9", &[b'x'; 129]] {
            let new = take(bad);
            assert!(Uuid::try_parse(&new).is_ok(), "{new}");
        }
    }
}
