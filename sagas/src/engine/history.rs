//! The log of a saga as steno's events.
//!
//! What has no effect is not logged: guards, calls once they are undone by their guards, computing nodes'
//! undos, and what steno puts around graphs. steno refuses a log in which a node comes before what it
//! depends on, or in which something is undone before what depends on it, so those events are made here:
//! such a node has run when anything behind it has, and is undone when the undo of anything before it
//! has begun.

use std::collections::BTreeSet;
use std::sync::Arc;

use db_model::model::SagaEvent;
use db_model::types::SagaEventKind;
use serde_json::Value;
use steno::{ActionError, SagaId, SagaNodeEvent, SagaNodeEventType, UndoActionError};

use super::action::Part;
use super::dag::Plan;
use super::log::find;
use super::run::id_of;
use crate::definition::{Definition, Kind};

/// steno's events for the rows of a log.
pub fn from_rows(
    saga_id: SagaId,
    rows: &[SagaEvent],
    definition: &Definition,
    plan: &Plan,
) -> Result<Vec<SagaNodeEvent>, String> {
    let nodes = definition.nodes.len();
    if let Some(row) = rows
        .iter()
        .find(|row| usize::try_from(row.node_id).map_or(true, |node| node >= nodes))
    {
        return Err(format!("event of node {}: no such node", row.node_id));
    }
    let reader = Reader {
        rows,
        definition,
        plan,
    };
    // What has run: by its own record, or because something behind it has.
    let mut has_run = BTreeSet::new();
    for place in (0..plan.nodes.len()).filter(|place| reader.is_recorded(*place)) {
        has_run.extend(reader.all_before(place));
        has_run.insert(place);
    }
    let mut events = Vec::new();
    for place in has_run {
        let number = u32::try_from(place).map_err(|error| error.to_string())?;
        events.extend(
            reader
                .events(place)
                .into_iter()
                .map(|event_type| SagaNodeEvent {
                    saga_id,
                    node_id: number.into(),
                    event_type,
                }),
        );
    }
    Ok(events)
}

struct Reader<'a> {
    rows: &'a [SagaEvent],
    definition: &'a Definition,
    plan: &'a Plan,
}

impl Reader<'_> {
    fn row(&self, node: usize, kind: SagaEventKind) -> Option<&SagaEvent> {
        find(self.rows, id_of(node), kind)
    }

    /// Whether the log says of one of steno's nodes that it has run or runs.
    fn is_recorded(&self, place: usize) -> bool {
        let Some((node, part)) = self.plan.nodes[place].part else {
            return false;
        };
        let began = part == Part::Whole
            && self.definition.nodes[node].kind() == Kind::External
            && self.row(node, SagaEventKind::Started).is_some();
        began
            || part == Part::Whole
                && (self.row(node, SagaEventKind::Succeeded).is_some()
                    || self.row(node, SagaEventKind::Failed).is_some())
    }

    /// All that one of steno's nodes depends on.
    fn all_before(&self, place: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut open = vec![place];
        while let Some(place) = open.pop() {
            for before in &self.plan.nodes[place].before {
                if found.insert(*before) {
                    open.push(*before);
                }
            }
        }
        found
    }

    /// Whether the undo of anything that one of steno's nodes depends on has begun.
    fn is_undone_silently(&self, place: usize) -> bool {
        self.all_before(place).into_iter().any(|before| {
            let Some((node, _)) = self.plan.nodes[before].part else {
                return false;
            };
            [
                SagaEventKind::UndoStarted,
                SagaEventKind::UndoFinished,
                SagaEventKind::UndoFailed,
            ]
            .into_iter()
            .any(|kind| self.row(node, kind).is_some())
        })
    }

    /// The events of one of steno's nodes that has run.
    fn events(&self, place: usize) -> Vec<SagaNodeEventType> {
        let done = || SagaNodeEventType::Succeeded(Arc::new(Value::Null));
        let mut events = vec![SagaNodeEventType::Started];
        let undos = match self.plan.nodes[place].part {
            None => {
                events.push(done());
                self.silent_undo(place)
            }
            Some((node, Part::Guard)) => {
                events.push(done());
                self.recorded_undo(node)
            }
            Some((node, Part::Whole)) => {
                events.extend(self.outcome(node));
                match self.definition.nodes[node].kind() {
                    Kind::Db => self.recorded_undo(node),
                    Kind::Pure | Kind::External => self.silent_undo(place),
                }
            }
        };
        // Only what succeeded is undone.
        if matches!(events.last(), Some(SagaNodeEventType::Succeeded(_))) {
            events.extend(undos);
        }
        events
    }

    fn outcome(&self, node: usize) -> Option<SagaNodeEventType> {
        let data = |row: &SagaEvent| row.data.clone().unwrap_or(Value::Null);
        if let Some(row) = self.row(node, SagaEventKind::Succeeded) {
            return Some(SagaNodeEventType::Succeeded(Arc::new(data(row))));
        }
        let failed = self.row(node, SagaEventKind::Failed)?;
        let source_error = data(failed);
        Some(SagaNodeEventType::Failed(ActionError::ActionFailed {
            source_error,
        }))
    }

    fn silent_undo(&self, place: usize) -> Vec<SagaNodeEventType> {
        if self.is_undone_silently(place) {
            vec![
                SagaNodeEventType::UndoStarted,
                SagaNodeEventType::UndoFinished,
            ]
        } else {
            Vec::new()
        }
    }

    fn recorded_undo(&self, node: usize) -> Vec<SagaNodeEventType> {
        if self.row(node, SagaEventKind::UndoFinished).is_some() {
            return vec![
                SagaNodeEventType::UndoStarted,
                SagaNodeEventType::UndoFinished,
            ];
        }
        if let Some(row) = self.row(node, SagaEventKind::UndoFailed) {
            let source_error = row.data.clone().unwrap_or(Value::Null);
            let failed = UndoActionError::PermanentFailure { source_error };
            return vec![
                SagaNodeEventType::UndoStarted,
                SagaNodeEventType::UndoFailed(failed),
            ];
        }
        if self.row(node, SagaEventKind::UndoStarted).is_some() {
            return vec![SagaNodeEventType::UndoStarted];
        }
        Vec::new()
    }
}
