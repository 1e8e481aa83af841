//! `nexus saga show`

use std::process::ExitCode;

use db_model::Database;
use db_model::model::Saga;
use db_model::read;
use db_model::read::executor::Executor;
use db_model::types::time;
use serde::Serialize;
use uuid::Uuid;

use super::table::{age, duration, table, tries, word};
use crate::api::operation::{
    Node, NodeState, OperationEvent, OperationEventKind, OperationState, OperationView, tell,
};
use crate::api::value::Timestamp;
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
    /// For programs.
    #[arg(long, env = "NEXUS_JSON")]
    json: bool,
}

/// All that is known of an operation.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    view: OperationView,
    request_id: String,
    generation: i64,
    /// Whether this program has the definition by which it runs.
    known: bool,
    executor: Option<Runner>,
    /// Which undos a person has to look at.
    stuck: Vec<Stuck>,
}

/// The process that runs an operation, or ran it.
#[derive(Serialize)]
struct Runner {
    id: Uuid,
    host: String,
    pid: i64,
    version: String,
    alive: bool,
    time_heartbeat: Timestamp,
}

/// An undo that was given up.
#[derive(Serialize)]
struct Stuck {
    node: String,
    attempts: i32,
    said: String,
}

/// Shows an operation.
pub async fn run(args: Args) -> CommandResult {
    let Args { id, database, json } = args;
    super::with_database(database, async |database| {
        let saga = super::find(&database.reads, id).await?;
        let shown = look(database, saga).await?;
        if json {
            return super::print_json(&shown);
        }
        crate::cli::print(&text(&shown))?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

async fn look(database: &Database, saga: Saga) -> Result<Shown, read::ReadError> {
    let log = read::saga::events(&database.reads, saga.id).await?;
    let executor = read::executor::view(&database.reads, saga.executor_id).await?;
    let definition = super::definition_of(&saga);
    let events = tell(&saga, &log, definition);
    let (request_id, generation) = (saga.request_id.clone(), saga.generation);
    let view = OperationView::new(saga, &log, definition, time::now());
    let given_up = view
        .nodes
        .iter()
        .filter(|node| node.state == NodeState::UndoFailed);
    Ok(Shown {
        stuck: given_up
            .filter_map(|node| why_stuck(node, &events))
            .collect(),
        view,
        request_id,
        generation,
        known: definition.is_some(),
        executor: executor.map(runner),
    })
}

fn runner(executor: Executor) -> Runner {
    Runner {
        id: executor.id,
        host: executor.host,
        pid: executor.pid,
        version: executor.version,
        alive: executor.alive,
        time_heartbeat: executor.time_heartbeat.into(),
    }
}

fn why_stuck(node: &Node, events: &[OperationEvent]) -> Option<Stuck> {
    let of_undo = |event: &&OperationEvent| {
        event.kind == OperationEventKind::UndoFailed && event.node == node.name
    };
    let last = events.iter().rfind(of_undo)?;
    let unreadable = || "this program cannot read why".to_owned();
    Some(Stuck {
        node: node.name.clone(),
        attempts: last.attempts,
        said: last.said.clone().unwrap_or_else(unreadable),
    })
}

fn text(shown: &Shown) -> String {
    let mut text = table(&head(shown)) + "\n" + &table(&nodes(&shown.view.nodes));
    if let Some(error) = &shown.view.operation.error {
        text.push_str(&format!("\nerror: {}\n", error.detail));
    }
    for stuck in &shown.stuck {
        let tries = tries(stuck.attempts);
        text.push_str(&format!(
            "\nstuck: the undo of {}, {tries}: {}\n",
            stuck.node, stuck.said
        ));
    }
    let id = shown.view.operation.id;
    if shown.view.operation.state == OperationState::Stuck {
        text.push_str(&format!(
            "\nMend what the undo met, and then: nexus saga retry {id}\n"
        ));
    } else if shown.view.stalled {
        text.push_str(&format!(
            "\nTo take it from whoever has it: nexus saga retry {id}\n"
        ));
    }
    text
}

fn head(shown: &Shown) -> Vec<Vec<String>> {
    let operation = &shown.view.operation;
    let stalled = if shown.view.stalled { " (stalled)" } else { "" };
    let resource = &operation.resource;
    let now = time::now();
    let at = |time: Timestamp| format!("{time} ({} ago)", age(now - time.0));
    let mut head = vec![
        ("operation", operation.id.to_string()),
        ("kind", operation.kind.clone()),
        ("state", format!("{}{stalled}", operation.state.as_str())),
        ("resource", format!("{} {}", resource.name, resource.id)),
        ("created", at(operation.time_created)),
    ];
    head.extend(operation.project_id.map(|id| ("project", id.to_string())));
    let ended = match operation.state {
        OperationState::Stuck => "stuck since",
        _ => "finished",
    };
    head.extend(operation.time_finished.map(|time| (ended, at(time))));
    head.push(("request", shown.request_id.clone()));
    head.push(("executor", executor(shown.executor.as_ref(), &at)));
    head.push(("generation", shown.generation.to_string()));
    if !shown.known {
        let unknown = "not of this version: only a server that has it can run it";
        head.push(("definition", unknown.to_owned()));
    }
    let row = |(name, value): (&str, String)| vec![name.to_owned(), value];
    head.into_iter().map(row).collect()
}

fn executor(executor: Option<&Runner>, at: &impl Fn(Timestamp) -> String) -> String {
    let Some(runner) = executor else {
        return "none: the next server that looks takes it".to_owned();
    };
    let state = if runner.alive {
        "alive".to_owned()
    } else {
        format!("ended, last seen {}", at(runner.time_heartbeat))
    };
    let Runner { id, host, pid, .. } = runner;
    format!("{id} on {host}, process {pid}, {state}")
}

fn nodes(nodes: &[Node]) -> Vec<Vec<String>> {
    let head = ["NODE", "STATE", "TRIES", "TOOK", "UNDO", "ERROR"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let number = |number: Option<i32>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for node in nodes {
        let undo = node.undo_attempts.map(|attempts| {
            let took = node.undo_duration_us.map(duration).unwrap_or_default();
            format!("{} {took}", tries(attempts)).trim_end().to_owned()
        });
        rows.push(vec![
            node.name.clone(),
            word(node.state.as_str()),
            number(node.attempts),
            node.duration_us.map_or_else(|| "-".to_owned(), duration),
            undo.unwrap_or_else(|| "-".to_owned()),
            node.error
                .as_ref()
                .map(|error| error.detail.clone())
                .unwrap_or_default(),
        ]);
    }
    rows
}
