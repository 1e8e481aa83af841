//! `nexus saga list`

use std::process::ExitCode;

use db_model::Database;
use db_model::model::SagaEvent;
use db_model::read;
use db_model::read::saga::SagaFilter;
use db_model::read::{Direction, PageRequest, SortKey};
use db_model::types::limits::{OPERATIONS_LISTED_DEFAULT, PAGE_ITEMS_MAX};
use db_model::types::time;
use sagas::registry;
use serde::Serialize;

use super::table::{age, table};
use crate::api::operation::{NodeState, OperationState, OperationView};
use crate::cli::CommandResult;
use crate::cli::args::DatabaseArgs;

/// Which operations.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Only those that stand so: running, succeeded, failed or stuck.
    #[arg(long, env = "NEXUS_STATE", value_name = "STATE", value_parser = state)]
    state: Option<OperationState>,
    /// Only those of which nothing was recorded for longer than their kind allows.
    #[arg(long, env = "NEXUS_STALLED")]
    stalled: bool,
    /// At most so many.
    #[arg(long, env = "NEXUS_LIMIT", value_name = "COUNT", default_value_t = OPERATIONS_LISTED_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_ITEMS_MAX)))]
    limit: u32,
    /// For programs.
    #[arg(long, env = "NEXUS_JSON")]
    json: bool,
}

fn state(text: &str) -> Result<OperationState, &'static str> {
    let mut all = OperationState::ALL.into_iter();
    all.find(|state| state.as_str() == text)
        .ok_or("must be running, succeeded, failed or stuck")
}

/// What is printed for programs.
#[derive(Serialize)]
struct Listed {
    items: Vec<OperationView>,
}

/// Lists operations.
pub async fn run(args: Args) -> CommandResult {
    let Args {
        database,
        state,
        stalled,
        limit,
        json,
    } = args;
    super::with_database(database, async |database| {
        let items = find(database, state, stalled, limit).await?;
        if json {
            return super::print_json(&Listed { items });
        }
        crate::cli::print(&tell(&items))?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

async fn find(
    database: &Database,
    state: Option<OperationState>,
    stalled: bool,
    limit: u32,
) -> Result<Vec<OperationView>, read::ReadError> {
    let reads = &database.reads;
    let ids = if stalled {
        let patience = registry::builtin().patience();
        let stalled = read::saga::stalled(reads, &patience).await?;
        Some(stalled.into_iter().map(|saga| saga.id).collect())
    } else {
        None
    };
    let filter = SagaFilter {
        states: state.map(OperationState::saga_states),
        ids,
        ..SagaFilter::default()
    };
    let page = PageRequest {
        key: SortKey::TimeCreated,
        direction: Direction::Descending,
        after: None,
        limit,
    };
    let sagas = read::saga::list(reads, &filter, &page).await?;
    let logs = read::saga::logs(reads, sagas.iter().map(|saga| saga.id).collect()).await?;
    let now = time::now();
    let views = sagas.into_iter().map(|saga| {
        let log = logs.iter().filter(|event| event.saga_id == saga.id);
        let log: Vec<SagaEvent> = log.cloned().collect();
        let definition = super::definition_of(&saga);
        OperationView::new(saga, &log, definition, now)
    });
    Ok(views.collect())
}

fn tell(items: &[OperationView]) -> String {
    if items.is_empty() {
        return "There is no such operation.\n".to_owned();
    }
    let head = ["ID", "KIND", "STATE", "RESOURCE", "AGE", "DONE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let now = time::now();
    for item in items {
        let operation = &item.operation;
        let state = operation.state.as_str();
        let done = item
            .nodes
            .iter()
            .filter(|node| node.state == NodeState::Succeeded);
        rows.push(vec![
            operation.id.to_string(),
            operation.kind.clone(),
            if item.stalled {
                format!("{state} (stalled)")
            } else {
                state.to_owned()
            },
            operation.resource.name.clone(),
            age(now - operation.time_created.0),
            format!("{}/{}", done.count(), item.nodes.len()),
        ]);
    }
    table(&rows)
}
