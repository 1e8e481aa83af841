//! A service that creates instances without a log: the product's route, bodies, checks, tables and feed, and none of
//! its sagas. It is what the product is compared with, and runs as a process of its own, as the product does.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use clap::{Args, ValueEnum};
use db_model::Database;
use db_model::connect::ConnectOptions;
use db_model::model::Instance;
use db_model::pool::PoolOptions;
use db_model::query::Change;
use db_model::read;
use db_model::types::limits::{
    POOL_WAIT, READ_POOL_SIZE_DEFAULT, REQUEST_WAIT_MAX, WRITE_POOL_SIZE_DEFAULT,
};
use db_model::types::{InstanceState, NameOrId};
use nexus::api;
use nexus::api::instance::InstanceCreate;
use nexus::api::problem::{ErrorCode, Problem};
use nexus::background::publish;
use nexus::http::edge;
use nexus::http::etag::Tag;
use nexus::http::submit::created;
use nexus::telemetry::{self, Output};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::work::{NotDone, Work};

/// How the service without a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// Plain interactive Diesel.
    Plain,
    /// As batches.
    Batched,
    /// As batches, and behind the product's edge: request ids, spans, a record of each request, time-outs.
    Edged,
}

/// Runs the service without a log, until it is killed.
#[derive(Clone, Debug, Args)]
pub struct NoLogArgs {
    /// How it is written.
    #[arg(long)]
    pub style: Style,
    /// The database, which has the product's schema.
    #[arg(long)]
    pub database_url: String,
}

#[derive(Debug)]
struct App {
    database: Database,
    work: Work,
}

/// Serves on a port of its own, and says in the log which.
///
/// # Errors
/// When it cannot be started.
pub async fn serve(args: NoLogArgs) -> Result<()> {
    telemetry::init(Output::Stdout)?;
    let pools = PoolOptions {
        write_size: WRITE_POOL_SIZE_DEFAULT,
        read_size: READ_POOL_SIZE_DEFAULT,
        wait: POOL_WAIT,
        audit: false,
    };
    let options = ConnectOptions::parse(&args.database_url)?;
    let database = Database::new(options, &pools, Uuid::now_v7());
    let work = match args.style {
        Style::Plain => Work::plain(&args.database_url).await?,
        Style::Batched | Style::Edged => Work::Batched(Box::new(database.writes.clone())),
    };
    tokio::spawn(publish::run(database.clone()));
    let routes = Router::new()
        .route("/v1/projects/{project}/instances", post(create))
        .with_state(Arc::new(App { database, work }));
    let routes = match args.style {
        Style::Edged => edge::wrap(routes, REQUEST_WAIT_MAX),
        Style::Plain | Style::Batched => routes,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let api = format!("http://{}/v1", listener.local_addr()?);
    tracing::info!(api, "listening");
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::warn!(%error, "answers may wait for one another");
        }
    });
    axum::serve(listener, routes).await.context("serving HTTP")
}

async fn create(
    State(app): State<Arc<App>>,
    Path(project): Path<Uuid>,
    Json(body): Json<InstanceCreate>,
) -> Response {
    let new = match body.validate() {
        Ok(new) => new,
        Err(errors) => return problem(Problem::invalid(errors)),
    };
    // Not found by a name: the load names its projects by id.
    let found = read::project::view(&app.database.reads, &NameOrId::Id(project)).await;
    let project = match found {
        Ok(Some(project)) => project,
        Ok(None) => {
            return problem(Problem::new(
                ErrorCode::NotFound,
                "there is no such project",
            ));
        }
        Err(error) => return failed(&error.into()),
    };
    let change = Change::new();
    let instance = Instance {
        id: Uuid::now_v7(),
        project_id: project.id,
        name: new.name.into(),
        description: new.description,
        vcpus: new.vcpus,
        memory_bytes: new.memory_bytes,
        state: InstanceState::Creating,
        generation: 1,
        changed_by: change.id,
        time_created: change.time,
        time_modified: change.time,
        time_deleted: None,
    };
    match app.work.create(change, instance).await {
        Ok(instance) => {
            let (project_id, id, generation) =
                (instance.project_id, instance.id, instance.generation);
            let path = format!("/v1/projects/{project_id}/instances/{id}");
            let tag = Tag { id, generation };
            created(path, tag, api::instance::Instance::from(instance))
        }
        Err(NotDone::Refused(refusal)) => problem(Problem::refused(&refusal)),
        Err(NotDone::Failed(error)) => failed(&error),
    }
}

fn problem(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status);
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // The product's edge leaves an answer as it is that is marked so.
    let mut response = (status, Json(problem)).into_response();
    response.extensions_mut().insert(edge::Complete);
    response
}

fn failed(error: &anyhow::Error) -> Response {
    tracing::error!("an instance was not made: {error:#}");
    problem(Problem::new(ErrorCode::Internal, error.to_string()))
}
