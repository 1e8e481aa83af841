//! Entity tags: `"<id>-<generation>"`, `If-Match` and `If-None-Match` (RFC 9110).

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::IntoParams;
use uuid::Uuid;

use super::error::ApiError;
use crate::api::problem::{ErrorCode, Rule};

/// `If-Match`, for the documentation.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents what Tag::if_match reads")]
pub struct IfMatchHeader {
    /// Entity tags: the change is made only if the resource still has one of them.
    #[param(rename = "If-Match", required = false, nullable = false, example = "*")]
    #[param(pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#)]
    if_match: Option<String>,
}

/// `If-None-Match`, for the documentation.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents what Tag::view reads")]
pub struct IfNoneMatchHeader {
    /// Entity tags: the answer is 304 if the resource still has one of them.
    #[param(rename = "If-None-Match", required = false, nullable = false)]
    #[param(pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#)]
    #[param(example = "\"0199c0de-0000-7000-8000-000000000001-1\"")]
    if_none_match: Option<String>,
}

/// The tag of a resource as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The resource.
    pub id: Uuid,
    /// Its generation.
    pub generation: i64,
}

impl Tag {
    /// The tag as a header.
    pub fn to_header(self) -> HeaderValue {
        let text = format!("\"{}-{}\"", self.id, self.generation);
        HeaderValue::from_str(&text).expect("a UUID and a number are valid in a header")
    }

    fn opaque(self) -> String {
        format!("{}-{}", self.id, self.generation)
    }

    /// Answers a view: 304 when the caller has it already.
    pub fn view(self, headers: &HeaderMap, body: impl IntoResponse) -> Result<Response, ApiError> {
        let known = match read(headers, &header::IF_NONE_MATCH)? {
            Some(Condition::Any) => true,
            // Weak comparison: the mark does not matter.
            Some(Condition::Tags(tags)) => tags.iter().any(|tag| tag.opaque == self.opaque()),
            None => false,
        };
        let response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            body.into_response()
        };
        Ok(([(header::ETAG, self.to_header())], response).into_response())
    }

    /// The generation that the resource must still have when the change is made, if the caller
    /// names any. The resource was read a moment ago; the change itself compares again.
    pub fn if_match(self, headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
        let tags = match read(headers, &header::IF_MATCH)? {
            None | Some(Condition::Any) => return Ok(None),
            Some(Condition::Tags(tags)) => tags,
        };
        // Strong comparison: a weak tag matches nothing.
        if tags
            .iter()
            .any(|tag| !tag.weak && tag.opaque == self.opaque())
        {
            return Ok(Some(self.generation));
        }
        let detail = format!("the resource's entity tag is now \"{}\"", self.opaque());
        Err(ApiError::new(ErrorCode::PreconditionFailed, detail))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Condition {
    Any,
    Tags(Vec<EntityTag>),
}

#[derive(Debug, PartialEq, Eq)]
struct EntityTag {
    weak: bool,
    opaque: String,
}

fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Condition>, ApiError> {
    let malformed = || {
        let detail = "must be * or a list of entity tags in double quotes";
        ApiError::invalid(name.as_str(), Rule::Syntax, detail)
    };
    let mut lines = Vec::new();
    for line in headers.get_all(name) {
        lines.push(line.to_str().map_err(|_| malformed())?);
    }
    if lines.is_empty() {
        return Ok(None);
    }
    parse(&lines.join(",")).map(Some).ok_or_else(malformed)
}

fn parse(text: &str) -> Option<Condition> {
    if text.trim() == "*" {
        return Some(Condition::Any);
    }
    let mut tags = Vec::new();
    let mut rest = text;
    loop {
        // RFC 9110, 5.6.1: empty elements of a list are to be skipped.
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            break;
        }
        let weak = rest.starts_with("W/");
        let quoted = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let (opaque, after) = quoted.split_once('"')?;
        if !opaque.bytes().all(|byte| byte == 0x21 || byte >= 0x23) {
            return None;
        }
        tags.push(EntityTag {
            weak,
            opaque: opaque.to_owned(),
        });
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
    if tags.is_empty() {
        None
    } else {
        Some(Condition::Tags(tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: Tag = Tag {
        id: Uuid::from_u128(5),
        generation: 3,
    };
    const TEXT: &str = "\"00000000-0000-0000-0000-000000000005-3\"";

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    fn if_match(value: &str) -> Result<Option<i64>, u16> {
        let result = TAG.if_match(&headers(header::IF_MATCH, value));
        result.map_err(|error| error.into_parts().0.status)
    }

    fn view(value: &str) -> u16 {
        match TAG.view(&headers(header::IF_NONE_MATCH, value), "body") {
            Ok(response) => {
                assert_eq!(response.headers()[header::ETAG], TEXT);
                response.status().as_u16()
            }
            Err(error) => error.into_parts().0.status,
        }
    }

    #[test]
    fn if_match_compares_strongly_and_refuses_garbage() {
        let other = "\"00000000-0000-0000-0000-000000000006-3\"";
        assert_eq!(TAG.if_match(&HeaderMap::new()).unwrap(), None);
        assert_eq!(if_match("*"), Ok(None));
        assert_eq!(if_match(TEXT), Ok(Some(3)));
        assert_eq!(if_match(&format!("{other} ,, {TEXT}")), Ok(Some(3)));
        assert_eq!(if_match(other), Err(412));
        assert_eq!(if_match("\"x,y\""), Err(412));
        assert_eq!(if_match(&format!("W/{TEXT}")), Err(412));
        for bad in [
            "",
            "x",
            "\"x",
            "\"x\" \"y\"",
            "*, \"x\"",
            "w/\"x\"",
            "\"a b\"",
        ] {
            assert_eq!(if_match(bad), Err(400), "{bad}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        assert_eq!(view("*"), 304);
        assert_eq!(view(TEXT), 304);
        assert_eq!(view(&format!("W/{TEXT}")), 304);
        assert_eq!(view("\"other\""), 200);
        assert_eq!(view("garbage"), 400);
    }
}
