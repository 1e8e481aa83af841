//! `nexus saga retry`

use std::process::ExitCode;

use db_model::Database;
use db_model::batch::Batch;
use db_model::query::{saga, saga_event};
use db_model::read;
use db_model::types::SagaState;
use uuid::Uuid;

use crate::cli::CommandResult;
use crate::cli::args::DatabaseArgs;

/// Which operation.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The operation's id.
    #[arg(value_name = "ID", value_parser = super::operation_id)]
    id: Uuid,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Lets an operation go on.
pub async fn run(args: Args) -> CommandResult {
    let Args { id, database } = args;
    super::with_database(database, async |database| retry(database, id).await).await
}

async fn retry(database: &Database, id: Uuid) -> CommandResult {
    let before = super::find(&database.reads, id).await?;
    let executor = read::executor::view(&database.reads, before.executor_id).await?;
    let (retried, ()) = Batch::new()
        .step(saga::retry(id))
        .step(saga_event::retry_undos(id))
        .commit(&database.writes)
        .await?;
    let Some(retried) = retried.first() else {
        let saga = super::find(&database.reads, id).await?;
        let state = saga.state.as_str();
        return Err(
            format!("the operation {id} is over, it {state}: there is nothing to retry").into(),
        );
    };
    let what = match retried.state {
        SagaState::Unwinding => "goes on to undo what it did",
        _ => "goes on with what it was asked for",
    };
    let taken = match executor.filter(|executor| executor.alive) {
        Some(executor) if before.time_finished.is_none() => format!(
            "Taken from {} on {}, process {}, which cannot write to it any more.\n",
            executor.id, executor.host, executor.pid
        ),
        _ => String::new(),
    };
    let alive = read::executor::count_alive(&database.reads).await?;
    let next = if super::definition_of(&before).is_none() {
        "A server takes it over that has its definition, which this version has not."
    } else if alive > 0 {
        "A server takes it over within about a second."
    } else {
        "No server runs: start one, which takes it over."
    };
    crate::cli::print(&format!(
        "The operation {id} {what}.\n{taken}{next}\nTo follow it: nexus saga watch {id}\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}
