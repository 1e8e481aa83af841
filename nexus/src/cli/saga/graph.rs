//! `nexus saga graph`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use db_model::read;
use db_model::types::time;
use sagas::definition::Definition;
use sagas::registry;
use uuid::Uuid;

use super::table::{duration, tries};
use crate::api::operation::{self, NodeKind, NodeState, OperationView};
use crate::cli::CommandResult;
use crate::cli::args::DatabaseArgs;
use crate::graph::{Graph, Kind, Node, State};

/// What is drawn, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The operation's id.
    #[arg(value_name = "ID", value_parser = super::operation_id, required_unless_present = "kind")]
    id: Option<Uuid>,
    /// A kind of operation, such as instance-create, instead of one operation; needs no database.
    #[arg(long, env = "NEXUS_KIND", value_name = "KIND", value_parser = kind, conflicts_with = "id")]
    kind: Option<String>,
    /// What it is drawn as.
    #[arg(long, env = "NEXUS_FORMAT", value_enum, default_value_t = Format::Mermaid)]
    format: Format,
    /// Where it is written to, instead of to standard output.
    #[arg(long, env = "NEXUS_OUTPUT", value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// The text of a flowchart.
    Mermaid,
    /// A picture that needs nothing else.
    Svg,
}

fn kind(text: &str) -> Result<String, String> {
    let names = registry::builtin().names();
    match names.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("must be one of {}", names.join(", "))),
    }
}

/// Draws.
pub async fn run(args: Args) -> CommandResult {
    let Args {
        id,
        kind,
        format,
        output,
        database,
    } = args;
    let draw = move |graph: &Graph| {
        let text = match format {
            Format::Mermaid => graph.mermaid(),
            Format::Svg => graph.svg(),
        };
        match &output {
            Some(path) => std::fs::write(path, text)
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?,
            None => crate::cli::print(&text)?,
        }
        Ok(ExitCode::SUCCESS)
    };
    let definition = kind.and_then(|kind| registry::builtin().find(&kind));
    match (definition, id) {
        (Some(definition), _) => draw(&of_definition(definition)),
        (None, Some(id)) => {
            super::with_database(database, async |database| {
                let saga = super::find(&database.reads, id).await?;
                let log = read::saga::events(&database.reads, id).await?;
                let definition = super::definition_of(&saga);
                draw(&of_view(&OperationView::new(
                    saga,
                    &log,
                    definition,
                    time::now(),
                )))
            })
            .await
        }
        (None, None) => Err("name an operation, or a kind with --kind".into()),
    }
}

fn of_definition(definition: &Definition) -> Graph {
    let kinds = definition.node_kinds().map(NodeKind::from);
    let nodes = definition.node_names().zip(kinds);
    Graph {
        title: definition.name.to_owned(),
        nodes: nodes
            .map(|(name, kind)| Node {
                name: name.to_owned(),
                kind: drawn_kind(kind),
                state: State::Pending,
                note: None,
            })
            .collect(),
        edges: definition.edges(),
    }
}

fn of_view(view: &OperationView) -> Graph {
    let place = |name: &str| view.nodes.iter().position(|node| node.name == name);
    let edges = view
        .edges
        .iter()
        .filter_map(|edge| Some((place(&edge.from)?, place(&edge.to)?)));
    let operation = &view.operation;
    let stalled = if view.stalled { " (stalled)" } else { "" };
    let state = operation.state.as_str();
    Graph {
        title: format!("{} {}, {state}{stalled}", operation.kind, operation.id),
        nodes: view.nodes.iter().map(drawn).collect(),
        edges: edges.collect(),
    }
}

fn drawn(node: &operation::Node) -> Node {
    let undone = node.undo_attempts.zip(Some(node.undo_duration_us));
    let done = node.attempts.zip(Some(node.duration_us));
    let note = |(attempts, took): (i32, Option<i64>)| {
        let took = took.map(|us| format!(", {}", duration(us)));
        format!("{}{}", tries(attempts), took.unwrap_or_default())
    };
    Node {
        name: node.name.clone(),
        kind: drawn_kind(node.kind),
        state: drawn_state(node.state),
        note: undone.or(done).map(note),
    }
}

fn drawn_kind(kind: NodeKind) -> Kind {
    match kind {
        NodeKind::Pure => Kind::Pure,
        NodeKind::Db => Kind::Db,
        NodeKind::External => Kind::External,
    }
}

fn drawn_state(state: NodeState) -> State {
    match state {
        NodeState::Pending => State::Pending,
        NodeState::Running => State::Running,
        NodeState::Succeeded => State::Succeeded,
        NodeState::Failed => State::Failed,
        NodeState::Undoing => State::Undoing,
        NodeState::Undone => State::Undone,
        NodeState::UndoFailed => State::UndoFailed,
    }
}
