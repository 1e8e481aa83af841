//! The one table of all routes.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::app::App;
use crate::endpoint::{
    event, fleet_instance, fleet_quota, instance, operation, operation_event, project,
    project_quota, version,
};
use crate::http::edge;
use crate::openapi;
use db_model::types::limits::REQUEST_WAIT_MAX;

/// Every route of the API with what it says about itself.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(project::list::list, project::create::create))
        .routes(routes!(project::view::view, project::delete::delete))
        .routes(routes!(
            project_quota::view::view,
            project_quota::update::update
        ))
        .routes(routes!(instance::list::list, instance::create::create))
        .routes(routes!(instance::view::view, instance::delete::delete))
        .routes(routes!(fleet_instance::list::list))
        .routes(routes!(
            fleet_quota::view::view,
            fleet_quota::update::update
        ))
        .routes(routes!(operation::list::list))
        .routes(routes!(operation::view::view))
        .routes(routes!(operation_event::list::list))
        .routes(routes!(event::list::list))
        .routes(routes!(version::view::view))
}

/// The service: the API, its description, its documentation, and the edge around them.
pub fn build(app: App) -> Router {
    let (routes, document) = routes().split_for_parts();
    let document = openapi::finish(&document);
    let docs = SwaggerUi::new("/docs")
        // Without `none` the page asks a validator in the internet.
        .config(Config::from("/openapi.json").validator_url("none"));
    let routes = routes
        .route("/openapi.json", get(|| async { ([JSON], document) }))
        .merge(docs)
        .with_state(app);
    edge::wrap(routes, REQUEST_WAIT_MAX)
}

const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json");
