//! Pages: from a caller's query to the database's keyset, and back to a token.
//!
//! A token is base64url of JSON: its version, the list with its filters, the order, and the last
//! item. It is opaque to callers and trusted with nothing: whatever is read from it is checked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Datelike, Utc};
use db_model::model::{Instance, Project, Saga};
use db_model::read::{Cursor, PageRequest, SortKey};
use db_model::types::Name;
use db_model::types::limits::PAGE_ITEMS_DEFAULT;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::ApiError;
use crate::api::page::{PageQuery, SortBy};
use crate::api::problem::Rule;
use db_model::types::limits::PAGE_TOKEN_CHARACTERS_MAX;

/// The version of the tokens that this program makes and reads.
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    version: u8,
    scope: String,
    sort_by: SortBy,
    after: After,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum After {
    Name(String, Uuid),
    TimeCreatedMicroseconds(i64, Uuid),
}

/// An item of a list.
pub trait Item {
    /// What it is sorted by.
    fn keys(&self) -> (&str, DateTime<Utc>, Uuid);
}

impl Item for Project {
    fn keys(&self) -> (&str, DateTime<Utc>, Uuid) {
        (&self.name, self.time_created, self.id)
    }
}

impl Item for Instance {
    fn keys(&self) -> (&str, DateTime<Utc>, Uuid) {
        (&self.name, self.time_created, self.id)
    }
}

impl Item for Saga {
    fn keys(&self) -> (&str, DateTime<Utc>, Uuid) {
        (&self.resource_name, self.time_created, self.id)
    }
}

/// One page of one list.
#[derive(Clone, Debug)]
pub struct Page {
    scope: String,
    sort_by: SortBy,
    limit: usize,
    /// What to read: one more item than the page has, which tells whether there is another page.
    pub request: PageRequest,
}

impl Page {
    /// The page that a query asks for. `scope` names the list, its parent and its filters.
    pub fn new(query: PageQuery, scope: &str, default: SortBy) -> Result<Self, ApiError> {
        let token = query.page_token.as_deref().map(read).transpose()?;
        let mismatch = |what: &str| {
            let detail = format!("belongs to a list with another {what}");
            Err(ApiError::invalid("page_token", Rule::Mismatch, detail))
        };
        let sort_by = match (&token, query.sort_by) {
            (Some(token), _) if token.scope != scope => return mismatch("parent or filter"),
            (Some(token), Some(asked)) if token.sort_by != asked => return mismatch("sort_by"),
            (Some(token), _) => token.sort_by,
            (None, asked) => asked.unwrap_or(default),
        };
        let after = token
            .map(|token| cursor(token.after, sort_by))
            .transpose()?;
        let limit = query.limit.unwrap_or(PAGE_ITEMS_DEFAULT);
        let (key, direction) = sort_by.key();
        let request = PageRequest {
            key,
            direction,
            after,
            limit: limit + 1,
        };
        let limit = usize::try_from(limit).expect("a page's limit fits");
        Ok(Self {
            scope: scope.to_owned(),
            sort_by,
            limit,
            request,
        })
    }

    /// Cuts off the item too many; gives the token of the next page, when there is one.
    pub fn cut<T: Item>(&self, rows: &mut Vec<T>) -> Option<String> {
        if rows.len() <= self.limit {
            return None;
        }
        rows.truncate(self.limit);
        let (name, time_created, id) = rows.last()?.keys();
        let after = match self.request.key {
            SortKey::Name => After::Name(name.to_owned(), id),
            SortKey::TimeCreated => {
                After::TimeCreatedMicroseconds(time_created.timestamp_micros(), id)
            }
        };
        let token = Token {
            version: VERSION,
            scope: self.scope.clone(),
            sort_by: self.sort_by,
            after,
        };
        Some(encode(&token))
    }
}

pub(super) fn malformed() -> ApiError {
    let detail = "is no token of this list or feed: take it from its next_page as it is";
    ApiError::invalid("page_token", Rule::Syntax, detail)
}

/// The text of a token.
pub(super) fn encode(token: &impl Serialize) -> String {
    let json = serde_json::to_vec(token).expect("texts, numbers and UUIDs are valid JSON");
    URL_SAFE_NO_PAD.encode(json)
}

/// A token of some list or feed.
pub(super) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    if text.len() > PAGE_TOKEN_CHARACTERS_MAX {
        return Err(malformed());
    }
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed())?;
    serde_json::from_slice(&json).map_err(|_| malformed())
}

fn read(text: &str) -> Result<Token, ApiError> {
    let token: Token = decode(text)?;
    if token.version == VERSION {
        Ok(token)
    } else {
        Err(malformed())
    }
}

