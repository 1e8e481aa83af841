//! `GET /v1/events`

use axum::Json;
use axum::extract::State;
use db_model::read;
use db_model::read::event::EventFilter;
use db_model::types::EventKind;
use db_model::types::limits::PAGE_ITEMS_DEFAULT;

use crate::api::event::{Event, EventPage, EventQuery};
use crate::app::App;
use crate::endpoint::find_project_id;
use crate::http::error::ApiError;
use crate::http::extract::Query;
use crate::http::feed;

/// Follow what happens
///
/// The change feed: what happened to projects, instances and quotas, each change once, in the order
/// of the feed. Unlike a list it has no end: `next_page` is always there. Keep it when a page has
/// been dealt with, and ask with it again, also after a restart. Events are kept for a time; a token
/// from before that is answered 410.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "event_list", tag = "events",
    params(EventQuery),
    responses((status = 200, description = "A page of events.", body = EventPage)),
    extensions(("x-error-codes" = json!(["not_found", "events_expired"]))),
)]
pub async fn list(
    State(app): State<App>,
    Query(query): Query<EventQuery>,
) -> Result<Json<EventPage>, ApiError> {
    let project_id = match &query.project {
        Some(text) => Some(find_project_id(&app, text).await?),
        None => None,
    };
    let scope = format!(
        "events kind={} project={}",
        query.kind.map_or("", EventKind::as_str),
        project_id.unwrap_or_default(),
    );
    let token = query.page_token.as_deref();
    let after = token.map(|token| feed::after(token, &scope)).transpose()?;
    let filter = EventFilter {
        project_id,
        kind: query.kind,
    };
    let limit = query.limit.unwrap_or(PAGE_ITEMS_DEFAULT);
    let page = read::event::list(
        app.reads(),
        &filter,
        after.map(|place| place.sequence),
        limit,
    )
    .await?;
    feed::whole(&page, after)?;
    Ok(Json(EventPage {
        next_page: feed::next(&page, &scope),
        has_more: page.read_to_sequence < page.feed.last_sequence,
        items: page.events.into_iter().map(Event::from).collect(),
    }))
}
