//! The log of one saga: what is durable, what waits to ride along, and how steno's events read.

use std::collections::BTreeSet;
use std::sync::Arc;

use db_model::model::SagaEvent;
use db_model::query::saga_event::NewEvent;
use db_model::types::time;
use serde_json::Value;
use steno::{ActionError, SagaId, SagaNodeEvent, SagaNodeEventType, UndoActionError};

use crate::failure::Failure;

pub const STARTED: &str = "started";
pub const SUCCEEDED: &str = "succeeded";
pub const FAILED: &str = "failed";
pub const UNDO_FINISHED: &str = "undo_finished";
pub const UNDO_FAILED: &str = "undo_failed";

/// What this process knows of a saga's log.
#[derive(Debug, Default)]
pub struct Log {
    durable: BTreeSet<(i64, String)>,
    pending: Vec<NewEvent>,
    /// Whether a node has failed: from then on every event is durable before the next thing happens.
    pub unwinding: bool,
}

impl Log {
    /// A log as it was loaded.
    pub fn recovered(events: &[SagaEvent]) -> Self {
        let durable = events
            .iter()
            .map(|event| (event.node_id, event.kind.clone()))
            .collect();
        let unwinding = events.iter().any(|event| event.kind == FAILED);
        Self {
            durable,
            pending: Vec::new(),
            unwinding,
        }
    }

    /// Whether an event needs no writing any more.
    pub fn has(&self, node_id: i64, kind: &str) -> bool {
        self.durable.contains(&(node_id, kind.to_owned()))
    }

    /// Lets an event ride along with the next one that must be durable.
    pub fn ride(&mut self, event: NewEvent) {
        self.pending.push(event);
    }

    /// What rides along. It stays here until it is known to be durable.
    pub fn pending(&self) -> Vec<NewEvent> {
        self.pending.clone()
    }

    /// Notes that events are durable.
    pub fn written(&mut self, events: &[NewEvent]) {
        self.durable.extend(
            events
                .iter()
                .map(|event| (event.node_id, event.kind.to_owned())),
        );
        self.pending.retain(|pending| !events.contains(pending));
    }

    /// Notes what the database holds of a node, after it refused an event as recorded before.
    pub fn found(&mut self, events: &[SagaEvent]) {
        self.durable.extend(
            events
                .iter()
                .map(|event| (event.node_id, event.kind.clone())),
        );
        let durable = &self.durable;
        self.pending
            .retain(|event| !durable.contains(&(event.node_id, event.kind.to_owned())));
    }
}

/// An event, if it is there.
pub fn find<'a>(events: &'a [SagaEvent], node_id: i64, kind: &str) -> Option<&'a SagaEvent> {
    events
        .iter()
        .find(|event| event.node_id == node_id && event.kind == kind)
}

/// What becomes of a node's action: its output, or why it failed.
pub type Decision = Result<Value, Failure>;

/// What the log says of a node's action. It never says both.
pub fn decision(events: &[SagaEvent], node_id: i64) -> Option<Decision> {
    let data = |event: &SagaEvent| event.data.clone().unwrap_or(Value::Null);
    if let Some(event) = find(events, node_id, SUCCEEDED) {
        return Some(Ok(data(event)));
    }
    let recorded = data(find(events, node_id, FAILED)?);
    let unreadable = |error: serde_json::Error| Failure::unexpected("", error.to_string());
    Some(Err(
        serde_json::from_value(recorded).unwrap_or_else(unreadable)
    ))
}

/// An event of steno as a row.
pub fn to_row(event: &SagaNodeEvent) -> NewEvent {
    let data = match &event.event_type {
        SagaNodeEventType::Succeeded(output) => Some(output.as_ref().clone()),
        SagaNodeEventType::Failed(ActionError::ActionFailed { source_error }) => {
            Some(source_error.clone())
        }
        SagaNodeEventType::Failed(other) => {
            serde_json::to_value(Failure::unexpected("", other.to_string())).ok()
        }
        SagaNodeEventType::UndoFailed(UndoActionError::PermanentFailure { source_error }) => {
            Some(source_error.clone())
        }
        SagaNodeEventType::Started
        | SagaNodeEventType::UndoStarted
        | SagaNodeEventType::UndoFinished => None,
    };
    NewEvent {
        node_id: i64::from(u32::from(event.node_id)),
        kind: event.event_type.label(),
        data,
        time: time::now(),
    }
}

/// The rows of a saga as steno's events.
///
/// steno has a node of its own before the first and one behind the last. Neither does anything, so
/// nothing of them is written; but steno refuses a log in which a node comes before what it depends
/// on, so the first one's are put in here, under the id `start`.
///
/// steno refuses to resume a node that ended without having started; the one case in which that
/// could be missing is a `started` that was to ride along and did not, so it is put in.
pub fn from_rows(
    saga_id: SagaId,
    rows: &[SagaEvent],
    start: u32,
) -> Result<Vec<SagaNodeEvent>, String> {
    let mut events = Vec::new();
    if !rows.is_empty() {
        let began = [
            SagaNodeEventType::Started,
            SagaNodeEventType::Succeeded(Arc::new(Value::Null)),
        ];
        events.extend(began.map(|event_type| SagaNodeEvent {
            saga_id,
            node_id: start.into(),
            event_type,
        }));
    }
    for row in rows {
        let node_id = u32::try_from(row.node_id)
            .map_err(|_| format!("event of node {}: no such node", row.node_id))?
            .into();
        let data = || row.data.clone().unwrap_or(Value::Null);
        let has = |kind: &str| {
            rows.iter()
                .any(|r| r.node_id == row.node_id && r.kind == kind)
        };
        let event_type = match row.kind.as_str() {
            STARTED => SagaNodeEventType::Started,
            SUCCEEDED => SagaNodeEventType::Succeeded(Arc::new(data())),
            FAILED => SagaNodeEventType::Failed(ActionError::ActionFailed {
                source_error: data(),
            }),
            "undo_started" => SagaNodeEventType::UndoStarted,
            UNDO_FINISHED => SagaNodeEventType::UndoFinished,
            UNDO_FAILED => SagaNodeEventType::UndoFailed(UndoActionError::PermanentFailure {
                source_error: data(),
            }),
            other => {
                return Err(format!(
                    "event of node {}: unknown kind {other}",
                    row.node_id
                ));
            }
        };
        let mut add = |event_type| {
            events.push(SagaNodeEvent {
                saga_id,
                node_id,
                event_type,
            })
        };
        if matches!(row.kind.as_str(), SUCCEEDED | FAILED) && !has(STARTED) {
            add(SagaNodeEventType::Started);
        }
        if row.kind == UNDO_FINISHED && !has("undo_started") {
            add(SagaNodeEventType::UndoStarted);
        }
        add(event_type);
    }
    Ok(events)
}