fn cursor(after: After, sort_by: SortBy) -> Result<Cursor, ApiError> {
    match (after, sort_by.key().0) {
        (After::Name(name, id), SortKey::Name) => {
            let name = Name::new(name).map_err(|_| malformed())?;
            Ok(Cursor::Name(name.into(), id))
        }
        (After::TimeCreatedMicroseconds(microseconds, id), SortKey::TimeCreated) => {
            // A forged time beyond PostgreSQL's range would be an error of the database.
            let time = DateTime::from_timestamp_micros(microseconds)
                .filter(|time| (1970..10_000).contains(&time.year()))
                .ok_or_else(malformed)?;
            Ok(Cursor::TimeCreated(time, id))
        }
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use db_model::types::ProjectState;

    fn query(limit: u32, token: Option<&str>, sort_by: Option<SortBy>) -> PageQuery {
        PageQuery {
            limit: Some(limit),
            page_token: token.map(str::to_owned),
            sort_by,
        }
    }

    fn rows(count: u128) -> Vec<Project> {
        let time = DateTime::from_timestamp_micros(1_234_567).unwrap();
        let row = |number| Project {
            id: Uuid::from_u128(number),
            name: format!("p{number}"),
            description: String::new(),
            state: ProjectState::Active,
            generation: 1,
            changed_by: Uuid::nil(),
            time_created: time,
            time_modified: time,
            time_deleted: None,
        };
        (0..count).map(row).collect()
    }

    fn token(sort_by: SortBy) -> String {
        let page = Page::new(query(2, None, Some(sort_by)), "list", SortBy::Name).unwrap();
        assert_eq!(page.request.limit, 3);
        page.cut(&mut rows(3)).unwrap()
    }

    fn refused(query: PageQuery, scope: &str) -> Rule {
        Page::new(query, scope, SortBy::Name)
            .unwrap_err()
            .into_parts()
            .0
            .errors[0]
            .rule
    }

    #[test]
    fn a_token_leads_behind_the_last_item() {
        let id = Uuid::from_u128(1);
        let token = token(SortBy::TimeCreatedDescending);
        let page = Page::new(query(5, Some(&token), None), "list", SortBy::Name).unwrap();
        let time = DateTime::from_timestamp_micros(1_234_567).unwrap();
        assert_eq!(page.request.after, Some(Cursor::TimeCreated(time, id)));
        assert_eq!(page.sort_by, SortBy::TimeCreatedDescending);

        let token = self::token(SortBy::Name);
        let page = Page::new(query(5, Some(&token), None), "list", SortBy::Name).unwrap();
        assert_eq!(page.request.after, Some(Cursor::Name("p1".into(), id)));
    }

    #[test]
    fn the_last_page_has_no_token() {
        let page = Page::new(query(3, None, None), "list", SortBy::Name).unwrap();
        let mut three = rows(3);
        assert_eq!(page.cut(&mut three), None);
        assert_eq!(three.len(), 3);
    }

    #[test]
    fn another_list_order_or_filter_is_refused() {
        let token = token(SortBy::Name);
        assert_eq!(
            refused(query(2, Some(&token), None), "list?a"),
            Rule::Mismatch
        );
        let other = Some(SortBy::NameDescending);
        assert_eq!(
            refused(query(2, Some(&token), other), "list"),
            Rule::Mismatch
        );
    }

    #[test]
    fn garbage_and_forgeries_are_refused() {
        let long = "A".repeat(PAGE_TOKEN_CHARACTERS_MAX + 1);
        let forged = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let id = Uuid::nil();
        let forge = |version: u8, sort_by: &str, after: &str| {
            forged(&format!(
                r#"{{"version":{version},"scope":"list","sort_by":"{sort_by}","after":{after}}}"#
            ))
        };
        let good = forge(1, "name", &format!(r#"{{"name":["a","{id}"]}}"#));
        assert!(Page::new(query(2, Some(&good), None), "list", SortBy::Name).is_ok());
        for bad in [
            String::new(),
            "?".into(),
            long,
            forged("{}"),
            forge(2, "name", &format!(r#"{{"name":["a","{id}"]}}"#)),
            forge(1, "-time_created", &format!(r#"{{"name":["a","{id}"]}}"#)),
            forge(1, "name", &format!(r#"{{"name":["a\u0000","{id}"]}}"#)),
            forge(
                1,
                "time_created",
                &format!(r#"{{"time_created_microseconds":[{},"{id}"]}}"#, i64::MAX),
            ),
            forge(
                1,
                "time_created",
                &format!(r#"{{"time_created_microseconds":[{},"{id}"]}}"#, i64::MIN),
            ),
        ] {
            assert_eq!(
                refused(query(2, Some(&bad), None), "list"),
                Rule::Syntax,
                "{bad}"
            );
        }
    }
}
