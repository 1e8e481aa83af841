//! What every endpoint shares: errors, extractors, headers, pages, and the edge around the routes.

pub mod edge;
pub mod error;
pub mod etag;
pub mod extract;
pub mod feed;
pub mod last_event_id;
pub mod page;
pub mod prefer;
pub mod request_id;
pub mod submit;
