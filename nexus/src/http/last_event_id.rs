//! `Last-Event-ID`: how far a reader of a stream has come, by the HTML standard's server-sent events.

use axum::http::{HeaderMap, HeaderName};
use utoipa::IntoParams;

use super::error::ApiError;
use crate::api::problem::Rule;

/// The request's header.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The header, for the documentation.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents what last_event_id::read reads")]
pub struct LastEventIdHeader {
    /// The `id` of the last event that was read: the stream goes on behind it. Browsers send it by themselves.
    #[param(
        rename = "Last-Event-ID",
        required = false,
        nullable = false,
        pattern = "^[0-9]+$",
        example = "0"
    )]
    last_event_id: Option<String>,
}

/// The number behind which the stream begins; 0 when nothing is said. One that is greater than any log has is
/// as good as the greatest.
pub fn read(headers: &HeaderMap) -> Result<i64, ApiError> {
    let mut lines = headers.get_all(LAST_EVENT_ID).iter();
    let Some(line) = lines.next() else {
        return Ok(0);
    };
    let text = line.to_str().unwrap_or_default();
    let is_whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_whole || lines.next().is_some() {
        let detail = "must be one whole number from 0 on: the id of the last event that was read";
        return Err(ApiError::invalid("Last-Event-ID", Rule::Syntax, detail));
    }
    Ok(text.parse().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn after(lines: &[&[u8]]) -> Option<i64> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(LAST_EVENT_ID, HeaderValue::from_bytes(line).unwrap());
        }
        read(&headers).ok()
    }

    #[test]
    fn one_whole_number_is_read_and_all_else_refused() {
        assert_eq!(after(&[]), Some(0));
        assert_eq!(after(&[b"0"]), Some(0));
        assert_eq!(after(&[b"0042"]), Some(42));
        assert_eq!(after(&[b"99999999999999999999999"]), Some(i64::MAX));
        for bad in [
            &b""[..],
            b"-1",
            b"+1",
            b"1.0",
            b"1 2",
            b"one",
            b"\xe2\x91\xa0",
        ] {
            assert_eq!(after(&[bad]), None, "{bad:?}");
        }
        assert_eq!(after(&[b"1", b"1"]), None);
    }
}
