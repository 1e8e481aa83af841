//! The log of one saga: what is durable, and what waits to ride along.

use std::collections::{BTreeMap, BTreeSet};

use db_model::model::SagaEvent;
use db_model::query::saga_event::NewEvent;
use db_model::types::SagaEventKind;
use serde_json::Value;

use crate::failure::Failure;

/// An event that has no place in the log yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub node_id: i64,
    pub kind: SagaEventKind,
    pub attempts: u32,
    pub duration_us: Option<i64>,
    pub data: Option<Value>,
}

/// What this process knows of a saga's log.
#[derive(Debug, Default)]
pub struct Log {
    /// What is recorded: of each node and phase the kind.
    durable: BTreeMap<(i64, i16), SagaEventKind>,
    /// Numbers of the log that are recorded, or sent and not yet decided.
    taken: BTreeSet<i64>,
    /// Of these what is recorded.
    recorded: BTreeSet<i64>,
    pending: Vec<Draft>,
    unwinding: bool,
    /// The failure with the lowest number, and that.
    failure: Option<(i64, Value)>,
}

impl Log {
    /// A log as it was loaded.
    pub fn recovered(events: &[SagaEvent]) -> Self {
        let mut log = Self::default();
        log.found(events);
        log
    }

    /// Whether an event is durable.
    pub fn has(&self, node_id: i64, kind: SagaEventKind) -> bool {
        self.durable.get(&(node_id, kind.phase())) == Some(&kind)
    }

    /// Whether a node has failed.
    pub fn is_unwinding(&self) -> bool {
        self.unwinding
    }

    /// Why the saga fails: the first failure that was recorded.
    pub fn failure(&self) -> Option<Failure> {
        let (_, data) = self.failure.clone()?;
        serde_json::from_value(data).ok()
    }

