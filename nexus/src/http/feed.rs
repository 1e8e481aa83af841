//! The change feed's tokens: how far a reader has come.
//!
//! A token is base64url of JSON, as those of the lists are, and as little trusted.

use db_model::read::event::FeedPage;
use db_model::types::limits::FEED_SEQUENCE_MAX;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::ApiError;
use super::page;
use crate::api::problem::{ErrorCode, Rule};

/// The version of the tokens that this program makes and reads.
const VERSION: u8 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    version: u8,
    scope: String,
    sequence: i64,
    /// The event with that number. Another one there is of another history.
    event_id: Option<Uuid>,
}

/// The place behind which a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the last event that was read; 0 for none.
    pub sequence: i64,
    /// Its id; none when it had been purged, or there was none.
    pub event_id: Option<Uuid>,
}

/// The place behind which a token's page begins. `scope` names the feed and its filters.
pub fn after(token: &str, scope: &str) -> Result<Place, ApiError> {
    let token: Token = page::decode(token)?;
    if token.version != VERSION || !(0..=FEED_SEQUENCE_MAX).contains(&token.sequence) {
        return Err(page::malformed());
    }
    if token.scope != scope {
        let detail = "belongs to a feed with another filter";
        return Err(ApiError::invalid("page_token", Rule::Mismatch, detail));
    }
    Ok(Place {
        sequence: token.sequence,
        event_id: token.event_id,
    })
}

/// The token with which the feed goes on behind a page.
pub fn next(page: &FeedPage, scope: &str) -> String {
    page::encode(&Token {
        version: VERSION,
        scope: scope.to_owned(),
        sequence: page.read_to_sequence,
        event_id: page.read_to_id,
    })
}

/// Refuses a page behind which a reader would miss events without a word: those behind its token
/// have been purged, or the feed is not the one that the token is from.
pub fn whole(page: &FeedPage, after: Option<Place>) -> Result<(), ApiError> {
    let Some(Place {
        sequence: after,
        event_id,
    }) = after
    else {
        return Ok(());
    };
    let (purged, last) = (page.feed.purged_sequence, page.feed.last_sequence);
    let what = if after < purged {
        format!("the events {} to {purged} have been purged", after + 1)
    } else if after > last {
        format!(
            "the token is from event {after}, and the feed ends with {last}: the database was \
             restored from an older copy"
        )
    } else if page.after_id.is_some() && page.after_id != event_id {
        // A number is given once. What was purged when the token was made does not come back either.
        format!(
            "the token is from another event {after} than the feed has: the database was restored \
             from an older copy"
        )
    } else {
        return Ok(());
    };
    let detail = format!(
        "{what}; list projects and instances anew, and read the feed from its beginning, without \
         page_token"
    );
    Err(ApiError::new(ErrorCode::EventsExpired, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use db_model::read::event::Extent;

    fn page(read_to_sequence: i64) -> FeedPage {
        FeedPage {
            events: Vec::new(),
            read_to_sequence,
            read_to_id: Some(Uuid::from_u128(7)),
            after_id: Some(Uuid::from_u128(7)),
            feed: Extent {
                purged_sequence: 5,
                last_sequence: 9,
            },
        }
    }

    fn place(sequence: i64) -> Place {
        Place {
            sequence,
            event_id: Some(Uuid::from_u128(7)),
        }
    }

    fn rule(error: ApiError) -> Rule {
        error.into_parts().0.errors[0].rule
    }

    #[test]
    fn a_token_leads_back_to_its_place_and_no_other_feed() {
        let token = next(&page(7), "events a");
        assert_eq!(after(&token, "events a").unwrap(), place(7));
        assert_eq!(rule(after(&token, "events b").unwrap_err()), Rule::Mismatch);
    }

    #[test]
    fn garbage_and_forgeries_are_refused() {
        let forge = |version: u8, sequence: i64| {
            let json = format!(r#"{{"version":{version},"scope":"e","sequence":{sequence}}}"#);
            URL_SAFE_NO_PAD.encode(json)
        };
        assert_eq!(after(&forge(2, 0), "e").unwrap().sequence, 0);
        for bad in [
            String::new(),
            "?".to_owned(),
            forge(1, 1),
            forge(2, -1),
            forge(2, i64::MAX),
        ] {
            assert_eq!(rule(after(&bad, "e").unwrap_err()), Rule::Syntax, "{bad}");
        }
    }

    #[test]
    fn a_reader_hears_that_it_missed_events() {
        for after in [None, Some(5), Some(7), Some(9)] {
            assert!(whole(&page(9), after.map(place)).is_ok(), "{after:?}");
        }
        for after in [0, 4, 10] {
            let problem = whole(&page(9), Some(place(after)))
                .unwrap_err()
                .into_parts()
                .0;
            assert_eq!(problem.error_code, ErrorCode::EventsExpired, "{after}");
        }
        for event_id in [None, Some(Uuid::from_u128(8))] {
            let other = Place {
                event_id,
                ..place(7)
            };
            let problem = whole(&page(9), Some(other)).unwrap_err().into_parts().0;
            assert_eq!(problem.error_code, ErrorCode::EventsExpired, "{event_id:?}");
        }
        let purged = FeedPage {
            after_id: None,
            ..page(9)
        };
        assert!(whole(&purged, Some(place(7))).is_ok());
    }
}
