//! `Prefer: respond-async` and `Prefer: wait=N` (RFC 7240): how long a caller waits.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use db_model::types::limits::{OPERATION_WAIT_DEFAULT, OPERATION_WAIT_MAX};
use utoipa::IntoParams;

/// The request's header.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The response's header.
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The header, for the documentation.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents what Prefer::read reads")]
pub struct PreferHeader {
    /// `respond-async` answers 202 at once; `wait=N` waits N seconds (30 unless told, 120 at most)
    /// for the operation and then answers 202. What cannot be understood is ignored.
    #[param(
        rename = "Prefer",
        required = false,
        nullable = false,
        example = "respond-async"
    )]
    prefer: Option<String>,
}

/// What a caller prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefer {
    respond_async: bool,
    wait: Option<Duration>,
}

impl Prefer {
    /// Reads the headers. RFC 7240: of a preference that is given twice the first holds, and one
    /// that cannot be understood is ignored.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let lines = headers
            .get_all(PREFER)
            .iter()
            .filter_map(|line| line.to_str().ok());
        for preference in lines.flat_map(|line| line.split(',')) {
            // What follows a semicolon are parameters, of which these preferences have none.
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "respond-async" if value.is_empty() => prefer.respond_async = true,
                "wait" if prefer.wait.is_none() => prefer.wait = seconds(value),
                _ => {}
            }
        }
        prefer
    }

    /// How long to wait for the operation.
    pub fn wait(self) -> Duration {
        match (self.wait, self.respond_async) {
            (Some(wait), _) => wait.min(OPERATION_WAIT_MAX),
            (None, true) => Duration::ZERO,
            (None, false) => OPERATION_WAIT_DEFAULT,
        }
    }

    /// Whether the caller wants to be told where to look rather than to wait for the end.
    pub fn is_async(self) -> bool {
        self.respond_async || self.wait().is_zero()
    }

    /// What was honoured, for `Preference-Applied`.
    pub fn applied(self) -> Option<HeaderValue> {
        let wait = self.wait.map(|_| format!("wait={}", self.wait().as_secs()));
        let respond_async = self.respond_async.then(|| "respond-async".to_owned());
        let parts: Vec<_> = respond_async.into_iter().chain(wait).collect();
        if parts.is_empty() {
            return None;
        }
        Some(HeaderValue::from_str(&parts.join(", ")).expect("tokens and digits are valid"))
    }
}

/// A delta-seconds; a greater one than fits is as good as the greatest.
fn seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> (u64, Option<String>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PREFER, HeaderValue::from_str(line).unwrap());
        }
        let prefer = Prefer::read(&headers);
        let applied = prefer
            .applied()
            .map(|value| value.to_str().unwrap().to_owned());
        (prefer.wait().as_secs(), applied)
    }

    #[test]
    fn preferences_are_read_and_what_is_malformed_is_ignored() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read(&[]), (30, None));
        assert_eq!(read(&["respond-async"]), (0, some("respond-async")));
        assert_eq!(
            read(&["Respond-Async; x=1, handling=lenient"]),
            (0, some("respond-async"))
        );
        assert_eq!(read(&["wait=5"]), (5, some("wait=5")));
        assert_eq!(read(&["wait = \"5\""]), (5, some("wait=5")));
        assert_eq!(
            read(&["respond-async, wait=2"]),
            (2, some("respond-async, wait=2"))
        );
        assert_eq!(
            read(&["respond-async", "wait=2", "wait=9"]),
            (2, some("respond-async, wait=2"))
        );
        assert_eq!(read(&["wait=9999"]), (120, some("wait=120")));
        assert_eq!(
            read(&["wait=99999999999999999999999"]),
            (120, some("wait=120"))
        );
        for bad in [
            "wait",
            "wait=",
            "wait=abc",
            "wait=-1",
            "wait=1.5",
            "=",
            ",,",
            "respond-async=no",
        ] {
            assert_eq!(read(&[bad]), (30, None), "{bad}");
        }
    }
}