    /// Whether something waits to ride along.
    pub fn has_riders(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Lets an event ride along with the next one that must be durable.
    pub fn ride(&mut self, draft: Draft) {
        let key = (draft.node_id, draft.kind.phase());
        let pending = |other: &Draft| (other.node_id, other.kind.phase()) == key;
        if !self.durable.contains_key(&key) && !self.pending.iter().any(pending) {
            self.pending.push(draft);
        }
    }

    /// The events of a batch: what rides along, then the batch's own. Each gets the lowest number that is
    /// free, so that the log has no gap once everything that was begun is decided. What rides along stays
    /// here until it is known to be durable.
    pub fn reserve(&mut self, own: Option<Draft>) -> Vec<NewEvent> {
        let mut next = 1;
        let drafts: Vec<Draft> = self.pending.iter().cloned().chain(own).collect();
        drafts
            .into_iter()
            .map(|draft| {
                while !self.taken.insert(next) {
                    next += 1;
                }
                NewEvent {
                    node_id: draft.node_id,
                    kind: draft.kind,
                    sequence: next,
                    attempts: i32::try_from(draft.attempts).unwrap_or(i32::MAX),
                    duration_us: draft.duration_us,
                    data: draft.data,
                }
            })
            .collect()
    }

    /// Notes that the events of a batch are durable.
    pub fn written(&mut self, events: &[NewEvent]) {
        for event in events {
            self.note(
                event.node_id,
                event.kind,
                event.sequence,
                event.data.as_ref(),
            );
        }
        self.forget_pending();
    }

    /// Gives the numbers of a batch back that did not commit, but for those that an earlier try of it has
    /// recorded.
    pub fn release(&mut self, events: &[NewEvent]) {
        for event in events {
            if !self.recorded.contains(&event.sequence) {
                self.taken.remove(&event.sequence);
            }
        }
    }

    /// Notes what the database holds.
    pub fn found(&mut self, events: &[SagaEvent]) {
        for event in events {
            self.taken.insert(event.sequence);
            self.recorded.insert(event.sequence);
            if event.is_current() {
                self.note(
                    event.node_id,
                    event.kind,
                    event.sequence,
                    event.data.as_ref(),
                );
            }
        }
        self.forget_pending();
    }

    fn note(&mut self, node_id: i64, kind: SagaEventKind, sequence: i64, data: Option<&Value>) {
        self.durable.insert((node_id, kind.phase()), kind);
        self.recorded.insert(sequence);
        if kind == SagaEventKind::Failed {
            self.unwinding = true;
            let is_first = self
                .failure
                .as_ref()
                .is_none_or(|(first, _)| sequence < *first);
            if let (true, Some(data)) = (is_first, data) {
                self.failure = Some((sequence, data.clone()));
            }
        }
    }

    fn forget_pending(&mut self) {
        let durable = &self.durable;
        self.pending
            .retain(|draft| !durable.contains_key(&(draft.node_id, draft.kind.phase())));
    }
}

/// An event that says how its node stands, if it is there.
pub fn find(events: &[SagaEvent], node_id: i64, kind: SagaEventKind) -> Option<&SagaEvent> {
    events
        .iter()
        .find(|event| event.node_id == node_id && event.kind == kind && event.is_current())
}

/// What becomes of a node's action: its output, or why it failed.
pub type Decision = Result<Value, Failure>;

/// What the log says of a node's action. It never says both.
pub fn decision(events: &[SagaEvent], node_id: i64) -> Option<Decision> {
    let data = |event: &SagaEvent| event.data.clone().unwrap_or(Value::Null);
    if let Some(event) = find(events, node_id, SagaEventKind::Succeeded) {
        return Some(Ok(data(event)));
    }
    let recorded = data(find(events, node_id, SagaEventKind::Failed)?);
    let unreadable = |error: serde_json::Error| Failure::unexpected("", error.to_string());
    Some(Err(
        serde_json::from_value(recorded).unwrap_or_else(unreadable)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(node_id: i64, kind: SagaEventKind) -> Draft {
        Draft {
            node_id,
            kind,
            attempts: 1,
            duration_us: None,
            data: None,
        }
    }

    fn numbers(events: &[NewEvent]) -> Vec<i64> {
        events.iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn a_number_that_was_given_back_is_given_again() {
        let mut log = Log::default();
        let first = log.reserve(Some(draft(0, SagaEventKind::Succeeded)));
        let second = log.reserve(Some(draft(1, SagaEventKind::Succeeded)));
        assert_eq!((numbers(&first), numbers(&second)), (vec![1], vec![2]));
        log.written(&second);
        log.release(&first);
        let third = log.reserve(Some(draft(0, SagaEventKind::Failed)));
        assert_eq!(numbers(&third), [1]);
        log.written(&third);
        assert!(log.is_unwinding());
        let fourth = log.reserve(Some(draft(1, SagaEventKind::UndoFinished)));
        assert_eq!(numbers(&fourth), [3]);
    }

    #[test]
    fn what_an_earlier_try_has_recorded_keeps_its_number() {
        let mut log = Log::default();
        let sent = log.reserve(Some(draft(0, SagaEventKind::Succeeded)));
        log.written(&sent);
        log.release(&sent);
        let next = log.reserve(Some(draft(1, SagaEventKind::Succeeded)));
        assert_eq!(numbers(&next), [2]);
    }

    #[test]
    fn a_saga_fails_for_what_failed_first() {
        let mut log = Log::default();
        for (node_id, name) in [(3, "first"), (1, "second")] {
            let failure = Failure::unexpected(name, String::new());
            let failed = Draft {
                data: serde_json::to_value(failure).ok(),
                ..draft(node_id, SagaEventKind::Failed)
            };
            let events = log.reserve(Some(failed));
            log.written(&events);
        }
        assert_eq!(
            log.failure().map(|failure| failure.node),
            Some("first".to_owned())
        );
    }

    #[test]
    fn what_rides_along_does_so_until_it_is_durable() {
        let mut log = Log::default();
        log.ride(draft(0, SagaEventKind::Succeeded));
        log.ride(draft(0, SagaEventKind::Succeeded));
        let lost = log.reserve(Some(draft(1, SagaEventKind::Succeeded)));
        assert_eq!(numbers(&lost), [1, 2]);
        log.release(&lost);
        let sent = log.reserve(Some(draft(1, SagaEventKind::Succeeded)));
        assert_eq!(numbers(&sent), [1, 2]);
        log.written(&sent);
        assert!(log.has(0, SagaEventKind::Succeeded));
        assert_eq!(numbers(&log.reserve(None)), [0_i64; 0]);
    }
}
