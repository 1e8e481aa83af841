//! `nexus saga watch`

use std::io;
use std::process::ExitCode;

use db_model::Database;
use sagas::registry;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::table::{duration, tries, word};
use crate::api::operation::{Operation, OperationEvent, OperationEventKind, OperationState};
use crate::background::signals::{self, EXIT_INTERRUPTED};
use crate::cli::CommandResult;
use crate::cli::args::DatabaseArgs;
use crate::follow::{Follower, Look};

/// Which operation.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The operation's id.
    #[arg(value_name = "ID", value_parser = super::operation_id)]
    id: Uuid,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Follows an operation.
pub async fn run(args: Args) -> CommandResult {
    let asked = signals::listen()?;
    let Args { id, database } = args;
    super::with_database(database, async |database| watch(database, id, &asked).await).await
}

async fn watch(database: &Database, id: Uuid, asked: &CancellationToken) -> CommandResult {
    // An id that is none, or a database that is not there, is told at once.
    let saga = super::find(&database.reads, id).await?;
    let names = super::definition_of(&saga).map(|definition| {
        let names = definition.node_names();
        names.map(|name| name.chars().count()).max().unwrap_or(0)
    });
    let wide = names.unwrap_or(0);
    let mut follower = Follower::new(database.reads.clone(), id, 0);
    loop {
        let look = tokio::select! {
            () = asked.cancelled() => return Ok(ExitCode::from(EXIT_INTERRUPTED)),
            look = follower.next(registry::builtin()) => look?,
        };
        match look {
            Look::More(events) => tell(&events, wide)?,
            Look::End(events, operation) => {
                tell(&events, wide)?;
                return end(&operation);
            }
            Look::Gone => return Err(format!("the operation {id} has been purged").into()),
        }
    }
}

fn tell(events: &[OperationEvent], wide: usize) -> io::Result<()> {
    for event in events {
        let OperationEvent {
            sequence,
            node,
            time,
            ..
        } = event;
        let kind = word(event.kind.as_str());
        let mut line = format!("{time}  {sequence:>3}  {node:wide$}  {kind:13}");
        line.push_str(&format!("  {}", tries(event.attempts)));
        if let Some(us) = event.duration_us {
            line.push_str(&format!("  {}", duration(us)));
        }
        // Who has to mend something needs the words of the log.
        let said = event
            .said
            .as_ref()
            .filter(|_| event.kind == OperationEventKind::UndoFailed);
        if let Some(why) = said.or(event.error.as_ref().map(|error| &error.detail)) {
            line.push_str(&format!("  {why}"));
        }
        crate::cli::print(&format!("{line}\n"))?;
    }
    Ok(())
}

fn end(operation: &Operation) -> CommandResult {
    let state = operation.state.as_str();
    let line = match &operation.error {
        Some(error) => format!("{state}: {}\n", error.detail),
        None => format!("{state}\n"),
    };
    crate::cli::print(&line)?;
    Ok(match operation.state {
        OperationState::Succeeded => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
