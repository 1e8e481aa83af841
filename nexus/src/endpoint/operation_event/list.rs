//! `GET /v1/operations/{operation}/events`

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use db_model::read;
use db_model::types::limits::{OPERATION_STREAM_KEEP_ALIVE, OPERATION_STREAMS_MAX};
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use crate::api::operation::{Operation, OperationEvent, OperationPath as PathDocs};
use crate::app::App;
use crate::follow::{Follower, Look};
use crate::http::error::{ApiError, chain};
use crate::http::extract::{NoQuery, OperationPath, Query};
use crate::http::last_event_id::{self, LastEventIdHeader};

/// Follow an operation
///
/// Its log as server-sent events, from any replica: what happened so far, and then what happens as it does.
/// Each event has as `id` its place in the log, as `event` its kind and as `data` an `OperationEvent` on one
/// line. When the operation has ended or is stuck, the event `end`, without an id, has the `Operation` as its
/// data, and the stream ends. One that ends without it was cut: ask again with `Last-Event-ID`, of any
/// replica, and nothing is missing and nothing comes twice.
#[utoipa::path(
    get, path = "/v1/operations/{operation}/events", operation_id = "operation_event_list",
    tag = "operations",
    params(PathDocs, LastEventIdHeader),
    responses((
        status = 200, description = "The events, as they come.", content_type = "text/event-stream",
        body = String, examples(("followed" = (summary = "To the end", value = json!(EXAMPLE)))),
    )),
    extensions(
        ("x-event-data" = json!({
            "end": {"$ref": "#/components/schemas/Operation"},
            "*": {"$ref": "#/components/schemas/OperationEvent"},
        })),
    ),
)]
pub async fn list(
    State(app): State<App>,
    path: OperationPath,
    Query(NoQuery): Query<NoQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = last_event_id::read(&headers)?;
    let id = path.operation;
    let Some(place) = app.stream_place() else {
        let detail = format!(
            "{OPERATION_STREAMS_MAX} operations are followed here already, which is the limit"
        );
        return Err(ApiError::unavailable(
            detail,
            "every place of a stream is taken",
        ));
    };
    let saga = read::saga::view(app.reads(), id).await?;
    saga.ok_or_else(|| ApiError::not_found("operation", id))?;
    let following = Following {
        follower: Follower::new(app.reads().clone(), id, after),
        app,
        id,
        ready: VecDeque::new(),
        over: false,
        _place: place,
    };
    let events = stream::unfold(following, Following::next);
    let keep_alive = KeepAlive::new().interval(OPERATION_STREAM_KEEP_ALIVE);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// A stream as a caller reads it.
const EXAMPLE: &str = concat!(
    "id: 1\nevent: succeeded\n",
    r#"data: {"sequence":1,"node":"insert","kind":"succeeded","attempts":1,"duration_us":3210,"#,
    r#""time":"2026-01-31T12:00:00.009000Z"}"#,
    "\n\nevent: end\n",
    r#"data: {"id":"0199c0de-0000-7000-8000-000000000003","kind":"instance-create","state":"succeeded","#,
    r#""project_id":"0199c0de-0000-7000-8000-000000000001","resource":{"kind":"instance","#,
    r#""id":"0199c0de-0000-7000-8000-000000000002","name":"front-1"},"#,
    r#""time_created":"2026-01-31T12:00:00.000000Z","time_finished":"2026-01-31T12:00:00.020000Z"}"#,
    "\n\n",
);

/// A caller who follows an operation.
struct Following {
    follower: Follower,
    app: App,
    id: Uuid,
    ready: VecDeque<Event>,
    over: bool,
    _place: OwnedSemaphorePermit,
}

impl Following {
    /// The next event, once there is one.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            if self.over {
                return None;
            }
            let app = self.app.clone();
            let look = tokio::select! {
                biased;
                // Without an `end`: the caller asks another replica, or this one when it is back.
                () = app.ending().cancelled() => return None,
                look = self.follower.next(app.executor().registry()) => look,
            };
            match look {
                Ok(Look::More(events)) => self.ready.extend(events.iter().map(event)),
                Ok(Look::End(events, operation)) => {
                    self.ready.extend(events.iter().map(event));
                    self.ready.push_back(end(&operation));
                    self.over = true;
                }
                Ok(Look::Gone) => return None,
                Err(error) => {
                    tracing::error!(operation_id = %self.id, cause = %chain(&error), "a stream is cut");
                    return None;
                }
            }
        }
    }
}

fn event(told: &OperationEvent) -> Event {
    let data = serde_json::to_string(told).expect("texts and numbers are valid JSON");
    let id = told.sequence.to_string();
    Event::default().id(id).event(told.kind.as_str()).data(data)
}

fn end(operation: &Operation) -> Event {
    let data = serde_json::to_string(operation).expect("texts and numbers are valid JSON");
    Event::default().event("end").data(data)
}
