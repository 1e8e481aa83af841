//! The admin listener: whether the process lives, whether it can serve, and what it has counted.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::app::App;
use crate::http::edge;
use crate::http::error::chain;
use crate::metrics;
use db_model::types::limits::{READY_WAIT_MAX, REQUEST_WAIT_MAX};

/// The admin listener's routes.
pub fn build(app: App) -> Router {
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(app);
    edge::wrap(routes, REQUEST_WAIT_MAX)
}

/// What is missing.
#[derive(Debug, Serialize)]
struct Missing {
    what: &'static str,
    detail: String,
}

/// 200 for as long as the process answers at all.
async fn healthz() -> Response {
    let mut response = Json(serde_json::json!({"healthy": true})).into_response();
    response.extensions_mut().insert(edge::Routine);
    response
}

/// What the process has counted, for Prometheus.
async fn metrics(State(app): State<App>) -> Response {
    let body = metrics::render(&app);
    let mut response = ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], body).into_response();
    response.extensions_mut().insert(edge::Routine);
    response
}

/// 200 when the service can do what it is asked for, 503 with what is missing otherwise.
async fn readyz(State(app): State<App>) -> Response {
    let mut missing = Vec::new();
    let ping = app.database().ping();
    let database = match tokio::time::timeout(READY_WAIT_MAX, ping).await {
        Ok(answer) => answer.map_err(|error| chain(&error)),
        Err(_) => Err(format!("no answer within {} s", READY_WAIT_MAX.as_secs())),
    };
    missing.extend(database.err().map(|detail| Missing {
        what: "database",
        detail,
    }));
    let executor = app.executor().ready();
    missing.extend(executor.err().map(|detail| Missing {
        what: "executor",
        detail,
    }));
    if app.ending().is_cancelled() {
        missing.push(Missing {
            what: "process",
            detail: "is shutting down".into(),
        });
    }
    let ready = missing.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::json!({"ready": ready, "missing": missing});
    let mut response = (status, Json(body)).into_response();
    // The body says more than a problem would.
    response.extensions_mut().insert(edge::Complete);
    if ready {
        response.extensions_mut().insert(edge::Routine);
    }
    response
}
