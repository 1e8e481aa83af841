//! `nexus saga`: operations from the shell, for those who look after the service.
//!
//! What an operation was told and what it gave is shown by none of these.

mod graph;
mod list;
mod retry;
mod show;
mod table;
mod watch;

use std::error::Error;
use std::process::ExitCode;

use clap::Subcommand;
use db_model::Database;
use db_model::model::Saga;
use db_model::pool::{PoolOptions, ReadPool};
use db_model::read;
use db_model::types::limits::POOL_WAIT;
use sagas::definition::Definition;
use sagas::registry;
use serde::Serialize;
use uuid::Uuid;

use super::CommandResult;
use super::args::DatabaseArgs;
use crate::database;

#[derive(Debug, Subcommand)]
pub enum SagaCommand {
    /// List operations, the newest first.
    List(list::Args),
    /// Show how an operation stands, who runs it, and why it failed or is stuck.
    Show(show::Args),
    /// Follow an operation to its end, whichever process runs it; ends with 0 only when it succeeded.
    Watch(watch::Args),
    /// Draw an operation, its nodes by their states, or a kind of operation.
    Graph(graph::Args),
    /// Let one that is stuck or stalled go on: taken from whoever has it, at once.
    Retry(retry::Args),
}

/// Runs a command.
pub async fn run(command: SagaCommand) -> CommandResult {
    match command {
        SagaCommand::List(args) => list::run(args).await,
        SagaCommand::Show(args) => show::run(args).await,
        SagaCommand::Watch(args) => watch::run(args).await,
        SagaCommand::Graph(args) => graph::run(args).await,
        SagaCommand::Retry(args) => retry::run(args).await,
    }
}

/// One connection for each pool is enough for one reader.
const POOL_SIZE: u32 = 1;

/// Opens the database for a command, and lets go of it afterwards.
async fn with_database(
    args: DatabaseArgs,
    command: impl AsyncFnOnce(&Database) -> CommandResult,
) -> CommandResult {
    let data = database::join(&args.config()).await?;
    let pools = PoolOptions {
        write_size: POOL_SIZE,
        read_size: POOL_SIZE,
        wait: POOL_WAIT,
        audit: false,
    };
    let database = Database::new(data.connect.clone(), &pools, Uuid::now_v7());
    let result = command(&database).await;
    data.close().await?;
    result
}

/// The saga, or one line that says that there is none.
async fn find(reads: &ReadPool, id: Uuid) -> Result<Saga, Box<dyn Error + Send + Sync>> {
    let saga = read::saga::view(reads, id).await?;
    saga.ok_or_else(|| {
        format!("there is no operation {id}; one that is over is purged after a while").into()
    })
}

/// The definition by which a saga runs, if this program has it.
fn definition_of(saga: &Saga) -> Option<&'static Definition> {
    let definition = registry::builtin().of_row(&saga.name, &saga.definition_hash);
    definition.map(AsRef::as_ref)
}

fn operation_id(text: &str) -> Result<Uuid, &'static str> {
    Uuid::try_parse(text)
        .map_err(|_| "must be the id of an operation, a UUID; `nexus saga list` has them")
}

/// Prints a value as one line of JSON.
fn print_json(value: &impl Serialize) -> CommandResult {
    super::print(&format!("{}\n", serde_json::to_string(value)?))?;
    Ok(ExitCode::SUCCESS)
}
