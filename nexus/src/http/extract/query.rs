//! Query strings, read strictly: unknown and repeated names, bad escapes, invalid UTF-8 and NUL are
//! refused, where the usual readers drop or mend them.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use db_model::types::EventKind;
use db_model::types::limits::PAGE_ITEMS_MAX;

use crate::api::event::EventQuery;
use crate::api::operation::{OperationFilter, OperationState};
use crate::api::page::{PageQuery, SortBy};
use crate::api::problem::{FieldError, Rule};
use crate::http::error::ApiError;

/// A query that a type can be read from.
pub trait FromQuery: Sized {
    /// Takes its parameters; whatever remains is unknown.
    fn take(parameters: &mut Parameters) -> Self;
}

/// A request's query.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: FromQuery, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let mut parameters = Parameters::parse(parts.uri.query().unwrap_or_default());
        let query = T::take(&mut parameters);
        parameters.finish()?;
        Ok(Self(query))
    }
}

/// An endpoint without parameters.
#[derive(Clone, Copy, Debug)]
pub struct NoQuery;

impl FromQuery for NoQuery {
    fn take(_parameters: &mut Parameters) -> Self {
        Self
    }
}

impl FromQuery for PageQuery {
    fn take(parameters: &mut Parameters) -> Self {
        Self {
            limit: parameters.whole("limit", 1, PAGE_ITEMS_MAX),
            page_token: parameters.text("page_token"),
            sort_by: parameters.choice("sort_by", &SortBy::ALL, SortBy::as_str),
        }
    }
}

impl FromQuery for (PageQuery, OperationFilter) {
    fn take(parameters: &mut Parameters) -> Self {
        let filter = OperationFilter {
            state: parameters.choice("state", &OperationState::ALL, OperationState::as_str),
            kind: parameters
                .choice("kind", &sagas::registry::builtin().names(), |name| name)
                .map(str::to_owned),
            project: parameters.text("project"),
        };
        (PageQuery::take(parameters), filter)
    }
}

impl FromQuery for EventQuery {
    fn take(parameters: &mut Parameters) -> Self {
        Self {
            limit: parameters.whole("limit", 1, PAGE_ITEMS_MAX),
            page_token: parameters.text("page_token"),
            kind: parameters.choice("kind", EventKind::ALL, EventKind::as_str),
            project: parameters.text("project"),
        }
    }
}

/// The parameters of a query and what was found wrong with them.
#[derive(Debug, Default)]
pub struct Parameters {
    values: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl Parameters {
    fn parse(query: &str) -> Self {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = match decode(name) {
                Ok(name) => name,
                Err((rule, detail)) => {
                    parameters.refuse("query", rule, detail);
                    continue;
                }
            };
            match decode(value) {
                Err((rule, detail)) => parameters.refuse(&name, rule, detail),
                Ok(_) if parameters.values.contains_key(&name) => {
                    parameters.refuse(&name, Rule::Duplicate, "is there more than once");
                }
                Ok(value) => drop(parameters.values.insert(name, value)),
            }
        }
        parameters
    }

    /// Notes a broken rule.
    pub fn refuse(&mut self, field: &str, rule: Rule, detail: impl Into<String>) {
        self.errors.push(FieldError::new(field, rule, detail));
    }

    /// A text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// A whole number of a range.
    pub fn whole(&mut self, name: &str, least: u32, most: u32) -> Option<u32> {
        let text = self.values.remove(name)?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // What does not fit is beyond the range too.
        let value = if digits {
            Some(text.parse().unwrap_or(u32::MAX))
        } else {
            None
        };
        match value {
            Some(value) if (least..=most).contains(&value) => Some(value),
            _ => {
                let rule = if digits { Rule::OutOfRange } else { Rule::Type };
                self.refuse(
                    name,
                    rule,
                    format!("must be a whole number from {least} to {most}"),
                );
                None
            }
        }
    }

    /// One of some values.
    pub fn choice<T: Copy>(
        &mut self,
        name: &str,
        all: &[T],
        as_str: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let text = self.values.remove(name)?;
        let found = all.iter().copied().find(|&value| as_str(value) == text);
        if found.is_none() {
            let names: Vec<_> = all.iter().map(|&value| as_str(value)).collect();
            self.refuse(
                name,
                Rule::Choice,
                format!("must be one of {}", names.join(", ")),
            );
        }
        found
    }

    fn finish(mut self) -> Result<(), ApiError> {
        for name in std::mem::take(&mut self.values).into_keys() {
            self.refuse(&name, Rule::Unknown, "there is no such parameter");
        }
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(self.errors.into())
        }
    }
}

/// Undoes the escapes of a form.
fn decode(text: &str) -> Result<String, (Rule, &'static str)> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => match (rest.next().and_then(hex), rest.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err((Rule::Syntax, "has a % without two hexadecimal digits")),
            },
            byte => byte,
        });
    }
    match String::from_utf8(bytes) {
        Err(_) => Err((Rule::Utf8, "must be valid UTF-8")),
        Ok(text) if text.contains('\0') => {
            Err((Rule::Nul, "must not contain the character U+0000"))
        }
        Ok(text) => Ok(text),
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Result<PageQuery, Vec<(String, Rule)>> {
        let mut parameters = Parameters::parse(query);
        let page = PageQuery::take(&mut parameters);
        parameters.finish().map(|()| page).map_err(|error| {
            let errors = error.into_parts().0.errors.into_iter();
            errors.map(|error| (error.field, error.rule)).collect()
        })
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let query = page("limit=5&sort_by=%2Dname&page_token=a%20b").unwrap();
        assert_eq!(query.limit, Some(5));
        assert_eq!(query.sort_by, Some(SortBy::NameDescending));
        assert_eq!(query.page_token.as_deref(), Some("a b"));
        assert_eq!(page("").unwrap().limit, None);
    }

    #[test]
    fn everything_else_names_parameter_and_rule() {
        for (query, field, rule) in [
            ("limit=0", "limit", Rule::OutOfRange),
            ("limit=1001", "limit", Rule::OutOfRange),
            ("limit=99999999999", "limit", Rule::OutOfRange),
            ("limit=-1", "limit", Rule::Type),
            ("limit=1.5", "limit", Rule::Type),
            ("limit=", "limit", Rule::Type),
            ("limit=+1", "limit", Rule::Type),
            ("limit=1&limit=1", "limit", Rule::Duplicate),
            ("sort_by=size", "sort_by", Rule::Choice),
            ("colour=red", "colour", Rule::Unknown),
            ("Limit=1", "Limit", Rule::Unknown),
            ("page_token=%00", "page_token", Rule::Nul),
            ("page_token=%ff", "page_token", Rule::Utf8),
            ("page_token=%f", "page_token", Rule::Syntax),
            ("%ff=1", "query", Rule::Utf8),
        ] {
            assert_eq!(
                page(query).unwrap_err(),
                [(field.to_owned(), rule)],
                "{query}"
            );
        }
        assert_eq!(page("limit=0&a=1&b=2").unwrap_err().len(), 3);
    }
}
